/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "store/family.h"
#include "store/heap_internal.h"

enum { PAGE_SIZE_MIN = 512, PAGE_SIZE_MAX = 65536, WAIT_MS = 30000 };

static int check(const struct pgs_store_params *params)
{
    uint32_t size = params->page_size;
    if (params->struct_size != sizeof *params || size < PAGE_SIZE_MIN || size > PAGE_SIZE_MAX ||
        (size & (size - 1)) || params->policy >= PGS_POLICY_COUNT || params->pool_percent > 100 ||
        (params->flags & ~(uint32_t)(PGS_STORE_TIMED | PGS_STORE_VERIFY | PGS_STORE_AUDIT)))
        return PGS_E_INVALID;
    return PGS_OK;
}

static void locks_init(pgs_store *store)
{
    pthread_mutex_init(&store->object_lock, NULL);
    pthread_mutex_init(&store->frame_lock, NULL);
    pthread_mutex_init(&store->lock_order.lock, NULL);
    pthread_mutex_init(&store->maps.lock, NULL);
    atomic_init(&store->lock_order.count, 1); /* PGS_LOCK_PAGE_IN */
    for (unsigned i = 0; i < WAIT_SHARDS; i++) {
        pthread_mutex_init(&store->shards[i].lock, NULL);
        pthread_condattr_t by_clock;
        pthread_condattr_init(&by_clock);
        pthread_condattr_setclock(&by_clock, CLOCK_MONOTONIC);
        pthread_cond_init(&store->shards[i].free, &by_clock);
        pthread_condattr_destroy(&by_clock);
    }
}

static void locks_deinit(pgs_store *store)
{
    pthread_mutex_destroy(&store->object_lock);
    pthread_mutex_destroy(&store->frame_lock);
    pthread_mutex_destroy(&store->lock_order.lock);
    pthread_mutex_destroy(&store->maps.lock);
    for (unsigned i = 0; i < WAIT_SHARDS; i++) {
        pthread_mutex_destroy(&store->shards[i].lock);
        pthread_cond_destroy(&store->shards[i].free);
    }
}

static uint32_t room_for(const struct pgs_store_params *params)
{
    uint64_t bytes = params->budget_bytes / ROOM_SHARE;
    if (bytes > ROOM_BYTES_MAX)
        bytes = ROOM_BYTES_MAX;
    bytes -= bytes % params->page_size;
    return bytes ? (uint32_t)bytes : params->page_size;
}

static int build(pgs_store *store, const struct pgs_store_params *params)
{
    uint64_t frames = store->budget_limit / params->page_size;
    struct pool_owner owner = pool_owner_of(store);
    if (frames / BUDGET_GROWTH < MIN_FRAMES)
        return PGS_E_BUDGET;
    store->frame_limit = frames < NO_FRAME ? (uint32_t)frames : NO_FRAME - 1;
    while (frames / BUDGET_GROWTH >> store->stamp_shift > STAMPS)
        store->stamp_shift++;
    int error = members_init(store);
    if (!error)
        error = pool_init(&store->pool, &owner, store->budget_limit, params->page_size);
    uint64_t tables = sizeof *store + pool_metadata_bytes(&store->pool);
    if (!error && !budget_charge(store, tables))
        error = PGS_E_BUDGET;
    if (!error)
        atomic_store_explicit(&store->metadata_bytes, tables, memory_order_relaxed);
    if (!error)
        error = frames_init(store);
    if (error)
        return error;
    store->queue = evict_open(params->policy, params->flags & PGS_STORE_AUDIT, store->frames);
    return store->queue ? PGS_OK : PGS_E_NOMEM;
}

int pgs_store_open(const struct pgs_store_params *params, pgs_store **store_ret)
{
    *store_ret = NULL;
    int error = check(params);
    if (error)
        return error;
    pgs_store *store = aligned_alloc(CACHE_LINE, sizeof *store);
    if (!store)
        return PGS_E_NOMEM;
    memset(store, 0, sizeof *store);
    locks_init(store);
    store->page_size = params->page_size;
    store->flags = params->flags;
    store->pool_percent = params->pool_percent;
    store->room_bytes = room_for(params);
    store->wait_ns = (uint64_t)(params->wait_ms ? params->wait_ms : WAIT_MS) * 1000000u;
    store->spare_frame = store->ready_frame = NO_FRAME;
    store->budget_limit = params->budget_bytes > UINT64_MAX / BUDGET_GROWTH
                              ? params->budget_bytes
                              : params->budget_bytes * BUDGET_GROWTH;
    atomic_init(&store->budget_bytes, params->budget_bytes);
    for (uint16_t i = 0; i < MAX_WORKERS; i++)
        store->workers[i].index = i;
    error = build(store, params);
    if (error)
        pgs_store_close(store);
    else
        *store_ret = store;
    return error;
}

void pgs_store_close(pgs_store *store)
{
    if (!store)
        return;
    heaps_close(store);
    maps_close(store);
    for (uint32_t i = 0; i < MAX_OBJECTS; i++) {
        struct pgs_object *object = object_of(store, i);
        if (!object)
            continue;
        if (object->backing.close)
            object->backing.close(object->backing.ctx);
        family_free(object->family);
        free(object->pages);
        free(object);
    }
    for (uint32_t i = 0; i < store->member_end; i++)
        if (member_of(store, i))
            member_free(store, member_of(store, i));
    members_deinit(store);
    workers_close(store);
    encoders_close(store);
    evict_close(store->queue);
    frames_deinit(store);
    pool_deinit(&store->pool);
    /* In a child process threads of the parent's seem to wait there, and would be waited for. */
    if (section_may_be(store) != PGS_E_FORKED)
        locks_deinit(store);
    free(store);
}

size_t pgs_store_entry_bytes(void)
{
    return sizeof(struct page);
}
