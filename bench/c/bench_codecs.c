/* SPDX-License-Identifier: MIT
 *
 * pgs_encode and pgs_decode against bare liblz4 and libzstd doing the same
 * job: a page in the caller's buffer to coded bytes and back. The bare side
 * uses the libraries as well as they can be used (dictionary loaded once and
 * copied, decoded in prefix mode behind the dictionary), and the same filter.
 */
#define ZSTD_STATIC_LINKING_ONLY /* a dictionary by reference, for prefix mode */
#include "harness.h"

#include <lz4.h>
#include <lz4hc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { SAMPLE_MAX = 2048, DICT_BYTES = 65536, ROOM = 2 * PAGE, ORDER_FACTOR = 4 };

struct coded {
    unsigned char *bytes; /* ROOM each */
    uint32_t *sizes;      /* 0: does not shrink */
};

struct codec_case {
    uint32_t codec_id;
    int level;
    uint32_t filter_id;
    const unsigned char *dict; /* or NULL */
    size_t dict_size;

    const struct image *image;
    uint64_t *order; /* into the sample */
    size_t order_size;
    uint64_t sample[SAMPLE_MAX];
    size_t sample_count;

    pgs_coder *coder;
    struct coded ours, bare;
    unsigned char *out;
    unsigned char *window; /* [dictionary][page] of the bare side */
    unsigned char *window_page;
    LZ4_stream_t *fast, *fast_loaded;
    LZ4_streamHC_t *hc, *hc_loaded;
    ZSTD_CCtx *cctx;
    ZSTD_DCtx *dctx;
    ZSTD_CDict *cdict;
    ZSTD_DDict *ddict;
};

static const unsigned char *page_at(const struct codec_case *c, size_t i, uint64_t *address_ret)
{
    uint64_t page_no = c->sample[i];
    *address_ret = page_no * PAGE;
    return c->image->bytes + page_no * PAGE;
}

static size_t encode_ours(struct codec_case *c, size_t i, unsigned char *dst)
{
    uint64_t address;
    const unsigned char *page = page_at(c, i, &address);
    size_t size;
    require(!pgs_encode(c->coder, page, address, dst, PAGE - 1, &size), "pgs_encode");
    return size;
}

static size_t encode_lz4(struct codec_case *c, const void *page, void *dst)
{
    const char *src = page;
    int size;
    if (c->dict && c->level) {
        memcpy(c->hc, c->hc_loaded, sizeof *c->hc);
        size = LZ4_compress_HC_continue(c->hc, src, dst, PAGE, PAGE - 1);
    } else if (c->dict) {
        memcpy(c->fast, c->fast_loaded, sizeof *c->fast);
        size = LZ4_compress_fast_continue(c->fast, src, dst, PAGE, PAGE - 1, 1);
    } else if (c->level) {
        size = LZ4_compress_HC_extStateHC(c->hc, src, dst, PAGE, PAGE - 1, c->level);
    } else {
        size = LZ4_compress_fast_extState(c->fast, src, dst, PAGE, PAGE - 1, 1);
    }
    return size > 0 ? (size_t)size : 0;
}

static size_t encode_bare(struct codec_case *c, size_t i, unsigned char *dst)
{
    uint64_t address;
    const unsigned char *page = page_at(c, i, &address);
    size_t size;
    if (c->dict || c->filter_id != PGS_FILTER_NONE) {
        memcpy(c->window_page, page, PAGE);
        page = c->window_page;
        (void)pgs_filter_apply(c->filter_id, c->window_page, PAGE, address);
    }
    if (c->codec_id == PGS_CODEC_LZ4)
        return encode_lz4(c, page, dst);
    size = ZSTD_compress2(c->cctx, dst, ROOM, page, PAGE);
    return ZSTD_isError(size) || size >= PAGE ? 0 : size;
}

static void decode_ours(struct codec_case *c, size_t i, unsigned char *out)
{
    require(!pgs_decode(c->coder, c->ours.bytes + i * ROOM, c->ours.sizes[i], c->sample[i] * PAGE,
                        out),
            "pgs_decode");
}

