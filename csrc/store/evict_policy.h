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
};

struct evict_queue {
    pthread_mutex_t lock;
    const struct evict_policy *policy;
    struct frame *frames;
    struct frame_list lists[PGS_LEVEL_COUNT][LISTS_PER_LEVEL];
};

extern const struct evict_policy evict_s3fifo, evict_lru;

void list_push(struct evict_queue *queue, uint32_t frame, unsigned list);
void list_remove(struct evict_queue *queue, uint32_t frame);

#endif
