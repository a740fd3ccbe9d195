/* SPDX-License-Identifier: MIT
 *
 * zstd frames without magic number, content size, checksum or dictionary id:
 * what is left of the frame header is a zero byte and the window size.
 */
#define ZSTD_STATIC_LINKING_ONLY /* magicless frames, raw dictionaries by reference */
#include "codec_internal.h"

#include "le.h"
#include "pagestep/error.h"
#include "rom/rom_zstd_frame.h"

#include <stdlib.h>
#include <string.h>
#include <zdict.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
    ZSTD_LEVEL_MAX = 22,
    ZSTD_LEVEL_DEFAULT = 9,
    SMALL_INPUT_MAX = 128 << 10,
    LEVEL_COPIES_DICT = 19 /* from here 0.1 % of size is worth a tenth of the time */
};

/* What all coders of a codec share: parameters and, behind a dictionary, the
 * match tables over it. */
struct zstd_shared {
    ZSTD_CCtx_params *params;
    ZSTD_CDict *cdict;
};

struct zstd_state {
    ZSTD_DCtx *dctx;
    ZSTD_DDict *ddict; /* refers to coder->dict, so that the page follows it */
    ZSTD_CCtx *cctx;
    void *bound; /* room for any result: with less, zstd may choose otherwise */
    size_t bound_size;
};

static int error_of(size_t zstd_result)
{
    if (!ZSTD_isError(zstd_result))
        return PGS_OK;
    return ZSTD_getErrorCode(zstd_result) == ZSTD_error_memory_allocation ? PGS_E_NOMEM
                                                                          : PGS_E_INVALID;
}

static int log2_ceil(size_t size)
{
    int bits = 0;

    while (((size_t)1 << bits) < size)
        bits++;
    return bits;
}

/* What a level means depends on how much there is to search. A page with a
 * large dictionary is still a small input: taken for a large one it would get
 * the parameters of a fast search at the same level. */
static ZSTD_compressionParameters tuned(const pgs_codec *codec)
{
    size_t dict_size = codec->dict_size < SMALL_INPUT_MAX ? codec->dict_size : SMALL_INPUT_MAX;
    ZSTD_compressionParameters params =
        ZSTD_getCParams(codec->level, codec->page_size, dict_size);
    int reach = log2_ceil((size_t)codec->page_size + codec->dict_size);

    params.windowLog = (unsigned)(reach < ZSTD_WINDOWLOG_MIN ? ZSTD_WINDOWLOG_MIN : reach);
    return params;
}

static int set_params(ZSTD_CCtx_params *to, const pgs_codec *codec)
{
    ZSTD_compressionParameters tune = tuned(codec);
    const struct {
        ZSTD_cParameter name;
        int value;
    } wanted[] = {
        {ZSTD_c_compressionLevel, codec->level},
        {ZSTD_c_windowLog, (int)tune.windowLog},
        {ZSTD_c_hashLog, (int)tune.hashLog},
        {ZSTD_c_chainLog, (int)tune.chainLog},
        {ZSTD_c_searchLog, (int)tune.searchLog},
        {ZSTD_c_minMatch, (int)tune.minMatch},
        {ZSTD_c_targetLength, (int)tune.targetLength},
        {ZSTD_c_strategy, (int)tune.strategy},
        {ZSTD_c_format, ZSTD_f_zstd1_magicless},
        {ZSTD_c_contentSizeFlag, 0},
        {ZSTD_c_checksumFlag, 0},
        {ZSTD_c_dictIDFlag, 0},
        {ZSTD_c_forceAttachDict,
         codec->level >= LEVEL_COPIES_DICT ? ZSTD_dictForceCopy : ZSTD_dictForceAttach},
    };
    size_t i;

    for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        int error = error_of(ZSTD_CCtxParams_setParameter(to, wanted[i].name, wanted[i].value));
        if (error != PGS_OK)
            return error;
    }
    return PGS_OK;
}

/* Whether a dictionary that begins with tables has whole ones. */
static int check_dict(const pgs_codec *codec)
{
    if (codec->dict_size < 8 || pgs_load_le32(codec->dict) != ZSTD_MAGIC_DICTIONARY)
        return PGS_OK;
    if (ZDICT_isError(ZDICT_getDictHeaderSize(codec->dict, codec->dict_size)))
        return PGS_E_INVALID;
    return PGS_OK;
}

static int zstd_codec_open(pgs_codec *codec)
{
    struct zstd_shared *shared = calloc(1, sizeof(*shared));
    int error;

    if (shared == NULL)
        return PGS_E_NOMEM;
    codec->shared = shared;
    shared->params = ZSTD_createCCtxParams();
    if (shared->params == NULL)
        return PGS_E_NOMEM;
    error = set_params(shared->params, codec);
    if (error == PGS_OK)
        error = check_dict(codec);
    if (error != PGS_OK || codec->dict == NULL || codec->only_decodes)
        return error;
    shared->cdict = ZSTD_createCDict_advanced2(codec->dict, codec->dict_size, ZSTD_dlm_byRef,
                                               ZSTD_dct_auto, shared->params,
                                               ZSTD_defaultCMem);
    return shared->cdict != NULL ? PGS_OK : PGS_E_NOMEM;
}

