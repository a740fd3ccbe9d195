/* SPDX-License-Identifier: MIT
 *
 * What a thread has promised in a store: atomic and pager sections, held locks;
 * and whether it is in a backing's function just now. The only state that
 * belongs to a thread and not to a store.
 */
#ifndef PGS_SECTION_H
#define PGS_SECTION_H

#include <stdbool.h>

#include "pagestep/discipline.h"

struct worker;
struct page;

struct section {
    struct section *outer; /* this thread's in another store */
    pgs_store *store;
    struct worker *worker; /* while atomic: all calls of the thread use it; its own */
    uint32_t depth[PGS_SECTION_KIND_COUNT];
    uint32_t held_count;
    uint8_t held[PGS_LOCKS_HELD_MAX];
};

/* This thread's in this store, or NULL. */
struct section *section_find(const pgs_store *store);

static inline bool section_is(const struct section *section, enum pgs_section_kind kind)
{
    return section && section->depth[kind] > 0;
}

/* Whether the thread has promised anything that evicting pages on its behalf, as the
 * verifier does, could be against. */
static inline bool section_promises(const struct section *section)
{
    return section && (section->held_count || section->depth[PGS_SECTION_ATOMIC] ||
                       section->depth[PGS_SECTION_PAGER]);
}

/* Any call: PGS_E_REENTRY in a backing of the store's own, PGS_E_FORKED in a child process. */
int section_may_be(const pgs_store *store);

/* What may wait for the store's locks: PGS_E_ATOMIC or PGS_E_REENTRY where it must not. */
int section_may_wait(const pgs_store *store);

/* What may have to wait for a page-in as well, or for a page-out: PGS_E_LOCK_ORDER where
 * a lock is held that these take. */
int section_may_page(const pgs_store *store);

/* Lies on the stack of whoever calls a function of a backing. */
struct backing_call {
    const pgs_store *store;
    const struct backing_call *outer;
};
void backing_call_begin(struct backing_call *call, const pgs_store *store);
void backing_call_end(const struct backing_call *call);

/* Whether this thread is in a function of a backing of this store. */
bool section_in_backing(const pgs_store *store);

/* lock.c: whether the thread may fault, for all the locks that it holds. */
int lock_may_fault(const struct section *section);
/* The thread is the pager just now. */
bool section_in_page_in(const struct section *section, const pgs_store *store);

#endif
