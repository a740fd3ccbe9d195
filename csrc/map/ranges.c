/* SPDX-License-Identifier: MIT */
#include "map/ranges.h"

#include <errno.h>
#include <sched.h>

enum { RANGES_MAX = 256 };

/* The rows are never freed, so anybody may look at any; a row's range stays as long
 * as the row has users. */
static struct row {
    struct range *_Atomic range;
    _Atomic unsigned users;
} rows[RANGES_MAX];
static _Atomic unsigned rows_used; /* those from here on were never used */

/* A child process may be forked at any moment, so no lock is taken; and it has users of rows that
 * were the parent's threads, who never leave: no row of its own may have these. */
int ranges_add(struct range *range)
{
    for (unsigned i = 0; i < RANGES_MAX; i++) {
        struct range *none = NULL;
        if (atomic_load(&rows[i].users) ||
            !atomic_compare_exchange_strong(&rows[i].range, &none, range))
            continue;
        unsigned used = atomic_load(&rows_used);
        while (used <= i && !atomic_compare_exchange_strong(&rows_used, &used, i + 1))
            ;
        return 0;
    }
    return EMFILE;
}

void ranges_remove(struct range *range)
{
    for (unsigned i = 0; i < RANGES_MAX; i++) {
        struct range *expected = range;
        if (!atomic_compare_exchange_strong(&rows[i].range, &expected, NULL))
            continue;
        /* A child process has the users of its parent's, but not their threads. */
        while (home_is_here(range->forks) && atomic_load(&rows[i].users))
            sched_yield();
    }
}

/* A child process has the rows of its parent's ranges, and may have others at their addresses. */
static bool overlaps(const struct range *range, uintptr_t address, size_t size)
{
    uintptr_t base = (uintptr_t)range->base;
    return home_is_here(range->forks) && address < base + range->size && base < address + size;
}

static struct range *enter_any(uintptr_t address, size_t size, unsigned *row_ret)
{
    unsigned used = atomic_load(&rows_used);
    for (unsigned i = 0; i < used; i++) {
        atomic_fetch_add(&rows[i].users, 1);
        struct range *range = atomic_load(&rows[i].range);
        if (range && overlaps(range, address, size)) {
            *row_ret = i;
            return range;
        }
        ranges_leave(i);
    }
    return NULL;
}

struct range *ranges_enter(uintptr_t address, unsigned *row_ret)
{
    return enter_any(address, 1, row_ret);
}

void ranges_leave(unsigned row)
{
    atomic_fetch_sub(&rows[row].users, 1);
}

bool range_has_any(const void *bytes, size_t size)
{
    unsigned row;
    if (!bytes || !size || !enter_any((uintptr_t)bytes, size, &row))
        return false;
    ranges_leave(row);
    return true;
}
