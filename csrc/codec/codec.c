/* SPDX-License-Identifier: MIT */
#include "codec_internal.h"

#include "filter_internal.h"
#include "pagestep/error.h"

#include <stdlib.h>
#include <string.h>

static const struct pgs_codec_ops *ops_of(uint32_t codec_id)
{
    switch (codec_id) {
    case PGS_CODEC_RAW:
        return &pgs_raw_ops;
    case PGS_CODEC_SAME:
        return &pgs_same_ops;
    case PGS_CODEC_LZ4:
        return &pgs_lz4_ops;
    case PGS_CODEC_ZSTD:
        return &pgs_zstd_ops;
    default:
        return NULL;
    }
}

void *pgs_aligned_alloc(size_t size)
{
    size_t rounded = (size + PGS_BUFFER_ALIGN - 1) & ~(size_t)(PGS_BUFFER_ALIGN - 1);
    return aligned_alloc(PGS_BUFFER_ALIGN, rounded);
}

static int check_params(const struct pgs_codec_params *params)
{
    const struct pgs_codec_ops *ops;

    if (params == NULL || params->struct_size != sizeof(*params))
        return PGS_E_INVALID;
    ops = ops_of(params->codec_id);
    if (ops == NULL || pgs_filter_of(params->filter_id) == NULL)
        return PGS_E_INVALID;
    if (params->page_size < PGS_PAGE_SIZE_MIN || params->page_size > PGS_PAGE_SIZE_MAX ||
        (params->page_size & (params->page_size - 1)) != 0)
        return PGS_E_INVALID;
    if (params->level != -1 && (params->level < ops->level_min || params->level > ops->level_max))
        return PGS_E_INVALID;
    if (params->dict_size > PGS_DICT_SIZE_MAX || (params->dict_size != 0 && params->dict == NULL))
        return PGS_E_INVALID;
    if (params->dict_size != 0 && !ops->takes_dict)
        return PGS_E_UNSUPPORTED;
    return PGS_OK;
}

/* Keeps only the end of the dictionary that matches can reach. */
static int take_dict(pgs_codec *codec, const struct pgs_codec_params *params)
{
    const unsigned char *dict = params->dict;
    unsigned char *copy;
    uint32_t size = params->dict_size;

    if (size > codec->ops->dict_reach_bytes) {
        dict += size - codec->ops->dict_reach_bytes;
        size = codec->ops->dict_reach_bytes;
    }
    if (size == 0)
        return PGS_OK;
    codec->dict = dict;
    codec->dict_size = size;
    if (codec->only_decodes)
        return PGS_OK;
    codec->own_dict = copy = pgs_aligned_alloc(size);
    if (copy == NULL)
        return PGS_E_NOMEM;
    codec->dict = memcpy(copy, dict, size);
    return PGS_OK;
}

static int open_codec(const struct pgs_codec_params *params, int only_decodes,
                      pgs_codec **codec_ret)
{
    pgs_codec *codec;
    int error;

    if (codec_ret == NULL)
        return PGS_E_INVALID;
    *codec_ret = NULL;
    error = check_params(params);
    if (error != PGS_OK)
        return error;
    codec = calloc(1, sizeof(*codec));
    if (codec == NULL)
        return PGS_E_NOMEM;
    atomic_init(&codec->owners, 1);
    codec->ops = ops_of(params->codec_id);
    codec->codec_id = params->codec_id;
    codec->level = params->level == -1 ? codec->ops->level_default : params->level;
    codec->filter_id = codec->ops->is_filtered ? params->filter_id : (uint32_t)PGS_FILTER_NONE;
    codec->page_size = params->page_size;
    codec->only_decodes = only_decodes;
    error = take_dict(codec, params);
    if (error == PGS_OK && codec->ops->codec_open != NULL)
        error = codec->ops->codec_open(codec);
    if (error != PGS_OK) {
        pgs_codec_close(codec);
        return error;
    }
    *codec_ret = codec;
    return PGS_OK;
}

int pgs_codec_open(const struct pgs_codec_params *params, pgs_codec **codec_ret)
{
    return open_codec(params, 0, codec_ret);
}

int pgs_codec_open_to_decode(const struct pgs_codec_params *params, pgs_codec **codec_ret)
{
    return open_codec(params, 1, codec_ret);
}

int pgs_codec_open_like(const pgs_codec *codec, int32_t level, pgs_codec **codec_ret)
{
    struct pgs_codec_params params = {.struct_size = sizeof(params),
                                      .codec_id = codec->codec_id,
                                      .level = level,
                                      .filter_id = codec->filter_id,
                                      .page_size = codec->page_size,
                                      .dict_size = codec->dict_size,
                                      .dict = codec->dict};
    return pgs_codec_open(&params, codec_ret);
}

void pgs_codec_close(pgs_codec *codec)
{
    if (codec == NULL || atomic_fetch_sub(&codec->owners, 1) > 1)
        return;
    if (codec->ops->codec_close != NULL)
        codec->ops->codec_close(codec);
    free(codec->own_dict);
    free(codec);
}

uint32_t pgs_codec_page_size(const pgs_codec *codec)
{
    return codec->page_size;
}

size_t pgs_codec_memory_bytes(const pgs_codec *codec)
{
    size_t shared = codec->ops->codec_memory != NULL ? codec->ops->codec_memory(codec) : 0;
    return sizeof(*codec) + (codec->own_dict != NULL ? codec->dict_size : 0) + shared;
}

