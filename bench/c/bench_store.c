/* SPDX-License-Identifier: MIT
 *
 * pgs_read of compressed pages against THE bare codec loop: pgs_decode over
 * the same pages, coded by the same codec, in the same random order. The store
 * adds to it: finding the page, keeping it from moving, the checksum of its
 * bytes, counting. For hot pages the limit is a memcpy of each.
 */
#include "harness.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

enum { ORDER_FACTOR = 8, CHUNK = 1024, FRAMES_MIN = 8 /* a store has no fewer */ };

struct store_case {
    const struct image *image;
    pgs_store *store;
    uint32_t object;
    uint64_t *page_nos; /* in the order of reading, what pgs_read is given */
    uint64_t *indexes;  /* the same as indexes into the coded pages */
    size_t order_size;
    unsigned char *coded;
    uint64_t *offsets;
    uint32_t *sizes;
    pgs_coder *decoders[THREADS_MAX];
    unsigned char *out[THREADS_MAX];
};

static void pass_bare(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct store_case *s = ctx;
    for (size_t i = first; i < first + count; i++) {
        uint64_t at = s->indexes[i];
        unsigned char *out = s->out[thread_no] + i % BATCH * PAGE;
        if (s->sizes[at] == PAGE)
            memcpy(out, s->coded + s->offsets[at], PAGE);
        else
            require(!pgs_decode(s->decoders[thread_no], s->coded + s->offsets[at], s->sizes[at],
                                s->page_nos[i] * PAGE, out),
                    "pgs_decode");
    }
}

static void pass_batch(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct store_case *s = ctx;
    for (size_t i = first; i < first + count; i += BATCH)
        require(!pgs_read(s->store, s->object, s->page_nos + i, BATCH, PGS_READ_THROUGH,
                          s->out[thread_no], NULL),
                "pgs_read");
}

static void pass_single(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct store_case *s = ctx;
    for (size_t i = first; i < first + count; i++)
        require(!pgs_read_page(s->store, s->object, s->page_nos[i], PGS_READ_THROUGH,
                               s->out[thread_no] + i % BATCH * PAGE),
                "pgs_read_page");
}

static void pass_memcpy(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct store_case *s = ctx;
    for (size_t i = first; i < first + count; i++)
        memcpy(s->out[thread_no] + i % BATCH * PAGE, s->image->bytes + s->page_nos[i] * PAGE,
               PAGE);
}

static void open_store(struct store_case *s, const pgs_codec *codec, uint64_t budget)
{
    struct pgs_store_params params = {.struct_size = sizeof params,
                                      .page_size = PAGE,
                                      .budget_bytes = budget,
                                      .pool_percent = 100};
    struct pgs_backing backing;
    require(!pgs_store_open(&params, &s->store), "pgs_store_open");
    require(!pgs_backing_memory(s->image->bytes, s->image->page_count * PAGE, PAGE, &backing),
            "pgs_backing_memory");
    require(!pgs_object_add(s->store, s->image->page_count, 0, &backing, codec, &s->object),
            "pgs_object_add");
}

static size_t encode_all(struct store_case *s, const pgs_codec *codec)
{
    const struct image *image = s->image;
    pgs_coder *encoder;
    size_t at = 0;
    require(!pgs_coder_open(codec, 1, &encoder), "no coder");
    for (size_t i = 0; i < image->distinct_count; i++) {
        uint64_t page_no = image->distinct[i];
        const unsigned char *page = image->bytes + page_no * PAGE;
        size_t size;
        require(!pgs_encode(encoder, page, page_no * PAGE, s->coded + at, PAGE - 8, &size),
                "pgs_encode");
        if (!size)
            memcpy(s->coded + at, page, size = PAGE);
        s->offsets[i] = at;
        s->sizes[i] = (uint32_t)size;
        at += size;
    }
    pgs_coder_close(encoder);
    return at;
}

static void pass_check(void *ctx, size_t first, size_t count, unsigned thread_no)
{
    struct store_case *s = ctx;
    for (size_t i = first; i < first + count; i++) {
        pass_single(s, i, 1, thread_no);
        require(!memcmp(s->out[thread_no] + i % BATCH * PAGE,
                        s->image->bytes + s->page_nos[i] * PAGE, PAGE),
                "the store gave other bytes");
    }
}

static void allocate_case(struct store_case *s, const struct image *image)
{
    *s = (struct store_case){.image = image};
    s->order_size = image->distinct_count * ORDER_FACTOR;
    s->page_nos = allocate(s->order_size * sizeof *s->page_nos);
    s->indexes = allocate(s->order_size * sizeof *s->indexes);
    s->coded = allocate(image->distinct_count * PAGE);
    s->offsets = allocate(image->distinct_count * sizeof *s->offsets);
    s->sizes = allocate(image->distinct_count * sizeof *s->sizes);
    random_order(s->indexes, s->order_size, image->distinct_count, 12345);
    for (size_t i = 0; i < s->order_size; i++)
        s->page_nos[i] = image->distinct[s->indexes[i]];
    for (unsigned k = 0; k < THREADS_MAX; k++)
        s->out[k] = allocate((size_t)BATCH * PAGE);
}

