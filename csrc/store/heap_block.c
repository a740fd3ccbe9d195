/* SPDX-License-Identifier: MIT
 *
 * A heap's blocks: allocated, freed, read and written, checked.
 */
#include <stdlib.h>
#include <string.h>

#include "map/range.h"
#include "store/call.h"
#include "store/heap_internal.h"

/* The block of a handle; `freed` is what it is called where that is no more.
 * Needs the heap's lock. */
static int find(const pgs_heap *heap, uint64_t block, int freed, uint32_t *run_ret)
{
    uint32_t run = (uint32_t)(block >> 32), generation = (uint32_t)block;
    if (run >= heap->runs.fresh)
        return PGS_E_HEAP_NOT_A_BLOCK;
    const struct run *at = &heap->runs.table[run];
    if (generation == 0 || generation > at->generation)
        return PGS_E_HEAP_NOT_A_BLOCK;
    if (generation < at->generation)
        return freed;
    *run_ret = run;
    return at->state == RUN_USED ? PGS_OK : PGS_E_HEAP_NOT_A_BLOCK;
}

/* Takes a run, or says why there is none. Needs the lock, and may have let go
 * of it meanwhile. */
static int take(pgs_heap *heap, uint32_t length, uint32_t align, uint32_t *run_ret)
{
    for (;;) {
        if (runs_short(&heap->runs)) {
            pthread_mutex_unlock(&heap->lock);
            int error = heap_pay_records(heap);
            pthread_mutex_lock(&heap->lock);
            if (error)
                return error;
            continue;
        }
        *run_ret = runs_take(&heap->runs, length, align);
        if (*run_ret != NO_RUN)
            return PGS_OK;
        /* An atomic section must not wait for pages that are given back. */
        if (heap->settling == 0 || section_may_wait(heap->store))
            return PGS_E_HEAP_EXHAUSTED;
        pthread_cond_wait(&heap->settled, &heap->lock);
    }
}

int pgs_heap_alloc(pgs_heap *heap, uint64_t size_bytes, uint32_t align_bytes, uint64_t *block_ret)
{
    if (size_bytes == 0 || size_bytes > heap->size_bytes - heap->guard_bytes || align_bytes == 0 ||
        (align_bytes & (align_bytes - 1)) || align_bytes > heap->store->page_size)
        return PGS_E_INVALID;
    uint64_t length = (size_bytes + heap->guard_bytes + GRANULE - 1) / GRANULE;
    uint32_t align = align_bytes > GRANULE ? align_bytes / GRANULE : 1, run;
    pthread_mutex_lock(&heap->lock);
    int error = take(heap, (uint32_t)length, align, &run);
    if (error) {
        heap->refusals++;
    } else {
        heap->runs.table[run].size_bytes = size_bytes;
        heap->allocations++;
        heap->block_count++;
        heap->used_bytes += size_bytes;
        if (heap->used_bytes > heap->used_bytes_max)
            heap->used_bytes_max = heap->used_bytes;
        if (heap->memory)
            guard_set(heap, run);
        *block_ret = handle_of(heap, run);
    }
    pthread_mutex_unlock(&heap->lock);
    return error;
}

struct span {
    uint64_t first, end;
};

static const uint64_t no_page = UINT64_MAX;

/* The page that a granule parts, if all of it lies in the run; or no_page. */
static uint64_t page_across(const pgs_heap *heap, const struct run *run, uint64_t granule)
{
    uint64_t each = heap->store->page_size / GRANULE, first = granule / each * each;
    if (granule == first || first < run->start || first + each > (uint64_t)run->start + run->length)
        return no_page;
    return granule / each;
}

/* Pages that somebody has pinned keep their bytes, and their RAM; in an atomic section,
 * and in the pager, all do, until they are freed another time. */
static void forget(const pgs_heap *heap, uint64_t first, uint64_t end)
{
    uint64_t forgotten;
    if (first < end && first != no_page)
        pgs_forget(heap->store, heap->object, first, end - first, &forgotten);
}

/* Gives back the pages that became free with a run. Of a free run all pages are
 * given back that lie in it from end to end: those that are left are the run's
 * own, and those across its ends where it joins others. Neighbours may be freed
 * meanwhile, so it is looked again, at the ends as they were then. */
