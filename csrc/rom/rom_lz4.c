/* SPDX-License-Identifier: MIT
 *
 * LZ4 blocks, from the description of the block format. Small, and bounded by
 * the sizes of input and output; a host has faster ones.
 */
#include "pagestep/rom.h"

#include "rom_bytes.h"

/* A length that its four bits could not hold: bytes of 255, and one that is
 * less. Grows by at most 255 for each byte of input, so that it cannot wrap. */
static const unsigned char *read_length(const unsigned char *at, const unsigned char *end,
                                        size_t *length)
{
    unsigned byte;

    if (*length != 15)
        return at;
    do {
        if (at == end)
            return NULL;
        byte = *at++;
        *length += byte;
    } while (byte == 255);
    return at;
}

int pgs_rom_lz4_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    const unsigned char *end = src + src_size;
    unsigned char *to = out, *out_end = out + out_size;

    (void)ctx;
    (void)coding_no;
    while (src != end) {
        unsigned token = *src++;
        size_t length = token >> 4, distance;

        src = read_length(src, end, &length);
        if (src == NULL || length > (size_t)(end - src) || length > (size_t)(out_end - to))
            return PGS_E_CORRUPT;
        to = rom_copy(to, src, length);
        src += length;
        if (src == end)
            break; /* the last sequence has no match */

        if (end - src < 2)
            return PGS_E_CORRUPT;
        distance = rom_load16(src);
        length = token & 15;
        src = read_length(src + 2, end, &length);
        length += 4;
        if (src == NULL || length > (size_t)(out_end - to) || distance == 0)
            return PGS_E_CORRUPT;
        if (distance > (size_t)(to - out)) {
            size_t back = distance - (size_t)(to - out), part = back < length ? back : length;
            if (dict == NULL || back > dict->size)
                return PGS_E_CORRUPT;
            to = rom_copy(to, dict->bytes + dict->size - back, part);
            length -= part;
        }
        if (length != 0)
            to = rom_copy(to, to - distance, length);
    }
    return to == out_end ? PGS_OK : PGS_E_CORRUPT;
}
