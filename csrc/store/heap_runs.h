/* SPDX-License-Identifier: MIT
 *
 * Which bytes of a heap are whose: a row of runs of granules, each one block
 * or free, with nothing between them. It knows no bytes and no locks; all it
 * needs lies in its own table, of which a record costs RUN_BYTES.
 *
 * The smallest free run that fits is taken (best fit); of equal ones the first.
 */
#ifndef PGS_HEAP_RUNS_H
#define PGS_HEAP_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NO_RUN UINT32_MAX

enum {
    GRANULE = 16,  /* bytes */
    RUN_BYTES = 32,
    RUNS_STEP = 128, /* records that are paid for at a time: 4 KiB */
    RUNS_SPLIT = 2   /* records that a split may need */
};

enum run_state {
    RUN_SPARE = 0, /* a record that stands for nothing */
    RUN_FREE,
    RUN_USED,
    RUN_SETTLING /* freed, but nobody's yet: its pages are still being given back */
};

struct run {
    uint32_t start, length; /* granules */
    uint32_t prev, next;    /* neighbours by address; `next` of a spare record: the next spare */
    union {
        struct {
            uint32_t left, right; /* RUN_FREE: its place in the tree */
        };
        uint64_t size_bytes; /* RUN_USED: as it was asked for */
    };
    uint32_t generation; /* how many blocks this record has stood for, plus 1 */
    uint32_t state;      /* enum run_state */
};
_Static_assert(sizeof(struct run) == RUN_BYTES, "as the table is paid for");

struct runs {
    struct run *table;
    uint64_t table_bytes; /* of addresses; what is not used takes no RAM */
    uint32_t ready;       /* records that are paid for */
    uint32_t fresh;       /* of them, were ever used */
    uint32_t spare, spare_count;
    uint32_t root; /* of the tree of free runs, by length, then start: a treap */
    uint64_t free_granules;
    uint32_t free_count;
};

/* Makes one free run of `granules`. False: the system has no addresses left.
 * Nothing is paid for: RUNS_STEP records must be before it is used. */
bool runs_init(struct runs *runs, uint32_t granules);
void runs_start(struct runs *runs, uint32_t granules);
void runs_deinit(struct runs *runs);

/* Fewer records are ready than a split may need: pay for RUNS_STEP more. */
bool runs_short(const struct runs *runs);

/* Takes `length` granules that begin at a multiple of `align` granules. NO_RUN
 * only where no free run can hold them. Needs !runs_short. */
uint32_t runs_take(struct runs *runs, uint32_t length, uint32_t align);

/* Joins a run, which is in no tree, with the free runs beside it; it stays itself. */
void runs_join(struct runs *runs, uint32_t run);

/* Makes a joined run free to be taken. */
void runs_put(struct runs *runs, uint32_t run);

/* Granules of the longest free run. */
uint32_t runs_longest(const struct runs *runs);

#endif
