/* SPDX-License-Identifier: MIT */
#include "codec_internal.h"

#include "le.h"
#include "pagestep/error.h"

#include <string.h>

int pgs_same_filled(const void *page, size_t size, uint64_t *word_ret)
{
    const unsigned char *bytes = page;
    uint64_t word;

    if (size < 8) {
        *word_ret = 0;
        return size == 0;
    }
    /* Most pages that differ do so at once, and not at the end. */
    word = pgs_load_le64(bytes);
    if (pgs_load_le64(bytes + size - 8) != word)
        return 0;
    /* A page equal to itself one word further on repeats that word; memcmp
     * is the fastest loop that the platform has. */
    if (memcmp(bytes, bytes + 8, size - 8) != 0)
        return 0;
    *word_ret = word;
    return 1;
}

void pgs_fill(void *page, size_t size, uint64_t word)
{
    unsigned char *bytes = page;
    size_t i;

    if (word == (word & 0xff) * UINT64_C(0x0101010101010101)) {
        memset(page, (int)(word & 0xff), size);
        return;
    }
    for (i = 0; i + 8 <= size; i += 8)
        pgs_store_le64(bytes + i, word);
}

static int same_encode(pgs_coder *coder, const void *page, void *dst, size_t dst_cap,
                       size_t *dst_size_ret)
{
    uint64_t word;

    if (dst_cap < 8 || !pgs_same_filled(page, coder->codec->page_size, &word))
        return PGS_OK;
    pgs_store_le64(dst, word);
    *dst_size_ret = 8;
    return PGS_OK;
}

static int same_decode(pgs_coder *coder, const void *src, size_t src_size, void *page)
{
    if (src_size != 8)
        return PGS_E_CORRUPT;
    pgs_fill(page, coder->codec->page_size, pgs_load_le64(src));
    return PGS_OK;
}

const struct pgs_codec_ops pgs_same_ops = {
    .encode = same_encode,
    .decode = same_decode,
};
