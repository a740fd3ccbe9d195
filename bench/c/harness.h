/* SPDX-License-Identifier: MIT
 *
 * Interleaved measuring. What is compared runs in turn, A B C A B C, a chunk
 * of pages each; the result is the median over all rounds of the ratio of two
 * neighbours in time. A machine that gets slower for a while, as shared ones
 * do, slows both.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pagestep.h"

enum { PAGE = 4096, THREADS_MAX = 2, ARMS_MAX = 8, BATCH = 64 };

/* An image and what is drawn from it. */
struct image {
    unsigned char *bytes;
    size_t page_count;
    uint64_t *distinct; /* numbers of the pages that are not same-filled */
    size_t distinct_count;
    uint32_t filter_id;
};

struct options {
    unsigned rounds;
    bool json;
};

/* Pages [first, first + count) of the order that ctx knows, by thread thread_no. */
typedef void pass(void *ctx, size_t first, size_t count, unsigned thread_no);

/* One of the things compared. */
struct arm {
    const char *name;
    pass *run;
    void *ctx;
    unsigned threads; /* that share each chunk's time: each does a chunk */
};

/* One result: medians over the rounds. */
struct result {
    double ns;       /* wall time per page */
    double ratio;    /* to the first arm, per page */
    double extra_ns; /* over the first arm, per page */
};

/* Runs `arm_count` arms in turn, `chunk` pages at a time, through an order of
 * `order_size` pages. Each arm meets every chunk, and no two of them the same
 * chunk in the same round: none finds it in the cache because another was there. */
void compare(const struct arm *arms, size_t arm_count, size_t order_size, size_t chunk,
             unsigned rounds, struct result *results);

/* Runs a pass on `threads` threads at once; thread 0 is the caller. */
void run_threads(pass *run, void *ctx, size_t first, size_t count, unsigned threads);

/* Random numbers below `below`, the same in every run. */
void random_order(uint64_t *order, size_t count, uint64_t below, uint64_t seed);

/* Prints a row: as a line of a table, or as an element of a JSON array. */
void report(const struct options *options, const char *group, const char *setting,
            const struct arm *arms, size_t arm_count, const struct result *results,
            double size_percent);

void image_load(struct image *image, const char *path, uint32_t filter_id);

/* A dictionary of at most size bytes for the image, as a coder with that filter sees it. */
size_t dictionary_train(const struct image *image, uint32_t filter_id, bool tables, void *dict,
                        size_t size);

pgs_codec *codec_open(uint32_t codec_id, int level, uint32_t filter_id, const void *dict,
                      size_t dict_size);
void *allocate(size_t size); /* aligned to a page, touched */
void require(bool holds, const char *what);

void bench_codecs(const struct image *image, const struct options *options);
void bench_store(const struct image *image, const struct options *options);

#endif
