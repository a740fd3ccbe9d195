/* SPDX-License-Identifier: MIT
 *
 * What an eviction policy fills in, and the lists it is made of. Private to
 * evict.c and the policies.
 */
#ifndef PGS_EVICT_POLICY_H
#define PGS_EVICT_POLICY_H

#include <pthread.h>

#include "store/evict.h"

enum { LISTS_PER_LEVEL = 2 };

/* Newest at the head, oldest at the tail. */
struct frame_list {
    uint32_t head, tail, count;
};

struct evict_policy {
    /* True: `used` is called, under the lock, at every hit. */
    bool orders_hits;
    void (*insert)(struct evict_queue *queue, uint32_t frame, bool ghost);
    void (*used)(struct evict_queue *queue, uint32_t frame);
    /* Which frame of a level would go next; it stays where it is. */
    uint32_t (*candidate)(struct evict_queue *queue, unsigned level);
    /* Chooses among the levels; NULL: the greatest weighted idle time decides. */
    uint32_t (*choose)(struct evict_queue *queue, uint32_t clock);
};

struct evict_queue {
    pthread_mutex_t lock;
    const struct evict_policy *policy;
    struct frame *frames;
    struct frame_list lists[PGS_LEVEL_COUNT][LISTS_PER_LEVEL];
    uint64_t noise; /* of evict_random */
    bool audited;
    struct evict_audit audit;
};

extern const struct evict_policy evict_s3fifo, evict_lru, evict_random, evict_worst;

/* Faults since a frame was last used, and one, times its level's weight. */
uint64_t evict_weighted_idle(const struct evict_queue *queue, uint32_t frame, uint32_t clock);

/* evict_lru.c: one list a level, the page used last at its head */
void lru_insert(struct evict_queue *queue, uint32_t frame, bool ghost);
void lru_used(struct evict_queue *queue, uint32_t frame);

void list_push(struct evict_queue *queue, uint32_t frame, unsigned list);
void list_remove(struct evict_queue *queue, uint32_t frame);

#endif
