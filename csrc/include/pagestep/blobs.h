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

/* The backing over blobs. */
struct pgs_coded_params {
    uint32_t struct_size;  /* sizeof(struct pgs_coded_params) */
    uint32_t page_size;    /* the store's */
    uint64_t page_count;   /* the object's */
    uint64_t base_address; /* the object's: what branch filters see */
    uint32_t buffer_pages; /* pages that may wait to be written, 1 to 4096 */
    uint32_t ahead_pages;  /* the most pages that are read ahead at once, 0 to 4096; 0: none is */
    uint32_t deadline_ms;  /* what any call waits at most, 1 to 3,600,000 */
    uint32_t flags;        /* enum pgs_coded_flag, or'ed */
};

enum pgs_coded_flag {
    PGS_CODED_TEMPORARY = 1 /* nobody will ask for these pages again: when it is closed nothing
                             * is written, and the blobs are to give up what they have */
};

/* A snapshot; counts since it was opened. */
struct pgs_coded_stats {
    uint64_t buffered_pages;  /* that wait to be written, at the moment */
    uint64_t puts;            /* pages written */
    uint64_t put_batches;
    uint64_t put_bytes;
    uint64_t put_failures;    /* batches of which a page was refused, and is tried again */
    uint64_t gets;            /* pages read because they were asked for */
    uint64_t buffer_hits;     /* pages asked for that still waited to be written */
    uint64_t ahead_batches;
    uint64_t ahead_pages;     /* pages read ahead */
    uint64_t ahead_hits;      /* of these, asked for afterwards */
    uint64_t ahead_wasted;    /* of these, dropped before they were asked for */
    uint64_t handed_over;     /* pages whose copy in the pool was taken as it was */
    uint64_t total_bytes;     /* of the blobs: what they can hold */
    uint64_t used_bytes;      /* of it taken */
    int32_t error;            /* what the last write met, or 0 */
    uint32_t reserved;
};

/* A backing over blobs: a page is coded by `codec` (NULL: kept raw), which must outlive it and
 * have its page_size, and checked when it comes back: bytes that are not those of this page are
 * PGS_E_CORRUPT. Written pages wait in a buffer for a thread that writes them in batches, and
 * tries again as long as the backing is open; page_out waits only while the buffer is full,
 * up to the deadline, and then gives the reason. A second thread reads ahead where page-ins
 * follow each other.
 *
 * Pages without a blob are those of `base`, which is taken over and must be read-only; NULL:
 * zeros. `blobs` is taken over as well: both are closed with the backing, which first
 * writes what waits, or gives up what there is, within the deadline. On error neither is. Blobs that are read-only (put is NULL) give a
 * read-only backing.
 * Errors: PGS_E_INVALID, PGS_E_NOMEM, and those of `present`. */
int pgs_backing_coded(const struct pgs_coded_params *params, const struct pgs_blobs *blobs,
                      const struct pgs_backing *base, const pgs_codec *codec,
                      struct pgs_backing *backing_ret);

/* Statistics of a backing that pgs_backing_coded made and that is open. Errors: PGS_E_INVALID
 * (it is another), and those of `capacity`. */
int pgs_coded_stats(const struct pgs_backing *backing, struct pgs_coded_stats *stats_ret);

/* Blobs in memory of this process, outside every budget: host RAM beside a small store, and
 * tests. It takes up to capacity_bytes, with what malloc adds. Errors: PGS_E_NOMEM. */
int pgs_blobs_ram(uint64_t page_count, uint32_t page_size, uint64_t capacity_bytes,
                  struct pgs_blobs *blobs_ret);

/* What a swap file is for (docs/SWAP.md). */
struct pgs_swap_shape {
    uint32_t struct_size; /* sizeof(struct pgs_swap_shape) */
    uint32_t page_size;
    uint64_t page_count;
    uint64_t base_address;
    uint32_t codec_id;    /* of the codec that blobs are coded with; 0: raw */
    uint32_t filter_id;
    uint32_t dict_size;
    uint32_t dict_xxh32;
    uint8_t owner[32];    /* whose pages these are, such as an image's SHA-256; or zeros */
};

enum pgs_swap_flag {
    PGS_SWAP_REPLACE = 1,  /* make it anew, whatever is there */
    PGS_SWAP_TEMPORARY = 2, /* nobody will open it again: nothing is done for that */
    PGS_SWAP_BUFFERED = 4  /* not O_DIRECT, even where it could be */
};

/* What pgs_blobs_swap found or made. */
struct pgs_swap_info {
    struct pgs_swap_shape shape; /* what the file says; struct_size 0: it is none */
    uint32_t format_version;
    uint32_t unit_size;     /* bytes in which its space is given out */
    uint64_t unit_count;
    uint32_t is_direct;     /* 1: O_DIRECT */
    uint32_t is_new;        /* 1: it was made just now */
    uint64_t page_count;    /* pages that it has */
    uint64_t torn_records;  /* beginnings of records that were not whole, when it was opened */
    uint64_t stale_records; /* records that newer ones had taken the place of */
};

/* Fills in the part of a shape that is the codec's. */
void pgs_swap_shape_codec(struct pgs_swap_shape *shape, const pgs_codec *codec);

/* A swap file: `fd`, a regular file or block device open for reading and writing, which is
 * duplicated and locked. An empty file is made one of size_bytes, all of it allocated; of a device,
 * size_bytes 0 takes all. Another file is opened as it is, if it is a swap file of
 * this shape, and size_bytes is not used; otherwise it is left alone, unless PGS_SWAP_REPLACE is
 * set. *info_ret is what it says even where it is refused.
 * Errors: PGS_E_INVALID, PGS_E_NOMEM, PGS_E_IO, PGS_E_FULL (the disk has no room for it, or
 * size_bytes is too small for a few pages), PGS_E_IN_USE, PGS_E_SWAP_FOREIGN,
 * PGS_E_SWAP_VERSION, PGS_E_SWAP_OTHER, PGS_E_CORRUPT (it says who it is, but its header is damaged). */
int pgs_blobs_swap(int fd, const struct pgs_swap_shape *shape, uint64_t size_bytes, uint32_t flags,
                   struct pgs_blobs *blobs_ret, struct pgs_swap_info *info_ret);

#endif
