/* SPDX-License-Identifier: MIT
 *
 * A run of pages, upwards or downwards, in one word, so that threads can share and change it
 * without a lock: the first page's number, the way, and how many.
 */
#ifndef PGS_MAP_RUN_H
#define PGS_MAP_RUN_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t page_run;

enum { RUN_PAGES_MAX = 0xff, RUN_DOWN = 1 << 8, RUN_FROM_SHIFT = 32 };

#define EMPTY_RUN ((page_run)0)

/* Where the page behind so many lies. */
static inline uint64_t page_behind(uint64_t page_no, uint64_t count, bool down)
{
    return down ? page_no - count : page_no + count;
}

static inline page_run run_of(uint64_t from, uint32_t count, bool down)
{
    return count ? from << RUN_FROM_SHIFT | (down ? RUN_DOWN : 0) | count : EMPTY_RUN;
}

static inline uint64_t run_from(page_run run)
{
    return run >> RUN_FROM_SHIFT;
}

static inline uint32_t run_pages(page_run run)
{
    return run & RUN_PAGES_MAX;
}

static inline bool run_down(page_run run)
{
    return run & RUN_DOWN;
}

/* Without its first pages. */
static inline page_run run_after(page_run run, uint32_t pages)
{
    return pages < run_pages(run)
               ? run_of(page_behind(run_from(run), pages, run_down(run)), run_pages(run) - pages,
                        run_down(run))
               : EMPTY_RUN;
}

/* From this page on, if it has that one. */
static inline page_run run_at(page_run run, uint64_t page_no)
{
    uint64_t passed = run_down(run) ? run_from(run) - page_no : page_no - run_from(run);
    return passed < run_pages(run) ? run_after(run, (uint32_t)passed) : EMPTY_RUN;
}

#endif