static void give_back_pages(pgs_heap *heap, uint32_t run)
{
    const struct run *at = &heap->runs.table[run];
    uint64_t each = heap->store->page_size / GRANULE;
    struct span old = {at->start, (uint64_t)at->start + at->length};
    struct span inner = {(old.first + each - 1) / each, old.end / each};
    for (;;) {
        runs_join(&heap->runs, run);
        uint64_t left = page_across(heap, at, old.first), right = page_across(heap, at, old.end);
        if (inner.first >= inner.end && left == no_page && right == no_page)
            return;
        old = (struct span){at->start, (uint64_t)at->start + at->length};
        pthread_mutex_unlock(&heap->lock);
        forget(heap, inner.first, inner.end);
        forget(heap, left, left + 1);
        if (right != left)
            forget(heap, right, right + 1);
        pthread_mutex_lock(&heap->lock);
        inner = (struct span){0, 0};
    }
}

/* Makes what was a block free. That takes time, without the lock: until then
 * nobody gets the run, and who finds no other waits. */
static void settle(pgs_heap *heap, uint32_t run)
{
    struct run *at = &heap->runs.table[run];
    at->state = RUN_SETTLING;
    heap->settling++;
    if (heap->memory) {
        uint64_t start = (uint64_t)at->start * GRANULE, size = (uint64_t)at->length * GRANULE;
        pthread_mutex_unlock(&heap->lock);
        poison(heap, start, size);
        pthread_mutex_lock(&heap->lock);
        runs_join(&heap->runs, run);
    } else {
        give_back_pages(heap, run);
    }
    runs_put(&heap->runs, run);
    heap->settling--;
    pthread_cond_broadcast(&heap->settled);
}

int pgs_heap_free(pgs_heap *heap, uint64_t block)
{
    uint32_t run;
    pthread_mutex_lock(&heap->lock);
    int error = find(heap, block, PGS_E_HEAP_DOUBLE_FREE, &run);
    if (!error && heap->memory && guard_broken(heap, run) != UINT64_MAX)
        error = PGS_E_HEAP_OVERRUN;
    if (!error) {
        struct run *at = &heap->runs.table[run];
        heap->frees++;
        heap->block_count--;
        heap->used_bytes -= at->size_bytes;
        if (++at->generation == 0)
            at->generation = 1;
        settle(heap, run);
    }
    pthread_mutex_unlock(&heap->lock);
    return error;
}

int pgs_heap_block(pgs_heap *heap, uint64_t block, struct pgs_heap_block *block_ret)
{
    uint32_t run;
    pthread_mutex_lock(&heap->lock);
    int error = find(heap, block, PGS_E_HEAP_USE_AFTER_FREE, &run);
    if (!error) {
        const struct run *at = &heap->runs.table[run];
        *block_ret = (struct pgs_heap_block){.offset_bytes = (uint64_t)at->start * GRANULE,
                                             .size_bytes = at->size_bytes};
    }
    pthread_mutex_unlock(&heap->lock);
    return error;
}

int pgs_heap_address(pgs_heap *heap, uint64_t block, void **address_ret)
{
    struct pgs_heap_block where;
    if (!heap->memory)
        return PGS_E_UNSUPPORTED;
    int error = pgs_heap_block(heap, block, &where);
    if (!error)
        *address_ret = heap->memory + where.offset_bytes;
    return error;
}

/* Bytes that go into a heap, or come out of it. */
struct transfer {
    unsigned char *out;      /* or NULL */
    const unsigned char *in; /* or NULL */
    uint64_t size;
};

static int transfer_pages(pgs_heap *heap, uint64_t at, const struct transfer *transfer)
{
    uint32_t page_size = heap->store->page_size;
    struct call call;
    int error = call_begin(&call, heap->store, heap->object, CALL_USES, 0, NULL);
    if (error)
        return error;
    for (uint64_t done = 0; !error && done < transfer->size;) {
        uint64_t left = transfer->size - done;
        uint32_t offset = (uint32_t)((at + done) % page_size);
        uint32_t part = left < page_size - offset ? (uint32_t)left : page_size - offset;
        struct part bytes = {.offset = offset, .size = part};
        if (transfer->out)
            bytes.out = transfer->out + done;
        else
            bytes.in = transfer->in + done;
        error = call_do(&call, (at + done) / page_size, transfer->out ? LOOKS : NEEDS_ENTRY,
                        transfer->out ? page_read_part : page_write_part, &bytes);
        done += part;
    }
    call_note(&call, 0, error);
    return call_end(&call);
}

