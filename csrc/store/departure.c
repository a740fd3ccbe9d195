/* SPDX-License-Identifier: MIT
 *
 * Eviction: the policy chooses among the pages that may go, and the first whose
 * bytes find a place leaves.
 */
#include "store/store_internal.h"

enum { STAYS_MAX = 64, /* pages without room that are tried for one frame */
       NO_VICTIM = 2 };

struct departure {
    pgs_store *store;
    struct worker *worker;
    uint32_t guarded; /* a page is safe for so many faults of its thread */
    uint32_t stays;
    uint32_t stayed[STAYS_MAX]; /* tried already */
};

static struct page *page_in_frame(pgs_store *store, uint32_t frame)
{
    const struct frame *row = &store->frames[frame];
    return page_entry(object_of(store, row->object), row->page_no);
}

static bool has_stayed(const struct departure *departure, uint32_t frame)
{
    for (uint32_t i = 0; i < departure->stays; i++)
        if (departure->stayed[i] == frame)
            return true;
    return false;
}

static bool claim_victim(void *ctx, uint32_t frame)
{
    const struct departure *departure = ctx;
    pgs_store *store = departure->store;
    const struct frame *row = &store->frames[frame];
    uint32_t seq = atomic_load_explicit(&store->workers[row->guard_worker].fault_seq,
                                        memory_order_relaxed);
    return seq - row->guard_seq >= departure->guarded && !has_stayed(departure, frame) &&
           page_try_claim(page_in_frame(store, frame));
}

/* Holds a victim against what must never leave: what is held, and what this
 * thread has just faulted in. */
static void audit(const struct job *job, const struct frame *row)
{
    uint32_t seq = atomic_load_explicit(&job->worker->fault_seq, memory_order_relaxed);
    if (page_is_held(page_load(job->page)))
        atomic_fetch_add_explicit(&job->store->held_victims, 1, memory_order_relaxed);
    if (row->guard_worker == job->worker->index && row->guard_seq == seq)
        atomic_fetch_add_explicit(&job->store->fresh_victims, 1, memory_order_relaxed);
}

/* Has the policy's choice leave. 1: *frame_ret is free; 0: its RAM went to
 * the pool; an error: it stays, as it is dirty and there is no room for it. */
static int evict_frame(pgs_store *store, struct worker *worker, uint32_t frame,
                       uint32_t *frame_ret)
{
    const struct frame *row = &store->frames[frame];
    struct job job = {.store = store, .worker = worker, .object = object_of(store, row->object),
                      .page = page_in_frame(store, frame), .object_no = row->object,
                      .page_no = row->page_no};
    *frame_ret = frame;
    /* The verifier evicts what has just come on purpose. */
    if ((store->flags & (PGS_STORE_AUDIT | PGS_STORE_VERIFY)) == PGS_STORE_AUDIT)
        audit(&job, row);
    frame_in_hand(store);
    int error = page_leave(&job, frame_ret);
    if (error) {
        evict_insert(store->queue, frame, (uint32_t)clock_of(store), true);
        frame_off_hand(store);
        page_publish(store, job.page, 0, 0);
        return error;
    }
    maps_age(store);
    return *frame_ret != NO_FRAME;
}

/* Has the policy's choice leave: as evict_frame, or NO_VICTIM. */
static int evict_next(struct departure *departure, uint32_t *frame_ret)
{
    pgs_store *store = departure->store;
    if (departure->stays == STAYS_MAX)
        return NO_VICTIM;
    uint32_t frame = evict_victim(store->queue, (uint32_t)clock_of(store), claim_victim, departure);
    if (frame == NO_FRAME)
        return NO_VICTIM;
    int left = evict_frame(store, departure->worker, frame, frame_ret);
    if (left < 0)
        departure->stayed[departure->stays++] = frame;
    return left;
}

bool evict_one(pgs_store *store, struct worker *worker, uint32_t *frame_ret)
{
    /* At first no page that a thread has just faulted in goes; then none but
     * the last; then the last of threads that fault no more as well. */
    const uint32_t guards[] = {GUARDED_FAULTS, 1, 0};
    struct departure departure = {.store = store, .worker = worker};
    for (unsigned i = 0; i < sizeof guards / sizeof *guards; i++) {
        int left;
        departure.guarded = guards[i];
        while ((left = evict_next(&departure, frame_ret)) != NO_VICTIM)
            if (left > 0)
                return true;
    }
    return false;
}

void evict_all(pgs_store *store, struct worker *worker)
{
    struct departure departure = {.store = store, .worker = worker};
    uint32_t frame, frames = atomic_load_explicit(&store->frame_count, memory_order_relaxed);
    /* Others may fault meanwhile: as many as there are frames will do. */
    for (uint32_t i = 0; i < frames; i++) {
        int left = evict_next(&departure, &frame);
        if (left == NO_VICTIM)
            break;
        if (left > 0)
            frame_give(store, frame);
    }
}
