/* SPDX-License-Identifier: MIT
 *
 * LZ4 blocks. Loading a dictionary into a match table costs far more than a
 * page's compression, and the calls that attach a loaded one are not exported
 * by the shared library. So each encoding coder keeps one table with the
 * dictionary loaded, and every page starts from a copy of it.
 */
#include "codec_internal.h"

#include "pagestep/error.h"

#include <limits.h>
#include <lz4.h>
#include <lz4hc.h>
#include <stdlib.h>
#include <string.h>

enum { LZ4_REACH_BYTES = 65535 };

/* `loaded` is NULL without a dictionary. Both are NULL in a coder that only
 * decodes; LZ4 needs no memory for that. */
struct lz4_state {
    size_t size; /* of each of the two */
    void *loaded;
    void *working;
};

static int is_hc(const pgs_coder *coder)
{
    return coder->codec->level > 0;
}

static void load_dict(pgs_coder *coder, void *stream)
{
    const char *dict = (const char *)coder->dict;
    int dict_size = (int)coder->codec->dict_size;

    if (is_hc(coder)) {
        LZ4_initStreamHC(stream, sizeof(LZ4_streamHC_t));
        LZ4_resetStreamHC_fast(stream, coder->codec->level);
        LZ4_loadDictHC(stream, dict, dict_size);
    } else {
        LZ4_initStream(stream, sizeof(LZ4_stream_t));
        LZ4_loadDict(stream, dict, dict_size);
    }
}

static int lz4_coder_open(pgs_coder *coder)
{
    struct lz4_state *state;

    if (!coder->encodes)
        return PGS_OK;
    state = calloc(1, sizeof(*state));
    if (state == NULL)
        return PGS_E_NOMEM;
    coder->state = state;
    state->size = is_hc(coder) ? sizeof(LZ4_streamHC_t) : sizeof(LZ4_stream_t);
    state->working = pgs_aligned_alloc(state->size);
    if (state->working == NULL)
        return PGS_E_NOMEM;
    if (coder->dict == NULL)
        return PGS_OK;
    state->loaded = pgs_aligned_alloc(state->size);
    if (state->loaded == NULL)
        return PGS_E_NOMEM;
    load_dict(coder, state->loaded);
    return PGS_OK;
}

static void lz4_coder_close(pgs_coder *coder)
{
    struct lz4_state *state = coder->state;

    if (state == NULL)
        return;
    free(state->loaded);
    free(state->working);
    free(state);
}

static size_t lz4_coder_memory(const pgs_coder *coder)
{
    const struct lz4_state *state = coder->state;

    if (state == NULL)
        return 0;
    return sizeof(*state) + state->size * (state->loaded != NULL ? 2 : 1);
}

static int lz4_encode(pgs_coder *coder, const void *page, void *dst, size_t dst_cap,
                      size_t *dst_size_ret)
{
    const struct lz4_state *state = coder->state;
    int src_size = (int)coder->codec->page_size;
    int cap = dst_cap > INT_MAX ? INT_MAX : (int)dst_cap;
    int level = coder->codec->level;
    int size;

    if (state->loaded != NULL) {
        memcpy(state->working, state->loaded, state->size);
        size = is_hc(coder)
                   ? LZ4_compress_HC_continue(state->working, page, dst, src_size, cap)
                   : LZ4_compress_fast_continue(state->working, page, dst, src_size, cap, 1);
    } else {
        size = is_hc(coder)
                   ? LZ4_compress_HC_extStateHC(state->working, page, dst, src_size, cap, level)
                   : LZ4_compress_fast_extState(state->working, page, dst, src_size, cap, 1);
    }
    *dst_size_ret = size > 0 ? (size_t)size : 0;
    return PGS_OK;
}

static int lz4_decode(pgs_coder *coder, const void *src, size_t src_size, void *page)
{
    int page_size = (int)coder->codec->page_size;
    int size;

    if (src_size > INT_MAX)
        return PGS_E_CORRUPT;
    size = LZ4_decompress_safe_usingDict(src, page, (int)src_size, page_size,
                                         (const char *)coder->dict, (int)coder->codec->dict_size);
    return size == page_size ? PGS_OK : PGS_E_CORRUPT;
}

const struct pgs_codec_ops pgs_lz4_ops = {
    .level_max = LZ4HC_CLEVEL_MAX,
    .level_default = 0,
    .takes_dict = 1,
    .is_filtered = 1,
    .dict_reach_bytes = LZ4_REACH_BYTES,
    .coder_open = lz4_coder_open,
    .coder_close = lz4_coder_close,
    .coder_memory = lz4_coder_memory,
    .encode = lz4_encode,
    .decode = lz4_decode,
};