static void free_case(struct store_case *s)
{
    for (unsigned k = 0; k < THREADS_MAX; k++)
        free(s->out[k]);
    free(s->page_nos);
    free(s->indexes);
    free(s->coded);
    free(s->offsets);
    free(s->sizes);
}

/* What share of the reads since `before` came from the pool, in percent. */
static double compressed_percent(const struct store_case *s, const struct pgs_stats *before)
{
    struct pgs_stats now;
    pgs_store_stats(s->store, &now);
    return 100.0 * (double)(now.faults[PGS_SOURCE_COMPRESSED] -
                            before->faults[PGS_SOURCE_COMPRESSED]) /
           (double)(now.reads - before->reads);
}

static void run_compressed(struct store_case *s, const struct options *options,
                           const char *setting, const pgs_codec *codec)
{
    const struct arm arms[] = {{"bare loop", pass_bare, s, 1},
                               {"pgs_read 64", pass_batch, s, 1},
                               {"pgs_read_page", pass_single, s, 1},
                               {"bare loop", pass_bare, s, 2},
                               {"pgs_read 64", pass_batch, s, 2},
                               {"pgs_read_page", pass_single, s, 2}};
    enum { ARMS = sizeof arms / sizeof *arms };
    struct result results[ARMS];
    struct pgs_stats stats;
    size_t total = encode_all(s, codec);

    /* All of it fits; then the budget is cut to what the compressed pages need,
     * with the fewest frames. Every thread has its decoder by then. */
    open_store(s, codec, total + total / 8 + s->image->page_count * 64 + (8u << 20));
    run_threads(pass_check, s, 0, s->order_size / THREADS_MAX, THREADS_MAX);
    require(!pgs_page_out(s->store, s->object, s->image->distinct, s->image->distinct_count, NULL),
            "pgs_page_out");
    pgs_store_stats(s->store, &stats);
    require(!pgs_store_set_budget(s->store, stats.pool_bytes + stats.metadata_bytes +
                                                FRAMES_MIN * PAGE),
            "pgs_store_set_budget");
    for (unsigned k = 0; k < THREADS_MAX; k++)
        require(!pgs_coder_open(codec, 0, &s->decoders[k]), "no coder");
    pgs_store_stats(s->store, &stats);
    require(stats.compressed_pages + 2 * FRAMES_MIN >= s->image->distinct_count,
            "the pages are not in the compressed pool");
    compare(arms, ARMS, s->order_size, CHUNK, options->rounds, results);
    if (!options->json)
        printf("        %.2f %% of the reads came from the compressed pool\n",
               compressed_percent(s, &stats));
    require(compressed_percent(s, &stats) > 95, "pages did not come from the compressed pool");
    report(options, "store", setting, arms, ARMS, results,
           100.0 * (double)total / (double)(s->image->distinct_count * PAGE));
    for (unsigned k = 0; k < THREADS_MAX; k++)
        pgs_coder_close(s->decoders[k]);
    pgs_store_close(s->store);
}

static void run_hot(struct store_case *s, const struct options *options)
{
    const struct arm arms[] = {{"memcpy", pass_memcpy, s, 1},
                               {"pgs_read 64", pass_batch, s, 1},
                               {"pgs_read_page", pass_single, s, 1},
                               {"memcpy", pass_memcpy, s, 2},
                               {"pgs_read 64", pass_batch, s, 2},
                               {"pgs_read_page", pass_single, s, 2}};
    enum { ARMS = sizeof arms / sizeof *arms };
    struct result results[ARMS];
    struct pgs_stats stats;

    open_store(s, NULL, s->image->page_count * (PAGE + 128) * 5 / 4 + (8u << 20));
    require(!pgs_page_in(s->store, s->object, s->image->distinct, s->image->distinct_count, NULL),
            "pgs_page_in");
    pgs_store_stats(s->store, &stats);
    require(stats.hot_pages >= s->image->distinct_count, "not all pages are hot");
    compare(arms, ARMS, s->order_size, CHUNK, options->rounds, results);
    report(options, "store", "hot", arms, ARMS, results, 100);
    pgs_store_close(s->store);
}

void bench_store(const struct image *image, const struct options *options)
{
    static const struct {
        const char *name;
        uint32_t id;
        int level;
        bool tuned; /* with filter and dictionary */
    } settings[] = {{"lz4", PGS_CODEC_LZ4, 0, false},
                    {"lz4hc-12+filter+dict", PGS_CODEC_LZ4, 12, true},
                    {"zstd-9+filter+dict", PGS_CODEC_ZSTD, 9, true}};
    enum { DICT_BYTES = 65536 };
    unsigned char *dict = allocate(DICT_BYTES);
    struct store_case s;

    allocate_case(&s, image);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        bool tuned = settings[i].tuned;
        uint32_t filter_id = tuned ? image->filter_id : (uint32_t)PGS_FILTER_NONE;
        size_t size = tuned ? dictionary_train(image, filter_id,
                                               settings[i].id == PGS_CODEC_ZSTD, dict, DICT_BYTES)
                            : 0;
        pgs_codec *codec = codec_open(settings[i].id, settings[i].level, filter_id, dict, size);
        run_compressed(&s, options, settings[i].name, codec);
        pgs_codec_close(codec);
    }
    run_hot(&s, options);
    free_case(&s);
    free(dict);
}
