/* SPDX-License-Identifier: MIT */
#include "store/evict.h"

#include <stdlib.h>

#include "store/evict_policy.h"

/* Measured with right hints and wrong ones (docs/decisions/0004-eviction.md): steeper
 * steps gain little where hints are right, and cost much where they are wrong. */
const uint32_t evict_weights[PGS_LEVEL_COUNT] = {
    [PGS_LEVEL_PINNED] = 0, [PGS_LEVEL_LAST_RESORT] = 1, [PGS_LEVEL_RELUCTANT] = 4,
    [PGS_LEVEL_NORMAL] = 8, [PGS_LEVEL_EAGER] = 16,      [PGS_LEVEL_STEP_ON_IT] = 64,
};

uint32_t pgs_level_weight(uint32_t level)
{
    return level < PGS_LEVEL_COUNT ? evict_weights[level] : 0;
}

void list_push(struct evict_queue *queue, uint32_t frame, unsigned list)
{
    struct frame *row = &queue->frames[frame];
    struct frame_list *to = &queue->lists[row->level][list];
    row->queue = (uint8_t)list;
    row->prev = NO_FRAME;
    row->next = to->head;
    if (to->head != NO_FRAME)
        queue->frames[to->head].prev = frame;
    else
        to->tail = frame;
    to->head = frame;
    to->count++;
    queue->counts[list]++;
}

void list_remove(struct evict_queue *queue, uint32_t frame)
{
    struct frame *row = &queue->frames[frame];
    struct frame_list *from = &queue->lists[row->level][row->queue];
    if (row->prev != NO_FRAME)
        queue->frames[row->prev].next = row->next;
    else
        from->head = row->next;
    if (row->next != NO_FRAME)
        queue->frames[row->next].prev = row->prev;
    else
        from->tail = row->prev;
    from->count--;
    queue->counts[row->queue]--;
}

static const struct evict_policy *const policies[PGS_POLICY_COUNT] = {
    [PGS_POLICY_S3FIFO] = &evict_s3fifo,
    [PGS_POLICY_LRU] = &evict_lru,
    [PGS_POLICY_RANDOM] = &evict_random,
    [PGS_POLICY_WORST] = &evict_worst,
};

struct evict_queue *evict_open(uint32_t policy, bool audited, struct frame *frames)
{
    struct evict_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    pthread_mutex_init(&queue->lock, NULL);
    queue->policy = policies[policy];
    queue->audited = audited;
    queue->noise = 1;
    queue->frames = frames;
    for (unsigned level = 0; level < PGS_LEVEL_COUNT; level++)
        for (unsigned list = 0; list < LISTS_PER_LEVEL; list++)
            queue->lists[level][list] = (struct frame_list){NO_FRAME, NO_FRAME, 0};
    return queue;
}