static void zstd_codec_close(pgs_codec *codec)
{
    struct zstd_shared *shared = codec->shared;

    if (shared == NULL)
        return;
    ZSTD_freeCDict(shared->cdict);
    ZSTD_freeCCtxParams(shared->params);
    free(shared);
}

static size_t zstd_codec_memory(const pgs_codec *codec)
{
    const struct zstd_shared *shared = codec->shared;
    return sizeof(*shared) + ZSTD_sizeof_CDict(shared->cdict);
}

static int open_encoder(struct zstd_state *state, const pgs_codec *codec)
{
    const struct zstd_shared *shared = codec->shared;
    int error;

    state->cctx = ZSTD_createCCtx();
    state->bound_size = ZSTD_compressBound(codec->page_size);
    state->bound = malloc(state->bound_size);
    if (state->cctx == NULL || state->bound == NULL)
        return PGS_E_NOMEM;
    error = error_of(ZSTD_CCtx_setParametersUsingCCtxParams(state->cctx, shared->params));
    if (error != PGS_OK || shared->cdict == NULL)
        return error;
    return error_of(ZSTD_CCtx_refCDict(state->cctx, shared->cdict));
}

/* Frames without magic number. */
static int open_dctx(ZSTD_DCtx **dctx_ret)
{
    *dctx_ret = ZSTD_createDCtx();
    if (*dctx_ret == NULL)
        return PGS_E_NOMEM;
    return error_of(ZSTD_DCtx_setParameter(*dctx_ret, ZSTD_d_format, ZSTD_f_zstd1_magicless));
}

static int zstd_coder_open(pgs_coder *coder)
{
    const pgs_codec *codec = coder->codec;
    struct zstd_state *state = calloc(1, sizeof(*state));
    int error;

    if (state == NULL)
        return PGS_E_NOMEM;
    coder->state = state;
    error = open_dctx(&state->dctx);
    if (error != PGS_OK)
        return error;
    if (coder->dict != NULL) {
        state->ddict = ZSTD_createDDict_advanced(coder->dict, codec->dict_size, ZSTD_dlm_byRef,
                                                 ZSTD_dct_auto, ZSTD_defaultCMem);
        if (state->ddict == NULL)
            return PGS_E_NOMEM;
    }
    return coder->encodes ? open_encoder(state, codec) : PGS_OK;
}

static void zstd_coder_close(pgs_coder *coder)
{
    struct zstd_state *state = coder->state;

    if (state == NULL)
        return;
    ZSTD_freeDCtx(state->dctx);
    ZSTD_freeDDict(state->ddict);
    ZSTD_freeCCtx(state->cctx);
    free(state->bound);
    free(state);
}

static size_t zstd_coder_memory(const pgs_coder *coder)
{
    const struct zstd_state *state = coder->state;
    return sizeof(*state) + ZSTD_sizeof_DCtx(state->dctx) + ZSTD_sizeof_DDict(state->ddict) +
           ZSTD_sizeof_CCtx(state->cctx) + state->bound_size;
}

static int zstd_encode(pgs_coder *coder, const void *page, void *dst, size_t dst_cap,
                       size_t *dst_size_ret)
{
    const struct zstd_state *state = coder->state;
    size_t size =
        ZSTD_compress2(state->cctx, state->bound, state->bound_size, page, coder->codec->page_size);

    if (ZSTD_isError(size))
        return error_of(size);
    if (size > dst_cap)
        return PGS_OK;
    memcpy(dst, state->bound, size);
    *dst_size_ret = size;
    return PGS_OK;
}

static int zstd_decode(pgs_coder *coder, const void *src, size_t src_size, void *page)
{
    const struct zstd_state *state = coder->state;
    size_t page_size = coder->codec->page_size;
    size_t size;

    if (!rom_zstd_is_frame(src, src_size))
        return PGS_E_CORRUPT;
    size = ZSTD_decompress_usingDDict(state->dctx, page, page_size, src, src_size, state->ddict);
    return size == page_size ? PGS_OK : PGS_E_CORRUPT;
}

int pgs_zstd_decode_run(const void *src, size_t src_size, void *dst, size_t dst_size)
{
    ZSTD_DCtx *dctx;
    int error = open_dctx(&dctx);

    if (error == PGS_OK &&
        (!rom_zstd_is_frame(src, src_size) ||
         ZSTD_decompressDCtx(dctx, dst, dst_size, src, src_size) != dst_size))
        error = PGS_E_CORRUPT;
    ZSTD_freeDCtx(dctx);
    return error;
}

const struct pgs_codec_ops pgs_zstd_ops = {
    .level_min = 1,
    .level_max = ZSTD_LEVEL_MAX,
    .level_default = ZSTD_LEVEL_DEFAULT,
    .takes_dict = 1,
    .is_filtered = 1,
    .dict_reach_bytes = PGS_DICT_SIZE_MAX,
    .codec_open = zstd_codec_open,
    .codec_close = zstd_codec_close,
    .coder_open = zstd_coder_open,
    .coder_close = zstd_coder_close,
    .codec_memory = zstd_codec_memory,
    .coder_memory = zstd_coder_memory,
    .encode = zstd_encode,
    .decode = zstd_decode,
};
