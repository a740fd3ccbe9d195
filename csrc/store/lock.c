/* SPDX-License-Identifier: MIT
 *
 * The order of locks, learnt as Linux's lockdep does (kernel documentation,
 * "Runtime locking correctness validator"): an edge from each lock that is held
 * to the one that is taken. Where a new edge would close a ring, some two
 * threads could wait for each other for ever; it is refused the first time it
 * is seen, whether they do or not. A page-in is one more lock, so that a ring
 * through the pager is found like any other.
 */
#include "store/lock.h"

#include "store/section.h"
#include "store/store_internal.h"

static uint64_t after(const struct lock_order *order, uint32_t lock)
{
    return atomic_load_explicit(&order->after[lock], memory_order_relaxed);
}

/* Whether ranks forbid `lock` after `held`. */
static bool ranks_fall(const struct lock_order *order, uint32_t held, uint32_t lock)
{
    return order->ranks[held] && order->ranks[lock] && order->ranks[lock] <= order->ranks[held];
}

/* The shortest chain of locks, each seen to be taken after the one before, from
 * `first` to `last`: how many, 0 where there is none. */
static size_t find_chain(const struct lock_order *order, uint32_t first, uint32_t last,
                         uint32_t *chain)
{
    uint8_t before[PGS_LOCK_COUNT_MAX], line[PGS_LOCK_COUNT_MAX];
    uint64_t seen = (uint64_t)1 << first;
    size_t done = 0, found = 1;
    line[0] = (uint8_t)first;
    while (done < found && !(seen >> last & 1)) {
        uint32_t lock = line[done++];
        uint64_t next = after(order, lock) & ~seen;
        for (; next; next &= next - 1) {
            uint8_t each = (uint8_t)__builtin_ctzll(next);
            before[each] = (uint8_t)lock;
            line[found++] = each;
        }
        seen |= after(order, lock);
    }
    if (!(seen >> last & 1))
        return 0;
    size_t count = 1;
    for (uint32_t lock = last; lock != first; lock = before[lock])
        count++;
    uint32_t lock = last;
    for (size_t i = count; i > 0; i--) {
        chain[i - 1] = lock;
        lock = i > 1 ? before[lock] : lock;
    }
    return count;
}

/* What speaks against taking `lock` after `held`: a chain from the one to the
 * other; 0 where nothing does. */
static size_t conflict(const struct lock_order *order, uint32_t held, uint32_t lock,
                       uint32_t *chain)
{
    if (held != lock && ranks_fall(order, held, lock)) {
        chain[0] = lock;
        chain[1] = held;
        return 2;
    }
    return find_chain(order, lock, held, chain);
}

/* What the thread holds, as the order sees it. An atomic section must not wait for a
 * page-in, and so not for who holds a lock and waits for one: as if it were one. */
static size_t locks_held(const struct section *section, uint32_t lock, uint32_t *held)
{
    size_t count = 0;
    if (lock != PGS_LOCK_PAGE_IN && (section_is(section, PGS_SECTION_ATOMIC) ||
                                     section_in_page_in(section, section->store)))
        held[count++] = PGS_LOCK_PAGE_IN;
    for (uint32_t i = 0; i < section->held_count; i++)
        held[count++] = section->held[i];
    return count;
}

/* Notes that `lock` is taken after all that the thread holds, unless that closes a ring:
 * then nothing is noted. */
static int note(const struct section *section, uint32_t lock)
{
    struct lock_order *order = &section->store->lock_order;
    uint32_t chain[PGS_LOCK_COUNT_MAX], held[PGS_LOCKS_HELD_MAX + 1];
    uint64_t bit = (uint64_t)1 << lock;
    size_t count = locks_held(section, lock, held), known = 0;
    while (known < count && (after(order, held[known]) & bit))
        known++;
    if (known == count)
        return PGS_OK;
    int error = PGS_OK;
    pthread_mutex_lock(&order->lock);
    for (size_t i = 0; i < count && !error; i++)
        if (conflict(order, held[i], lock, chain))
            error = PGS_E_LOCK_ORDER;
    for (size_t i = 0; i < count && !error; i++)
        atomic_fetch_or_explicit(&order->after[held[i]], bit, memory_order_relaxed);
    pthread_mutex_unlock(&order->lock);
    return error;
}

int lock_may_fault(const struct section *section)
{
    return note(section, PGS_LOCK_PAGE_IN);
}

int pgs_lock_add(pgs_store *store, uint32_t rank, uint32_t *lock_ret)
{
    struct lock_order *order = &store->lock_order;
    pthread_mutex_lock(&order->lock);
    bool room = order->count < PGS_LOCK_COUNT_MAX;
    if (room) {
        order->ranks[order->count] = rank;
        *lock_ret = order->count++;
    }
    pthread_mutex_unlock(&order->lock);
    return room ? PGS_OK : PGS_E_INVALID;
}

int pgs_lock_taking(pgs_store *store, uint32_t lock)
{
    struct section *section;
    if (lock == PGS_LOCK_PAGE_IN || lock >= store->lock_order.count)
        return PGS_E_INVALID;
    int error = section_open(store, &section);
    if (error)
        return error;
    error = section->held_count < PGS_LOCKS_HELD_MAX ? note(section, lock) : PGS_E_INVALID;
    if (!error) {
        if (!section_promises(section) && !section_in_backing(store))
            verify_evict(store, NULL);
        section->held[section->held_count++] = (uint8_t)lock;
    }
    section_close(section);
    return error;
}

int pgs_lock_dropped(pgs_store *store, uint32_t lock)
{
    struct section *section = section_find(store);
    uint32_t i = section ? section->held_count : 0;
    while (i > 0 && section->held[i - 1] != lock)
        i--;
    if (i == 0)
        return PGS_E_INVALID;
    section->held_count--;
    for (; i <= section->held_count; i++)
        section->held[i - 1] = section->held[i];
    section_close(section);
    return PGS_OK;
}

void pgs_lock_conflict(pgs_store *store, uint32_t lock, uint32_t *chain_ret, size_t count_max,
                       size_t *count_ret)
{
    struct lock_order *order = &store->lock_order;
    const struct section *section = section_find(store);
    struct section none = {.store = store};
    uint32_t chain[PGS_LOCK_COUNT_MAX], held[PGS_LOCKS_HELD_MAX + 1];
    size_t count = 0, held_count = locks_held(section ? section : &none, lock, held);
    pthread_mutex_lock(&order->lock);
    for (size_t i = 0; lock < order->count && i < held_count && !count; i++)
        count = conflict(order, held[i], lock, chain);
    pthread_mutex_unlock(&order->lock);
    *count_ret = count < count_max ? count : count_max;
    for (size_t i = 0; i < *count_ret; i++)
        chain_ret[i] = chain[i];
}
