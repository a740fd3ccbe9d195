/* SPDX-License-Identifier: MIT
 *
 * Least recently used, exactly, one list a level: the control. Its victim has
 * the greatest weighted idle time of all, without approximation.
 */
#include "store/evict_policy.h"

void lru_insert(struct evict_queue *queue, uint32_t frame, bool ghost)
{
    (void)ghost;
    list_push(queue, frame, 0);
}

void lru_used(struct evict_queue *queue, uint32_t frame)
{
    if (queue->lists[queue->frames[frame].level][0].head == frame)
        return;
    list_remove(queue, frame);
    list_push(queue, frame, 0);
}

static uint32_t candidate(struct evict_queue *queue, unsigned level)
{
    return queue->lists[level][0].tail;
}

const struct evict_policy evict_lru = {
    .orders_hits = true, .insert = lru_insert, .used = lru_used, .candidate = candidate};
