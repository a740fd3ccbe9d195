/* SPDX-License-Identifier: MIT
 *
 * S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction",
 * SOSP 2023), with queues for each level: new pages pass a small queue and reach the
 * main one only if used again; the main queue is a clock. The ghost queue of
 * the paper is the stamp in a page's entry.
 *
 * A level's candidate is the oldest arrival that was not used since it was
 * last looked at; among the levels the greatest weighted idle time decides. So
 * the victim's is not the greatest of all: over the recorded boot it is above a
 * 16th of that in two evictions of three, and above a 256th in 97 of a
 * hundred and more (bench/bench_levels.py, PGS_STORE_AUDIT).
 */
#include "store/evict_policy.h"

enum { SMALL = 0, MAIN = 1, SMALL_SHARE = 10 /* the small queue: a tenth */ };

static void insert(struct evict_queue *queue, uint32_t frame, bool ghost)
{
    list_push(queue, frame, ghost ? MAIN : SMALL);
}

static void move(struct evict_queue *queue, uint32_t frame, uint8_t uses)
{
    list_remove(queue, frame);
    list_push(queue, frame, MAIN);
    atomic_store_explicit(&queue->frames[frame].uses, uses, memory_order_relaxed);
}

/* A tenth of all pages, not of a level's: else a level with few pages would keep its
 * newest for as long as one with many. */
static bool small_is_full(const struct evict_queue *queue)
{
    return queue->counts[SMALL] * SMALL_SHARE >= queue->counts[SMALL] + queue->counts[MAIN];
}

static uint32_t candidate(struct evict_queue *queue, unsigned level)
{
    struct frame_list *lists = queue->lists[level];
    for (;;) {
        if (lists[SMALL].count + lists[MAIN].count == 0)
            return NO_FRAME;
        bool small = lists[SMALL].count > 0 && (small_is_full(queue) || lists[MAIN].count == 0);
        uint32_t frame = lists[small ? SMALL : MAIN].tail;
        uint8_t uses = atomic_load_explicit(&queue->frames[frame].uses, memory_order_relaxed);
        if (small && uses > 1)
            move(queue, frame, 0);
        else if (!small && uses > 0)
            move(queue, frame, uses - 1);
        else
            return frame;
    }
}

const struct evict_policy evict_s3fifo = {
    .orders_hits = false, .insert = insert, .used = 0, .candidate = candidate};
