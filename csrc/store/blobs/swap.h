/* SPDX-License-Identifier: MIT
 *
 * What the files of the swap file share. Order of locks: write_lock, held by who writes to the
 * file, for as long as that takes; then map_lock, for places and space, briefly.
 *
 * Nothing is overwritten in place. What a newer record took the place of is in limbo: its units
 * are not used again before the newer one is on the medium and its own header is cleared.
 */
#ifndef PGS_SWAP_H
#define PGS_SWAP_H

#include <pthread.h>

#include "store/blobs/swap_layout.h"
#include "store/blobs/swap_space.h"

enum { SWAP_ALIGN = 4096, LIMBO_MAX = 1024, READ_BUFFERS = 4 };

#define PLACE_NONE UINT32_MAX

struct swap_place {
    uint32_t unit; /* PLACE_NONE: the page has no blob */
    uint32_t units;
};

struct swap_limbo {
    struct swap_place place;
    uint64_t page_no;
};

struct swap {
    int fd;
    bool temporary; /* nobody opens it again: no clearing, no waiting for the medium */
    struct swap_header header;
    uint32_t units_max; /* of a record */
    uint64_t bay;       /* the last units_max units: where compaction sets a record down */
    bool bay_is_full;   /* one could not be taken from there again */

    pthread_mutex_t write_lock;
    uint64_t sequence; /* of the newest record */
    struct swap_limbo *limbo; /* LIMBO_MAX of them; a temporary file has none */
    uint32_t limbo_count;
    unsigned char *write_buffer, *zero_unit;
    size_t write_size;

    pthread_mutex_t map_lock;
    struct swap_place *places; /* of each page */
    struct swap_space space;

    pthread_mutex_t read_lock; /* of the buffers that are lent to readers */
    pthread_cond_t read_given;
    unsigned char *read_buffers[READ_BUFFERS];
    bool read_taken[READ_BUFFERS];
    size_t read_size;
};

/* swap_io.c: with write_lock */
static inline uint64_t swap_bytes(const struct swap *swap, uint64_t units)
{
    return units * swap->header.unit_size;
}

int swap_read_units(const struct swap *swap, uint64_t unit, uint64_t units, void *to);
int swap_write_units(const struct swap *swap, uint64_t unit, uint64_t units, const void *from);
/* Has what was written so far on the medium. */
int swap_sync(const struct swap *swap);
/* Makes the record at a place none. */
int swap_clear(const struct swap *swap, struct swap_place place);
/* Says where a page is from now on; its old place goes to limbo. */
int swap_settle(struct swap *swap, uint64_t page_no, struct swap_place place);
/* Puts a place into limbo. */
int swap_to_limbo(struct swap *swap, uint64_t page_no, struct swap_place place);
/* Frees all that is in limbo, once newer records are on the medium. */
int swap_leave_limbo(struct swap *swap);

/* swap_compact.c: with write_lock; moves records until `count` units are free together.
 * PGS_E_FULL where that cannot be. */
int swap_compact(struct swap *swap, uint32_t count);

/* swap_scan.c: finds all records of a file that was just opened. */
int swap_scan(struct swap *swap, struct pgs_swap_info *info);

/* blobs_swap.c */
void swap_free(struct swap *swap);
struct pgs_blobs swap_blobs(struct swap *swap);

#endif
