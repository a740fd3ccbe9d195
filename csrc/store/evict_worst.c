/* SPDX-License-Identifier: MIT
 *
 * The page of least weighted idle time, as a rule the one used last: exactly what
 * LRU would keep longest. A verifier's order; a program in a loop over more pages
 * than there are frames is the only one that it serves well.
 */
#include "store/evict_policy.h"

static uint32_t choose(struct evict_queue *queue, uint32_t clock)
{
    uint32_t best = NO_FRAME;
    uint64_t best_idle = UINT64_MAX;
    for (unsigned level = PGS_LEVEL_PINNED + 1; level < PGS_LEVEL_COUNT; level++) {
        uint32_t frame = queue->lists[level][0].head;
        uint64_t idle = frame == NO_FRAME ? UINT64_MAX : evict_weighted_idle(queue, frame, clock);
        if (idle < best_idle) {
            best = frame;
            best_idle = idle;
        }
    }
    return best;
}

const struct evict_policy evict_worst = {
    .orders_hits = true, .insert = lru_insert, .used = lru_used, .choose = choose};
