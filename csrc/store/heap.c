/* SPDX-License-Identifier: MIT
 *
 * Heaps come and go, and what they cost.
 */
#include "store/heap_internal.h"

#include <stdlib.h>

/* Granules are numbered with 32 bits, and pages are at most so large. */
static const uint64_t size_limit = (UINT64_C(1) << 32) * GRANULE - 65536;

static int check_params(const struct pgs_heap_params *params)
{
    bool paged = params->kind == PGS_HEAP_PAGED;
    if (params->struct_size != sizeof *params || params->kind > PGS_HEAP_NONPAGED ||
        params->size_bytes == 0 || params->size_bytes > size_limit)
        return PGS_E_INVALID;
    if (paged && (params->level == PGS_LEVEL_PINNED || params->level >= PGS_LEVEL_COUNT))
        return PGS_E_INVALID;
    return PGS_OK;
}

/* What a heap consists of: RAM of its own comes in whole pages of the system as well. */
static uint32_t ram_unit(const pgs_store *store, bool paged)
{
    uint32_t os_page = store->pool.os_page;
    return paged || store->page_size > os_page ? store->page_size : os_page;
}

/* Beside what is asked for, the frames that the store cannot do without must
 * find room: what is hopeless has no page leave. */
static int charge(pgs_store *store, uint64_t bytes)
{
    uint64_t held = atomic_load_explicit(&store->held_frames, memory_order_relaxed);
    uint64_t room = budget_for_pages(store), frames = (held + MIN_FRAMES) * store->page_size;
    if (frames > room || bytes > room - frames)
        return PGS_E_BUDGET;
    int error = section_may_page(store);
    if (error)
        return error;
    struct worker *worker = worker_take(store);
    error = metadata_charge(store, worker, bytes);
    worker_give(worker);
    return error;
}

int heap_pay_records(pgs_heap *heap)
{
    const uint64_t step_bytes = RUNS_STEP * RUN_BYTES;
    int error = charge(heap->store, step_bytes);
    if (error)
        return error;
    pthread_mutex_lock(&heap->lock);
    bool wanted = runs_short(&heap->runs);
    if (wanted) {
        heap->runs.ready += RUNS_STEP;
        heap->metadata_bytes += step_bytes;
    }
    pthread_mutex_unlock(&heap->lock);
    /* Another thread may have been quicker. */
    if (!wanted)
        metadata_uncharge(heap->store, step_bytes);
    return PGS_OK;
}

static uint64_t cost_of(const pgs_heap *heap, uint32_t block_reserve, bool paged)
{
    uint64_t steps = (2 * (uint64_t)block_reserve + RUNS_SPLIT + RUNS_STEP) / RUNS_STEP;
    uint64_t most = heap->runs.table_bytes / (RUNS_STEP * RUN_BYTES);
    steps = steps < most ? steps : most;
    return sizeof *heap + steps * RUNS_STEP * RUN_BYTES + (paged ? 0 : heap->size_bytes);
}

static int object_open(pgs_heap *heap, const struct pgs_heap_params *params)
{
    pgs_store *store = heap->store;
    uint64_t pages = heap->size_bytes / store->page_size;
    int error = pgs_anonymous_add(store, pages, params->level, NULL, params->codec,
                                  &heap->object);
    if (error)
        heap->object = UINT32_MAX;
    return error;
}

static int memory_open(pgs_heap *heap)
{
    heap->memory = aligned_alloc(ram_unit(heap->store, false), heap->size_bytes);
    if (!heap->memory)
        return PGS_E_NOMEM;
    /* The system gives RAM when it is touched: all of it is, now. */
    poison(heap, 0, heap->size_bytes);
    return PGS_OK;
}

/* Finds what the heap needs. What an error leaves is for give_back. */
static int build(pgs_heap *heap, const struct pgs_heap_params *params)
{
    bool paged = params->kind == PGS_HEAP_PAGED;
    uint32_t granules = (uint32_t)(heap->size_bytes / GRANULE);
    if (!runs_init(&heap->runs, granules))
        return PGS_E_NOMEM;
    uint64_t cost = cost_of(heap, params->block_reserve, paged);
    int error = charge(heap->store, cost);
    if (error)
        return error;
    uint64_t records = cost - sizeof *heap - (paged ? 0 : heap->size_bytes);
    heap->metadata_bytes = cost;
    heap->runs.ready = (uint32_t)(records / RUN_BYTES);
    runs_start(&heap->runs, granules);
    return paged ? object_open(heap, params) : memory_open(heap);
}

void heap_deinit(pgs_heap *heap)
{
    pthread_cond_destroy(&heap->settled);
    pthread_mutex_destroy(&heap->lock);
    runs_deinit(&heap->runs);
    free(heap->memory);
    free(heap);
}

static int give_back(pgs_heap *heap)
{
    pgs_store *store = heap->store;
    int error = heap->object == UINT32_MAX ? PGS_OK : pgs_object_remove(store, heap->object);
    if (error)
        return error;
    uint64_t charged = heap->metadata_bytes;
    heap_deinit(heap);
    metadata_uncharge(store, charged);
    return PGS_OK;
}

static void enlist(pgs_heap *heap)
{
    pthread_mutex_lock(&heap->store->object_lock);
    heap->next = heap->store->heaps;
    heap->store->heaps = heap;
    pthread_mutex_unlock(&heap->store->object_lock);
}

int pgs_heap_open(pgs_store *store, const struct pgs_heap_params *params, pgs_heap **heap_ret)
{
    *heap_ret = NULL;
    int error = check_params(params);
    if (error)
        return error;
    pgs_heap *heap = calloc(1, sizeof *heap);
    if (!heap)
        return PGS_E_NOMEM;
    uint32_t size = ram_unit(store, params->kind == PGS_HEAP_PAGED);
    heap->store = store;
    heap->object = UINT32_MAX;
    heap->size_bytes = (params->size_bytes + size - 1) / size * size;
    heap->guard_bytes = params->kind == PGS_HEAP_NONPAGED ? GUARD_BYTES : 0;
    pthread_mutex_init(&heap->lock, NULL);
    pthread_cond_init(&heap->settled, NULL);
    error = build(heap, params);
    if (error) {
        give_back(heap);
        return error;
    }
    enlist(heap);
    *heap_ret = heap;
    return PGS_OK;
}

static void unlist(pgs_heap *heap)
{
    pgs_store *store = heap->store;
    pthread_mutex_lock(&store->object_lock);
    pgs_heap **link = &store->heaps;
    while (*link != heap)
        link = &(*link)->next;
    *link = heap->next;
    pthread_mutex_unlock(&store->object_lock);
}

int pgs_heap_close(pgs_heap *heap)
{
    int error = heap ? section_may_page(heap->store) : PGS_OK;
    if (!heap || error)
        return error;
    unlist(heap);
    error = give_back(heap);
    if (error)
        enlist(heap);
    return error;
}

void heaps_close(pgs_store *store)
{
    while (store->heaps) {
        pgs_heap *heap = store->heaps;
        store->heaps = heap->next;
        heap_deinit(heap);
    }
}

uint32_t pgs_heap_object(const pgs_heap *heap)
{
    return heap->object;
}
