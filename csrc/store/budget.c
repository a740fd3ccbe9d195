/* SPDX-License-Identifier: MIT
 *
 * One number, used_bytes, is charged before RAM is taken and credited after
 * it is given back: it is never above the budget.
 */
#include "store/store_internal.h"

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

bool budget_has(const pgs_store *store, uint64_t bytes)
{
    return load(&store->used_bytes) + bytes <= load(&store->budget_bytes);
}

uint64_t budget_for_pages(const pgs_store *store)
{
    uint64_t budget = load(&store->budget_bytes), metadata = load(&store->metadata_bytes);
    return budget > metadata ? budget - metadata : 0; /* less in mid set_budget only */
}

/* Of what metadata and held frames leave: a share of what cannot move would be taken
 * from the frames that can. */
uint64_t budget_pool_share(const pgs_store *store)
{
    uint64_t pages = budget_for_pages(store);
    uint64_t held = atomic_load_explicit(&store->held_frames, memory_order_relaxed) *
                    (uint64_t)store->page_size;
    return pages > held ? (pages - held) / 100 * store->pool_percent : 0;
}

uint64_t pool_over_share(const pgs_store *store, uint64_t more)
{
    uint64_t taken = load(&store->pool.committed_bytes) + more, share = budget_pool_share(store);
    return taken > share ? taken - share : 0;
}

bool budget_charge(pgs_store *store, uint64_t bytes)
{
    uint64_t used = load(&store->used_bytes);
    do {
        if (used + bytes > load(&store->budget_bytes))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&store->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    uint64_t now = used + bytes, most = load(&store->used_bytes_max);
    while (most < now &&
           !atomic_compare_exchange_weak_explicit(&store->used_bytes_max, &most, now,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    return true;
}

void budget_uncharge(pgs_store *store, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&store->used_bytes, bytes, memory_order_relaxed);
}

/* Gives up the cheapest RAM there is: holes of the pool, then a frame, then a
 * compressed page. False where nothing can go. */
static bool shrink_once(pgs_store *store, struct worker *worker)
{
    uint64_t before = load(&store->used_bytes);
    if (pool_is_loose(&store->pool)) {
        pool_compact(&store->pool, 2);
        if (load(&store->used_bytes) < before)
            return true;
    }
    if (frames_shrink(store, worker))
        return true;
    if (!pool_make_room(store, worker))
        return false;
    pool_compact(&store->pool, 0);
    return true;
}

int budget_make_room(pgs_store *store, struct worker *worker, uint64_t bytes)
{
    while (!budget_charge(store, bytes))
        if (!shrink_once(store, worker))
            return PGS_E_BUDGET;
    return PGS_OK;
}

int metadata_charge(pgs_store *store, struct worker *worker, uint64_t bytes)
{
    int error = budget_make_room(store, worker, bytes);
    if (!error)
        atomic_fetch_add_explicit(&store->metadata_bytes, bytes, memory_order_relaxed);
    return error;
}

void metadata_uncharge(pgs_store *store, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&store->metadata_bytes, bytes, memory_order_relaxed);
    budget_uncharge(store, bytes);
}

int pgs_store_set_budget(pgs_store *store, uint64_t budget_bytes)
{
    uint64_t old = load(&store->budget_bytes);
    if (budget_bytes > store->budget_limit)
        return PGS_E_INVALID;
    struct worker *worker;
    int error = change_begin(store, &worker);
    if (error)
        return error;
    atomic_store(&store->budget_bytes, budget_bytes);
    while (!error && load(&store->used_bytes) > budget_bytes)
        if (!shrink_once(store, worker))
            error = PGS_E_BUDGET;
    if (error)
        atomic_store(&store->budget_bytes, old);
    change_end(store, worker);
    return error;
}
