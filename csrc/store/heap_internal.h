/* SPDX-License-Identifier: MIT
 *
 * What the files of heaps share. A heap's lock is a leaf: under it nothing is
 * waited for but it, no page moves and no RAM is found.
 */
#ifndef PGS_HEAP_INTERNAL_H
#define PGS_HEAP_INTERNAL_H

#include "pagestep/heap.h"
#include "store/heap_runs.h"
#include "store/store_internal.h"

enum {
    GUARD_BYTES = 8, /* at least so many behind each block of a non-paged heap */
    POISON = 0xDD    /* what its free memory holds */
};

struct pgs_heap {
    pgs_store *store;
    pgs_heap *next; /* of the store's heaps */
    uint32_t object;
    uint32_t guard_bytes; /* behind each block: 0 in a paged heap */
    unsigned char *memory; /* NULL: paged */
    uint64_t size_bytes;
    uint64_t metadata_bytes; /* charged */
    pthread_mutex_t lock;
    pthread_cond_t settled;
    uint32_t settling; /* blocks that are being freed: they are nobody's */
    struct runs runs;
    uint64_t block_count, used_bytes, used_bytes_max, allocations, frees, refusals;
};

/* heap.c */
void heap_deinit(pgs_heap *heap); /* all but its object and what the budget knows */
void heaps_close(pgs_store *store);
int heap_pay_records(pgs_heap *heap); /* for RUNS_STEP more, where they are short */

/* heap_guard.c: memory that is written through addresses */
void guard_set(const pgs_heap *heap, uint32_t run);
/* The first byte behind the block that is not its guard's, from the heap's first; or UINT64_MAX. */
uint64_t guard_broken(const pgs_heap *heap, uint32_t run);
void poison(const pgs_heap *heap, uint64_t offset, uint64_t size);
uint64_t poison_broken(const pgs_heap *heap, uint32_t run);

/* A handle: the record's number, then its generation. */
static inline uint64_t handle_of(const pgs_heap *heap, uint32_t run)
{
    return (uint64_t)run << 32 | heap->runs.table[run].generation;
}

#endif
