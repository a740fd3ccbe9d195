/* SPDX-License-Identifier: MIT
 *
 * Touches of memory that take a fault, one by one. What is compared runs in
 * turn, a chunk of pages each; before a chunk, while no clock runs, its pages are
 * put where they must be faulted from.
 */
#ifndef BENCH_FAULTS_H
#define BENCH_FAULTS_H

#include "harness.h"

enum { CHUNK_PAGES = 64, RUN_PAGES = 1024, KINDS_MAX = 16 };

/* One way to fault. */
struct kind {
    const char *group;
    const char *name;
    size_t run; /* so many pages in their order, timed as a whole; 0: CHUNK_PAGES single touches */
    bool writes;
    void *ctx;
    /* Puts pages where they are faulted from; all of the object's are as the last
     * touches left them. */
    void (*prepare)(void *ctx, const uint64_t *page_nos, size_t count);
    /* Sees that `count` touches were the faults that were meant. May be NULL. */
    void (*check)(void *ctx, const uint64_t *page_nos, size_t count);
    unsigned char *base; /* of page 0 */
};

/* Memory of the system's own: a copy of the image that is swapped out, and memory that
 * was never touched. Returns how many kinds it filled in; with_swap: there is swap. */
size_t system_kinds(const struct image *image, bool with_swap, struct kind *kinds);

/* Memory that a store serves. */
size_t map_kinds(const struct image *image, struct kind *kinds);

/* Ends what map_kinds began; first sees that all of it equals the image. */
void map_end(void);

#endif
