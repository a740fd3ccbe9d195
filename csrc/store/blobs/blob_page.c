/* SPDX-License-Identifier: MIT */
#include "store/blobs/blob_page.h"

#include <string.h>

#include "codec/codec_internal.h"
#include "codec/le.h"
#include "pagestep/blobs.h"
#include "pagestep/error.h"
#include "pagestep/rom.h"

_Static_assert((int)BLOB_HEADER_SIZE <= (int)PGS_BLOB_EXTRA_MAX, "a raw page is a blob as well");

enum { SUM_STRIDE = 16, WORD_SIZE = 8 };

/* XXH32 as rom.h has it takes whole 16 bytes: the last are filled up with zeros. */
static uint32_t dict_sum(const pgs_codec *codec)
{
    uint32_t whole = codec->dict_size / SUM_STRIDE * SUM_STRIDE, sum = codec->dict_size;
    unsigned char tail[SUM_STRIDE] = {0};
    if (whole)
        sum = pgs_xxh32(codec->dict, whole, sum);
    if (whole < codec->dict_size)
        memcpy(tail, codec->dict + whole, codec->dict_size - whole);
    return pgs_xxh32(tail, sizeof tail, sum);
}

void pgs_swap_shape_codec(struct pgs_swap_shape *shape, const pgs_codec *codec)
{
    shape->codec_id = codec ? codec->codec_id : PGS_CODEC_RAW;
    shape->filter_id = codec ? codec->filter_id : PGS_FILTER_NONE;
    shape->dict_size = codec ? codec->dict_size : 0;
    shape->dict_xxh32 = shape->dict_size ? dict_sum(codec) : 0;
}

uint32_t codec_sum_of(const pgs_codec *codec)
{
    unsigned char what[16];
    if (!codec)
        return 0;
    pgs_store_le32(what, codec->codec_id);
    pgs_store_le32(what + 4, codec->filter_id);
    pgs_store_le32(what + 8, codec->page_size);
    pgs_store_le32(what + 12, dict_sum(codec));
    uint32_t sum = pgs_xxh32(what, sizeof what, BLOB_FORMAT);
    return sum ? sum : 1;
}

static uint32_t page_sum(const struct blob_shape *shape, uint64_t page_no, const void *page)
{
    return pgs_xxh32(page, shape->page_size, (uint32_t)page_no);
}

static int encode_body(const struct blob_shape *shape, pgs_coder *coder, uint64_t page_no,
                       const void *page, const struct pgs_copy *copy, unsigned char *body,
                       size_t *size_ret)
{
    if (copy && copy->size < shape->page_size) {
        memcpy(body, copy->bytes, copy->size);
        *size_ret = copy->size;
        return PGS_OK;
    }
    *size_ret = 0;
    return coder ? pgs_encode(coder, page, blob_address(shape, page_no), body, shape->page_size - 1,
                              size_ret)
                 : PGS_OK;
}

int blob_encode(const struct blob_shape *shape, pgs_coder *coder, uint64_t page_no,
                const void *page, const struct pgs_copy *copy, unsigned char *blob,
                uint32_t *size_ret)
{
    unsigned char *body = blob + BLOB_HEADER_SIZE;
    enum blob_coding coding = BLOB_CODED;
    size_t size = 0;
    uint64_t word;
    if (pgs_same_filled(page, shape->page_size, &word)) {
        coding = BLOB_SAME;
        size = WORD_SIZE;
        pgs_store_le64(body, word);
    } else {
        int error = encode_body(shape, coder, page_no, page, copy, body, &size);
        if (error)
            return error;
        if (!size) {
            coding = BLOB_RAW;
            size = shape->page_size;
            memcpy(body, page, size);
        }
    }
    blob[0] = BLOB_FORMAT;
    blob[1] = (unsigned char)coding;
    pgs_store_le16(blob + 2, 0);
    pgs_store_le32(blob + 4, page_sum(shape, page_no, page));
    pgs_store_le64(blob + 8, page_no);
    pgs_store_le32(blob + 16, coding == BLOB_CODED ? shape->codec_sum : 0);
    *size_ret = BLOB_HEADER_SIZE + (uint32_t)size;
    return PGS_OK;
}

int blob_decode(const struct blob_shape *shape, pgs_coder *coder, uint64_t page_no,
                const unsigned char *blob, uint32_t size, void *page)
{
    if (size <= BLOB_HEADER_SIZE || blob[0] != BLOB_FORMAT || pgs_load_le16(blob + 2) ||
        pgs_load_le64(blob + 8) != page_no)
        return PGS_E_CORRUPT;
    const unsigned char *body = blob + BLOB_HEADER_SIZE;
    uint32_t body_size = size - BLOB_HEADER_SIZE, codec_sum = pgs_load_le32(blob + 16);
    int error = PGS_E_CORRUPT;
    if (blob[1] == BLOB_SAME && body_size == WORD_SIZE && !codec_sum) {
        pgs_fill(page, shape->page_size, pgs_load_le64(body));
        error = PGS_OK;
    } else if (blob[1] == BLOB_RAW && body_size == shape->page_size && !codec_sum) {
        memcpy(page, body, body_size);
        error = PGS_OK;
    } else if (blob[1] == BLOB_CODED && coder && codec_sum == shape->codec_sum) {
        error = pgs_decode(coder, body, body_size, blob_address(shape, page_no), page);
    }
    if (!error && page_sum(shape, page_no, page) != pgs_load_le32(blob + 4))
        error = PGS_E_CORRUPT;
    return error;
}