static int open_window(pgs_coder *coder)
{
    const pgs_codec *codec = coder->codec;
    size_t page_at = (codec->dict_size + PGS_BUFFER_ALIGN - 1) & ~(size_t)(PGS_BUFFER_ALIGN - 1);

    if (codec->dict_size == 0 && !(coder->encodes && codec->filter_id != PGS_FILTER_NONE))
        return PGS_OK;
    coder->window_size = page_at + codec->page_size;
    coder->window = pgs_aligned_alloc(coder->window_size);
    if (coder->window == NULL)
        return PGS_E_NOMEM;
    coder->page = coder->window + page_at;
    if (codec->dict_size != 0) {
        coder->dict = coder->page - codec->dict_size;
        memcpy(coder->dict, codec->dict, codec->dict_size);
    }
    return PGS_OK;
}

/* A codec does not change but for the number of its owners. */
static pgs_codec *owned(const pgs_codec *codec)
{
    return (pgs_codec *)codec;
}

int pgs_coder_open(const pgs_codec *codec, int encodes, pgs_coder **coder_ret)
{
    pgs_coder *coder;
    int error;

    if (coder_ret == NULL)
        return PGS_E_INVALID;
    *coder_ret = NULL;
    if (codec == NULL || (encodes && codec->only_decodes))
        return PGS_E_INVALID;
    coder = calloc(1, sizeof(*coder));
    if (coder == NULL)
        return PGS_E_NOMEM;
    coder->codec = codec;
    atomic_fetch_add(&owned(codec)->owners, 1);
    coder->encodes = encodes != 0;
    error = open_window(coder);
    if (error == PGS_OK && codec->ops->coder_open != NULL)
        error = codec->ops->coder_open(coder);
    if (error != PGS_OK) {
        pgs_coder_close(coder);
        return error;
    }
    *coder_ret = coder;
    return PGS_OK;
}

void pgs_coder_close(pgs_coder *coder)
{
    if (coder == NULL)
        return;
    if (coder->codec->ops->coder_close != NULL)
        coder->codec->ops->coder_close(coder);
    pgs_codec_close(owned(coder->codec));
    free(coder->window);
    free(coder);
}

size_t pgs_coder_memory_bytes(const pgs_coder *coder)
{
    const struct pgs_codec_ops *ops = coder->codec->ops;
    size_t state = ops->coder_memory != NULL ? ops->coder_memory(coder) : 0;
    return sizeof(*coder) + coder->window_size + state;
}

int pgs_encode(pgs_coder *coder, const void *page, uint64_t address, void *dst, size_t dst_cap,
               size_t *dst_size_ret)
{
    const pgs_codec *codec = coder->codec;

    *dst_size_ret = 0;
    if (!coder->encodes)
        return PGS_E_INVALID;
    if (coder->page != NULL) {
        memcpy(coder->page, page, codec->page_size);
        page = coder->page;
        if (codec->filter_id != PGS_FILTER_NONE)
            pgs_filter_of(codec->filter_id)->apply(coder->page, codec->page_size, address);
    }
    return codec->ops->encode(coder, page, dst, dst_cap, dst_size_ret);
}

int pgs_decode(pgs_coder *coder, const void *src, size_t src_size, uint64_t address, void *page)
{
    const pgs_codec *codec = coder->codec;
    void *out = coder->dict != NULL ? coder->page : page;
    int error = codec->ops->decode(coder, src, src_size, out);

    if (error != PGS_OK)
        return error;
    if (out != page)
        memcpy(page, out, codec->page_size);
    if (codec->filter_id != PGS_FILTER_NONE)
        pgs_filter_of(codec->filter_id)->undo(page, codec->page_size, address);
    return PGS_OK;
}

int pgs_encode_pages(pgs_coder *coder, const void *pages, size_t page_count, uint64_t address,
                     void *dst, size_t dst_stride, uint32_t *sizes_ret)
{
    const unsigned char *page = pages;
    unsigned char *out = dst;
    uint32_t page_size = coder->codec->page_size;
    size_t i;

    for (i = 0; i < page_count; i++) {
        size_t size;
        int error = pgs_encode(coder, page, address, out, dst_stride, &size);
        if (error != PGS_OK)
            return error;
        sizes_ret[i] = (uint32_t)size;
        page += page_size;
        out += dst_stride;
        address += page_size;
    }
    return PGS_OK;
}

int pgs_decode_pages(pgs_coder *coder, const void *src, size_t src_size, const uint64_t *offsets,
                     const uint32_t *sizes, const uint64_t *addresses, size_t page_count,
                     void *pages, int32_t *statuses_ret)
{
    const unsigned char *bytes = src;
    unsigned char *page = pages;
    int result = PGS_OK;
    size_t i;

    for (i = 0; i < page_count; i++) {
        int error = PGS_E_CORRUPT;
        if (offsets[i] <= src_size && sizes[i] <= src_size - offsets[i])
            error = pgs_decode(coder, bytes + offsets[i], sizes[i], addresses[i], page);
        statuses_ret[i] = error;
        if (error != PGS_OK)
            result = PGS_E_CORRUPT;
        page += coder->codec->page_size;
    }
    return result;
}