/* To or from where bytes may be missing: as on_the_way (access.c). */
static int transfer_on_the_way(pgs_heap *heap, uint64_t at, const struct transfer *transfer)
{
    uint32_t page_size = heap->store->page_size;
    unsigned char *bytes = malloc(page_size);
    int error = bytes ? PGS_OK : PGS_E_NOMEM;
    for (uint64_t done = 0; !error && done < transfer->size;) {
        uint64_t left = transfer->size - done, size = left < page_size ? left : page_size;
        if (transfer->in)
            memcpy(bytes, transfer->in + done, size);
        struct transfer part = {.out = transfer->out ? bytes : NULL,
                                .in = transfer->in ? bytes : NULL, .size = size};
        error = transfer_pages(heap, at + done, &part);
        if (!error && transfer->out)
            memcpy(transfer->out + done, bytes, size);
        done += size;
    }
    free(bytes);
    return error;
}

static int transfer_paged(pgs_heap *heap, uint64_t at, const struct transfer *transfer)
{
    const void *bytes = transfer->out ? transfer->out : transfer->in;
    bool faults = range_has_any(bytes, transfer->size);
    return (faults ? transfer_on_the_way : transfer_pages)(heap, at, transfer);
}

/* Every access by call goes through here. */
static int access_block(pgs_heap *heap, uint64_t block, uint64_t offset,
                        const struct transfer *transfer)
{
    struct pgs_heap_block where;
    int error = pgs_heap_block(heap, block, &where);
    if (error)
        return error;
    if (offset > where.size_bytes || transfer->size > where.size_bytes - offset)
        return PGS_E_HEAP_OVERRUN;
    if (transfer->size == 0)
        return PGS_OK;
    uint64_t at = where.offset_bytes + offset;
    if (!heap->memory)
        return section_in_page_in(section_find(heap->store), heap->store)
                   ? PGS_E_PAGER_POOL
                   : transfer_paged(heap, at, transfer);
    if (transfer->out)
        memcpy(transfer->out, heap->memory + at, transfer->size);
    else
        memcpy(heap->memory + at, transfer->in, transfer->size);
    return PGS_OK;
}

int pgs_heap_read(pgs_heap *heap, uint64_t block, uint64_t offset, void *out, uint64_t size)
{
    return access_block(heap, block, offset, &(struct transfer){.out = out, .size = size});
}

int pgs_heap_write(pgs_heap *heap, uint64_t block, uint64_t offset, const void *in, uint64_t size)
{
    return access_block(heap, block, offset, &(struct transfer){.in = in, .size = size});
}

int pgs_heap_check(pgs_heap *heap, uint64_t *block_ret, uint64_t *offset_ret)
{
    const struct runs *runs = &heap->runs;
    int error = PGS_OK;
    *block_ret = 0;
    *offset_ret = 0;
    pthread_mutex_lock(&heap->lock);
    for (uint32_t run = 0; heap->memory && !error && run < runs->fresh; run++) {
        uint32_t state = runs->table[run].state;
        uint64_t broken = state == RUN_USED   ? guard_broken(heap, run)
                          : state == RUN_FREE ? poison_broken(heap, run)
                                              : UINT64_MAX;
        if (broken == UINT64_MAX)
            continue;
        error = state == RUN_USED ? PGS_E_HEAP_OVERRUN : PGS_E_HEAP_USE_AFTER_FREE;
        *block_ret = state == RUN_USED ? handle_of(heap, run) : 0;
        *offset_ret = broken;
    }
    pthread_mutex_unlock(&heap->lock);
    return error;
}

void pgs_heap_stats(pgs_heap *heap, struct pgs_heap_stats *stats_ret)
{
    pthread_mutex_lock(&heap->lock);
    uint64_t largest = (uint64_t)runs_longest(&heap->runs) * GRANULE;
    *stats_ret = (struct pgs_heap_stats){
        .size_bytes = heap->size_bytes,
        .block_count = heap->block_count,
        .used_bytes = heap->used_bytes,
        .used_bytes_max = heap->used_bytes_max,
        .free_bytes = heap->runs.free_granules * GRANULE,
        .free_runs = heap->runs.free_count,
        .largest_bytes = largest ? largest - heap->guard_bytes : 0,
        .metadata_bytes = heap->metadata_bytes,
        .allocations = heap->allocations,
        .frees = heap->frees,
        .refusals = heap->refusals,
    };
    pthread_mutex_unlock(&heap->lock);
}
