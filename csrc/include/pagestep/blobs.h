/* SPDX-License-Identifier: MIT
 *
 * Pages outside RAM, compressed: what keeps them (struct pgs_blobs), and the backing
 * over it, which codes, checks, writes back and reads ahead, once for all of them.
 * docs/BACKINGS.md says who promises what.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_BLOBS_H
#define PAGESTEP_BLOBS_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/store.h"

/* A blob is at most so many bytes longer than a page. */
enum { PGS_BLOB_EXTRA_MAX = 32 };

/* One page's blob in a batch. */
struct pgs_blob {
    uint64_t page_no;
    void *bytes;       /* get: room for `capacity`; put: what is to be kept */
    uint32_t size;     /* get: set; 0: nothing was ever put there, or it was discarded */
    uint32_t capacity; /* get: bytes of room; put: not used */
};

/* What keeps pages outside RAM: under each page's number a blob of 1 to page_size +
 * PGS_BLOB_EXTRA_MAX bytes, which it does not look into. Several threads call its functions
 * at once; no two of them put or discard the same page. Each function returns 0 or the first
 * negative enum pgs_error, and never waits beyond its deadline: PGS_E_TIMEOUT. statuses_ret[i]
 * is 0 or what is wrong with blob i; the others of the batch are done all the same. */
struct pgs_blobs {
    uint32_t struct_size; /* sizeof(struct pgs_blobs) */
    uint32_t reserved;    /* 0 */
    void *ctx;
    int (*get)(void *ctx, struct pgs_blob *blobs, size_t count, int32_t *statuses_ret);
    /* Keeps blobs, each instead of its page's former one. All whose status is 0 will be
     * given back by get, also to another process that opens the same place after this one
     * was killed; after a power failure what was there when flush returned 0, or later.
     * PGS_E_FULL: no room; the former blob stays. NULL: read-only. */
    int (*put)(void *ctx, const struct pgs_blob *blobs, size_t count, int32_t *statuses_ret);
    /* Gives up the blobs of a run of pages. NULL where put is. */
    int (*discard)(void *ctx, uint64_t first_page_no, uint64_t page_count);
    int (*flush)(void *ctx);
    /* Bytes that it can hold, and bytes of it that are taken. */
    int (*capacity)(void *ctx, uint64_t *total_ret, uint64_t *used_ret);
    /* Bit i % 64 of bits[i / 64] is set where page first_page_no + i has a blob, the others are
     * cleared. */
    int (*present)(void *ctx, uint64_t first_page_no, uint64_t page_count, uint64_t *bits);
    void (*close)(void *ctx);
    /* Bytes of RAM that it takes; asked once. */
    uint64_t (*memory_bytes)(void *ctx);
};

#endif
