/* SPDX-License-Identifier: MIT */
#include "codec_internal.h"

#include "pagestep/error.h"

#include <string.h>

static int raw_encode(pgs_coder *coder, const void *page, void *dst, size_t dst_cap,
                      size_t *dst_size_ret)
{
    uint32_t page_size = coder->codec->page_size;

    if (dst_cap < page_size)
        return PGS_OK;
    memcpy(dst, page, page_size);
    *dst_size_ret = page_size;
    return PGS_OK;
}

static int raw_decode(pgs_coder *coder, const void *src, size_t src_size, void *page)
{
    if (src_size != coder->codec->page_size)
        return PGS_E_CORRUPT;
    memcpy(page, src, src_size);
    return PGS_OK;
}

const struct pgs_codec_ops pgs_raw_ops = {
    .encode = raw_encode,
    .decode = raw_decode,
};
