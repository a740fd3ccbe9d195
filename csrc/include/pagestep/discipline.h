/* SPDX-License-Identifier: MIT
 *
 * The discipline: stretches in which a thread must not fault, and locks whose
 * order is watched, so that what could deadlock a page-in is an error the
 * first time it is seen, and not a deadlock some day.
 *
 * Sections and held locks belong to the thread that begins them, in one store.
 * A thread must end its sections and drop its locks before it ends.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_DISCIPLINE_H
#define PAGESTEP_DISCIPLINE_H

#include "pagestep/store.h"

enum pgs_section_kind {
    /* No fault, and nothing that may wait for one. A read or write of a page that
     * is in no frame, or on its way, is PGS_E_WOULD_FAULT at once. What moves pages,
     * pins them or changes levels or the budget is PGS_E_ATOMIC; only pgs_unpin, and
     * pgs_view of a page that is held already, may be called. A held page that another
     * thread writes to is waited for: that is a copy. */
    PGS_SECTION_ATOMIC = 0,
    /* The thread is the pager: what page-ins wait for. A page that can leave its
     * frame, being neither pinned nor of level PINNED, is PGS_E_PAGER whether it is
     * in a frame just now or not. */
    PGS_SECTION_PAGER = 1,
    PGS_SECTION_KIND_COUNT = 2
};

/* Begins a section; sections nest, and are counted by kind. To the order of locks an
 * atomic section is like a page-in: what is taken in one must not be held across a fault.
 * With
 * PGS_STORE_VERIFY every page that may leave its frame does so first. Errors:
 * PGS_E_INVALID (kind), PGS_E_NOMEM, PGS_E_REENTRY. */
int pgs_section_begin(pgs_store *store, uint32_t kind);

/* Ends the section of that kind that was begun last. PGS_E_INVALID where this
 * thread is in none. */
int pgs_section_end(pgs_store *store, uint32_t kind);

/* A page-in, as the order of locks sees it: what faults while it holds a lock
 * takes the page-in after the lock; what a backing, or a pager section, takes, it
 * takes after the page-in. */
enum pgs_lock_name { PGS_LOCK_PAGE_IN = 0, PGS_LOCK_COUNT_MAX = 64, PGS_LOCKS_HELD_MAX = 16 };

/* Makes a lock known; *lock_ret is its number. Locks of a rank other than 0 must be
 * taken in rising order of ranks; the order of others is learnt. Several locks that
 * are used alike may share one number. PGS_E_INVALID: there are 64 already. */
int pgs_lock_add(pgs_store *store, uint32_t rank, uint32_t *lock_ret);

/* Says that this thread is about to wait for a lock. PGS_E_LOCK_ORDER where that, and
 * what was seen before, could deadlock: it must not be taken then, and does not count
 * as held. So does a fault of a thread that holds a lock which a page-in may take.
 * With PGS_STORE_VERIFY every page that may leave its frame does so first.
 * Errors: PGS_E_INVALID (no such lock, or 16 are held), PGS_E_NOMEM. */
int pgs_lock_taking(pgs_store *store, uint32_t lock);

/* Says that it was dropped again. PGS_E_INVALID where this thread does not hold it. */
int pgs_lock_dropped(pgs_store *store, uint32_t lock);

/* Says why this thread could not take `lock` now; PGS_LOCK_PAGE_IN: why it could not
 * fault. chain_ret are locks in an order in which they were seen to be taken, or in
 * which their ranks put them: the first is `lock`, the last one that this thread holds.
 * To take `lock` after that would close the chain to a ring. *count_ret is how many
 * there are, at most `count_max`; 0 where nothing speaks against it. */
void pgs_lock_conflict(pgs_store *store, uint32_t lock, uint32_t *chain_ret, size_t count_max,
                       size_t *count_ret);

#endif