static void decode_bare(struct codec_case *c, size_t i, unsigned char *out)
{
    const unsigned char *src = c->bare.bytes + i * ROOM;
    unsigned char *to = c->dict ? c->window_page : out;
    size_t size = c->bare.sizes[i], made;
    if (c->codec_id == PGS_CODEC_LZ4)
        made = (size_t)LZ4_decompress_safe_usingDict((const char *)src, (char *)to, (int)size,
                                                     PAGE, (const char *)c->window_page -
                                                               (c->dict ? c->dict_size : 0),
                                                     c->dict ? (int)c->dict_size : 0);
    else
        made = ZSTD_decompress_usingDDict(c->dctx, to, PAGE, src, size, c->ddict);
    require(made == PAGE, "bare decode");
    if (to != out)
        memcpy(out, to, PAGE);
    if (c->filter_id != PGS_FILTER_NONE)
        (void)pgs_filter_undo(c->filter_id, out, PAGE, c->sample[i] * PAGE);
}

static void pass_encode_ours(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct codec_case *c = ctx;
    (void)thread_no;
    for (size_t i = first; i < first + count; i++)
        encode_ours(c, c->order[i % c->order_size], c->out);
}

static void pass_encode_bare(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct codec_case *c = ctx;
    (void)thread_no;
    for (size_t i = first; i < first + count; i++)
        encode_bare(c, c->order[i % c->order_size], c->out);
}

static void pass_decode_ours(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct codec_case *c = ctx;
    (void)thread_no;
    for (size_t i = first; i < first + count; i++)
        decode_ours(c, c->order[i], c->out + i % BATCH * PAGE);
}

static void pass_decode_bare(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct codec_case *c = ctx;
    (void)thread_no;
    for (size_t i = first; i < first + count; i++)
        decode_bare(c, c->order[i], c->out + i % BATCH * PAGE);
}

static void open_bare_lz4(struct codec_case *c)
{
    const char *dict = (const char *)c->window_page - c->dict_size;
    c->fast = allocate(sizeof *c->fast);
    c->fast_loaded = allocate(sizeof *c->fast);
    c->hc = allocate(sizeof *c->hc);
    c->hc_loaded = allocate(sizeof *c->hc);
    LZ4_initStream(c->fast, sizeof *c->fast);
    LZ4_initStream(c->fast_loaded, sizeof *c->fast_loaded);
    LZ4_initStreamHC(c->hc, sizeof *c->hc);
    LZ4_initStreamHC(c->hc_loaded, sizeof *c->hc_loaded);
    if (!c->dict)
        return;
    LZ4_loadDict(c->fast_loaded, dict, (int)c->dict_size);
    LZ4_resetStreamHC_fast(c->hc_loaded, c->level);
    LZ4_loadDictHC(c->hc_loaded, dict, (int)c->dict_size);
}