void evict_close(struct evict_queue *queue)
{
    if (!queue)
        return;
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

void evict_insert(struct evict_queue *queue, uint32_t frame, uint32_t clock, bool ghost)
{
    struct frame *row = &queue->frames[frame];
    atomic_store_explicit(&row->last_use, clock, memory_order_relaxed);
    atomic_store_explicit(&row->uses, 0, memory_order_relaxed);
    pthread_mutex_lock(&queue->lock);
    queue->policy->insert(queue, frame, ghost);
    pthread_mutex_unlock(&queue->lock);
}

void evict_remove(struct evict_queue *queue, uint32_t frame)
{
    pthread_mutex_lock(&queue->lock);
    list_remove(queue, frame);
    pthread_mutex_unlock(&queue->lock);
}

void evict_note(struct evict_queue *queue, uint32_t frame, uint32_t clock)
{
    struct frame *row = &queue->frames[frame];
    uint8_t uses = atomic_load_explicit(&row->uses, memory_order_relaxed);
    if (atomic_load_explicit(&row->last_use, memory_order_relaxed) != clock)
        atomic_store_explicit(&row->last_use, clock, memory_order_relaxed);
    if (uses < EVICT_USES_MAX)
        atomic_store_explicit(&row->uses, uses + 1, memory_order_relaxed);
    /* A page of level PINNED is in no list. */
    if (queue->policy->orders_hits && row->level != PGS_LEVEL_PINNED) {
        pthread_mutex_lock(&queue->lock);
        queue->policy->used(queue, frame);
        pthread_mutex_unlock(&queue->lock);
    }
}

uint64_t evict_weighted_idle(const struct evict_queue *queue, uint32_t frame, uint32_t clock)
{
    const struct frame *row = &queue->frames[frame];
    uint32_t last_use = atomic_load_explicit(&row->last_use, memory_order_relaxed);
    return ((uint64_t)(uint32_t)(clock - last_use) + 1) * evict_weights[row->level];
}

/* The candidate of greatest weighted idle time among the levels'. */
static uint32_t most_idle(struct evict_queue *queue, uint32_t clock)
{
    uint32_t best = NO_FRAME;
    uint64_t best_idle = 0;
    for (unsigned level = PGS_LEVEL_COUNT - 1; level > PGS_LEVEL_PINNED; level--) {
        uint32_t frame = queue->policy->candidate(queue, level);
        uint64_t idle = frame == NO_FRAME ? 0 : evict_weighted_idle(queue, frame, clock);
        if (idle > best_idle) {
            best = frame;
            best_idle = idle;
        }
    }
    return best;
}

static uint32_t choose(struct evict_queue *queue, uint32_t clock)
{
    return queue->policy->choose ? queue->policy->choose(queue, clock) : most_idle(queue, clock);
}

/* Holds a victim against every frame that could have gone in its place: those that
 * are still in a list. */
static void audit(struct evict_queue *queue, uint32_t victim, uint32_t clock)
{
    uint64_t its = evict_weighted_idle(queue, victim, clock), greatest = its;
    for (unsigned level = 0; level < PGS_LEVEL_COUNT; level++)
        for (unsigned list = 0; list < LISTS_PER_LEVEL; list++)
            for (uint32_t frame = queue->lists[level][list].head; frame != NO_FRAME;
                 frame = queue->frames[frame].next) {
                uint64_t idle = evict_weighted_idle(queue, frame, clock);
                if (idle > greatest)
                    greatest = idle;
            }
    unsigned shortfall = greatest > its;
    while (shortfall && shortfall < PGS_SHORTFALL_COUNT - 1 && greatest >= its << shortfall)
        shortfall++;
    queue->audit.evictions++;
    queue->audit.shortfalls[shortfall]++;
}

struct evict_audit evict_audit_of(struct evict_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    struct evict_audit found = queue->audit;
    pthread_mutex_unlock(&queue->lock);
    return found;
}

/* Puts frames that might not go back, as the newest of their lists: they are
 * pinned, in use, or have just come. */
static void put_back(struct evict_queue *queue, uint32_t refused, uint32_t clock)
{
    while (refused != NO_FRAME) {
        struct frame *row = &queue->frames[refused];
        uint32_t next = row->next;
        list_push(queue, refused, row->queue);
        atomic_store_explicit(&row->last_use, clock, memory_order_relaxed);
        refused = next;
    }
}

uint32_t evict_victim(struct evict_queue *queue, uint32_t clock,
                      bool (*claim)(void *ctx, uint32_t frame), void *ctx)
{
    pthread_mutex_lock(&queue->lock);
    /* What is refused is set aside until the end: each is asked once. */
    uint32_t refused = NO_FRAME, victim;
    while ((victim = choose(queue, clock)) != NO_FRAME) {
        list_remove(queue, victim);
        if (claim(ctx, victim))
            break;
        queue->frames[victim].next = refused;
        refused = victim;
    }
    if (queue->audited && victim != NO_FRAME)
        audit(queue, victim, clock);
    put_back(queue, refused, clock);
    pthread_mutex_unlock(&queue->lock);
    return victim;
}
