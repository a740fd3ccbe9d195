/* SPDX-License-Identifier: MIT
 *
 * Frames lie in one reserved range of addresses. MIN_FRAMES of them keep
 * their RAM for good, so that an access never fails for want of a frame that
 * the pool has taken.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "store/store_internal.h"

enum { BALANCE_STEPS = 3 }; /* three compressed pages are about one frame */

void frames_deinit(pgs_store *store)
{
    if (store->arena)
        munmap(store->arena, (size_t)store->frame_limit * store->page_size);
    free(store->frames);
}

static bool pop(pgs_store *store, uint32_t *list, uint32_t *frame_ret)
{
    if (*list == NO_FRAME)
        return false;
    *frame_ret = *list;
    *list = store->frames[*list].next;
    return true;
}

static bool frame_take_ready(pgs_store *store, uint32_t *frame_ret)
{
    pthread_mutex_lock(&store->frame_lock);
    bool found = pop(store, &store->ready_frame, frame_ret);
    if (found)
        frame_in_hand(store);
    pthread_mutex_unlock(&store->frame_lock);
    return found;
}

/* Frames smaller than a page of the system share one: their RAM cannot be
 * given back frame by frame, so the pool's share is kept free of them. */
static bool frames_have_own_ram(const pgs_store *store)
{
    return store->page_size >= store->pool.os_page;
}

static bool leaves_pool_its_share(const pgs_store *store)
{
    uint64_t count = atomic_load_explicit(&store->frame_count, memory_order_relaxed);
    return (count + 1) * store->page_size + budget_pool_share(store) <= budget_for_pages(store);
}

/* A frame without RAM, which is paid for here; and its row in the table, which
 * takes none before it is first used. */
static bool take_spare(pgs_store *store, uint32_t *frame_ret)
{
    bool found = false;
    if (!frames_have_own_ram(store) && !leaves_pool_its_share(store))
        return false;
    pthread_mutex_lock(&store->frame_lock);
    if (budget_charge(store, store->page_size)) {
        found = pop(store, &store->spare_frame, frame_ret);
        if (!found && store->next_frame < store->frame_limit &&
            budget_charge(store, sizeof(struct frame))) {
            atomic_fetch_add_explicit(&store->metadata_bytes, sizeof(struct frame),
                                      memory_order_relaxed);
            *frame_ret = store->next_frame++;
            store->frames[*frame_ret].place = FRAME_BARE;
            found = true;
        }
        if (!found)
            budget_uncharge(store, store->page_size);
    }
    if (found) {
        atomic_fetch_add_explicit(&store->frame_count, 1, memory_order_relaxed);
        frame_in_hand(store);
    }
    pthread_mutex_unlock(&store->frame_lock);
    return found;
}

int frames_init(pgs_store *store)
{
    size_t arena_bytes = (size_t)store->frame_limit * store->page_size;
    store->frames = calloc(store->frame_limit, sizeof *store->frames);
    if (!store->frames)
        return PGS_E_NOMEM;
    void *arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        return PGS_E_NOMEM;
    store->arena = arena;
    /* A huge page would be RAM that nobody has charged. */
    madvise(arena, arena_bytes, MADV_NOHUGEPAGE);
    for (uint32_t i = 0; i < MIN_FRAMES; i++) {
        uint32_t frame;
        if (!take_spare(store, &frame))
            return PGS_E_BUDGET;
        frame_give(store, frame);
    }
    return PGS_OK;
}

bool frame_take_free(pgs_store *store, uint32_t *frame_ret)
{
    return frame_take_ready(store, frame_ret) || take_spare(store, frame_ret);
}

/* Dirty pages may have driven the pool over its share: clean ones make up for
 * it, a few at a time; when they have left holes enough, frames get the RAM. */
static void restore_balance(pgs_store *store, struct worker *worker)
{
    if (!frames_have_own_ram(store) || pool_over_share(store, 0) == 0)
        return;
    for (int i = 0; i < BALANCE_STEPS; i++)
        if (!pool_make_room(store, worker))
            return;
}

int frame_take(pgs_store *store, struct worker *worker, uint32_t *frame_ret)
{
    if (frame_take_free(store, frame_ret))
        return PGS_OK;
    restore_balance(store, worker);
    /* Frames in other threads' hands come back in microseconds. */
    for (int patience = 0; patience < FRAME_PATIENCE; patience++) {
        uint32_t others = atomic_load_explicit(&store->frames_in_hand, memory_order_relaxed);
        if (frame_take_free(store, frame_ret) || evict_one(store, worker, frame_ret))
            return PGS_OK;
        if (others == 0)
            break;
        sched_yield();
    }
    return PGS_E_BUDGET;
}

void frame_give(pgs_store *store, uint32_t frame)
{
    frame_vacate(store, frame);
    pthread_mutex_lock(&store->frame_lock);
    store->frames[frame].next = store->ready_frame;
    store->ready_frame = frame;
    frame_off_hand(store);
    pthread_mutex_unlock(&store->frame_lock);
}

/* Beside those that are held, MIN_FRAMES remain for the others. */
static uint32_t frames_needed(const pgs_store *store)
{
    return MIN_FRAMES + atomic_load_explicit(&store->held_frames, memory_order_relaxed);
}

int frames_reserve(pgs_store *store, struct worker *worker)
{
    uint32_t frame;
    while (atomic_load_explicit(&store->frame_count, memory_order_relaxed) <
           frames_needed(store)) {
        if (take_spare(store, &frame)) {
            frame_give(store, frame);
        } else {
            if (!pool_make_room(store, worker))
                return PGS_E_BUDGET;
            pool_compact(&store->pool, 0);
        }
    }
    return PGS_OK;
}

/* Gives up a frame's RAM in three steps, so that it can go to the pool without
 * anybody else taking it in between: part (may it go?), then parted, with the
 * bytes of its charge that are to be credited, or keep. */
bool frame_part(pgs_store *store, uint32_t frame)
{
    uint32_t count = atomic_load_explicit(&store->frame_count, memory_order_relaxed);
    if (frame == NO_FRAME || !frames_have_own_ram(store))
        return false;
    do {
        if (count <= frames_needed(store))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&store->frame_count, &count, count - 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void frame_parted(pgs_store *store, uint32_t frame, uint64_t credit)
{
    frame_vacate(store, frame);
    if (!(store->frames[frame].place & FRAME_BARE))
        madvise(frame_bytes(store, frame), store->page_size, MADV_DONTNEED);
    store->frames[frame].place = FRAME_BARE;
    pthread_mutex_lock(&store->frame_lock);
    store->frames[frame].next = store->spare_frame;
    store->spare_frame = frame;
    frame_off_hand(store);
    pthread_mutex_unlock(&store->frame_lock);
    budget_uncharge(store, credit);
}

void frame_keep(pgs_store *store)
{
    atomic_fetch_add_explicit(&store->frame_count, 1, memory_order_relaxed);
}

bool frames_shrink(pgs_store *store, struct worker *worker)
{
    uint32_t frame;
    if (!frames_have_own_ram(store) ||
        atomic_load_explicit(&store->frame_count, memory_order_relaxed) <= frames_needed(store))
        return false;
    if (!frame_take_ready(store, &frame) && !evict_one(store, worker, &frame))
        return false;
    if (!frame_part(store, frame)) {
        frame_give(store, frame);
        return false;
    }
    frame_parted(store, frame, store->page_size);
    return true;
}