static void open_bare_zstd(struct codec_case *c)
{
    c->cctx = ZSTD_createCCtx();
    c->dctx = ZSTD_createDCtx();
    require(c->cctx && c->dctx, "out of memory");
    ZSTD_CCtx_setParameter(c->cctx, ZSTD_c_compressionLevel, c->level);
    ZSTD_CCtx_setParameter(c->cctx, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(c->cctx, ZSTD_c_dictIDFlag, 0);
    c->cdict = NULL;
    c->ddict = NULL;
    if (!c->dict)
        return;
    c->cdict = ZSTD_createCDict(c->dict, c->dict_size, c->level);
    c->ddict = ZSTD_createDDict_byReference(c->window_page - c->dict_size, c->dict_size);
    require(c->cdict && c->ddict, "out of memory");
    ZSTD_CCtx_refCDict(c->cctx, c->cdict);
}

static void close_bare(struct codec_case *c)
{
    free(c->fast);
    free(c->fast_loaded);
    free(c->hc);
    free(c->hc_loaded);
    ZSTD_freeCCtx(c->cctx);
    ZSTD_freeDCtx(c->dctx);
    ZSTD_freeCDict(c->cdict);
    ZSTD_freeDDict(c->ddict);
}

/* Draws pages that shrink both ways, and returns what ours take in percent. */
static double fill(struct codec_case *c)
{
    uint64_t *chosen = allocate(SAMPLE_MAX * sizeof *chosen);
    size_t coded = 0, ours_bytes = 0;
    random_order(chosen, SAMPLE_MAX, c->image->distinct_count, 7);
    for (size_t i = 0; i < SAMPLE_MAX; i++) {
        c->sample[coded] = c->image->distinct[chosen[i]];
        c->ours.sizes[coded] = (uint32_t)encode_ours(c, coded, c->ours.bytes + coded * ROOM);
        c->bare.sizes[coded] = (uint32_t)encode_bare(c, coded, c->bare.bytes + coded * ROOM);
        ours_bytes += c->ours.sizes[coded];
        coded += c->ours.sizes[coded] && c->bare.sizes[coded];
    }
    free(chosen);
    c->sample_count = coded;
    require(coded >= 16, "hardly a page shrinks");
    for (size_t i = 0; i < coded; i++) { /* both are right, before they are fast */
        unsigned char *expected = c->image->bytes + c->sample[i] * PAGE;
        decode_ours(c, i, c->out);
        require(!memcmp(c->out, expected, PAGE), "pgs_decode gave other bytes");
        decode_bare(c, i, c->out);
        require(!memcmp(c->out, expected, PAGE), "the bare decoder gave other bytes");
    }
    return 100.0 * (double)ours_bytes / (double)(coded * PAGE);
}

static void run_case(struct codec_case *c, const struct options *options, const char *setting,
                     size_t encode_chunk)
{
    const struct arm decoders[] = {{"bare decode", pass_decode_bare, c, 1},
                                   {"pgs_decode", pass_decode_ours, c, 1}};
    const struct arm encoders[] = {{"bare encode", pass_encode_bare, c, 1},
                                   {"pgs_encode", pass_encode_ours, c, 1}};
    struct result results[2];
    pgs_codec *codec = codec_open(c->codec_id, c->level, c->filter_id, c->dict, c->dict_size);
    double percent;

    require(!pgs_coder_open(codec, 1, &c->coder), "no coder");
    if (c->dict)
        memcpy(c->window_page - c->dict_size, c->dict, c->dict_size);
    if (c->codec_id == PGS_CODEC_LZ4)
        open_bare_lz4(c);
    else
        open_bare_zstd(c);
    percent = fill(c);
    c->order_size = c->sample_count * ORDER_FACTOR;
    random_order(c->order, c->order_size, c->sample_count, 11);
    compare(decoders, 2, c->order_size, 256, options->rounds, results);
    report(options, "codec", setting, decoders, 2, results, percent);
    compare(encoders, 2, c->order_size, encode_chunk, options->rounds / 4 + 1, results);
    report(options, "codec", setting, encoders, 2, results, percent);
    close_bare(c);
    pgs_coder_close(c->coder);
    pgs_codec_close(codec);
}

void bench_codecs(const struct image *image, const struct options *options)
{
    static const struct {
        const char *name;
        uint32_t id;
        int level;
        size_t encode_chunk;
    } codecs[] = {{"lz4", PGS_CODEC_LZ4, 0, 256},
                  {"lz4hc-9", PGS_CODEC_LZ4, 9, 64},
                  {"lz4hc-12", PGS_CODEC_LZ4, 12, 16},
                  {"zstd-3", PGS_CODEC_ZSTD, 3, 64},
                  {"zstd-19", PGS_CODEC_ZSTD, 19, 8}};
    struct codec_case *c = allocate(sizeof *c);
    struct coded ours = {allocate((size_t)SAMPLE_MAX * ROOM), allocate(SAMPLE_MAX * 4)};
    struct coded bare = {allocate((size_t)SAMPLE_MAX * ROOM), allocate(SAMPLE_MAX * 4)};
    uint64_t *order = allocate(SAMPLE_MAX * ORDER_FACTOR * sizeof *order);
    unsigned char *out = allocate((size_t)BATCH * PAGE);
    unsigned char *window = allocate(DICT_BYTES + PAGE), *dict = allocate(DICT_BYTES);

    for (int filtered = 0; filtered < 2; filtered++) {
        for (size_t k = 0; k < 2 * (sizeof codecs / sizeof *codecs); k++) {
            size_t which = k / 2;
            bool with_dict = k % 2;
            char setting[64];
            uint32_t filter_id = filtered ? image->filter_id : (uint32_t)PGS_FILTER_NONE;
            *c = (struct codec_case){.codec_id = codecs[which].id, .level = codecs[which].level,
                                     .filter_id = filter_id, .image = image, .ours = ours,
                                     .bare = bare, .order = order, .out = out, .window = window,
                                     .window_page = window + DICT_BYTES};
            if (with_dict) {
                c->dict = dict;
                c->dict_size = dictionary_train(image, filter_id, c->codec_id == PGS_CODEC_ZSTD,
                                                dict, DICT_BYTES);
            }
            snprintf(setting, sizeof setting, "%s%s%s", codecs[which].name,
                     filtered ? "+filter" : "", with_dict ? "+dict" : "");
            run_case(c, options, setting, codecs[which].encode_chunk);
        }
    }
    free(c);
    free(ours.bytes);
    free(ours.sizes);
    free(bare.bytes);
    free(bare.sizes);
    free(order);
    free(out);
    free(window);
    free(dict);
}
