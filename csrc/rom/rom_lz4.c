/* SPDX-License-Identifier: MIT
 *
 * LZ4 blocks, from the description of the block format. Small, and bounded by
 * the sizes of input and output; a host has faster ones.
 */
#include "pagestep/rom.h"

#include "rom_bytes.h"

/* Literals and matches take turns, so that what they share (a length, its
 * bounds, the copy) is there once: RISC-V needs half the text so. Lengths grow
 * by at most 255 for each byte of input, so that they cannot wrap. */
int pgs_rom_lz4_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    const unsigned char *end = src + src_size;
    unsigned char *to = out, *out_end = out + out_size;
    unsigned token = 0, is_match = 1;

    (void)ctx;
    (void)coding_no;
    while (src != end) {
        const unsigned char *from;
        size_t length, distance = 0;
        unsigned byte;

        is_match ^= 1;
        if (!is_match) {
            token = *src++;
            length = token >> 4;
        } else {
            if (end - src < 2)
                return PGS_E_CORRUPT;
            distance = rom_load16(src);
            src += 2;
            length = token & 15;
        }
        if (length == 15) { /* what four bits cannot hold: bytes of 255, and one that is less */
            do {
                if (src == end)
                    return PGS_E_CORRUPT;
                byte = *src++;
                length += byte;
            } while (byte == 255);
        }
        length += 4 * is_match;
        if (length > (size_t)(out_end - to))
            return PGS_E_CORRUPT;

        if (!is_match) {
            if (length > (size_t)(end - src))
                return PGS_E_CORRUPT;
            from = src;
            src += length;
        } else if (distance == 0) {
            return PGS_E_CORRUPT;
        } else if (distance <= (size_t)(to - out)) {
            from = to - distance;
        } else {
            size_t back = distance - (size_t)(to - out), part = back < length ? back : length;

            if (dict == NULL || back > dict->size)
                return PGS_E_CORRUPT;
            to = rom_copy(to, dict->bytes + dict->size - back, part);
            length -= part;
            from = out; /* the match goes on where the dictionary ends */
        }
        to = rom_copy(to, from, length);
    }
    return to == out_end ? PGS_OK : PGS_E_CORRUPT;
}
