/* SPDX-License-Identifier: MIT
 *
 * Any page, each as likely as another, the same ones in every run: a verifier's
 * order, for what relies on which page leaves next.
 */
#include "store/evict_policy.h"

/* xorshift64 (Marsaglia, "Xorshift RNGs", 2003). */
static uint64_t next_noise(struct evict_queue *queue)
{
    queue->noise ^= queue->noise << 13;
    queue->noise ^= queue->noise >> 7;
    queue->noise ^= queue->noise << 17;
    return queue->noise;
}

static uint32_t choose(struct evict_queue *queue, uint32_t clock)
{
    uint32_t total = 0;
    (void)clock;
    for (unsigned level = 0; level < PGS_LEVEL_COUNT; level++)
        total += queue->lists[level][0].count;
    if (total == 0)
        return NO_FRAME;
    uint32_t place = (uint32_t)(next_noise(queue) % total);
    unsigned level = 0;
    for (; place >= queue->lists[level][0].count; level++)
        place -= queue->lists[level][0].count;
    uint32_t frame = queue->lists[level][0].head;
    for (; place > 0; place--)
        frame = queue->frames[frame].next;
    return frame;
}

const struct evict_policy evict_random = {.insert = lru_insert, .choose = choose};
