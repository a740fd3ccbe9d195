/* SPDX-License-Identifier: MIT */
#include "pool/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pagestep/error.h"

/* Before every object. A hole's length, header included, is its page_no in
 * units; a segment can thus be walked from its start. */
struct header {
    uint32_t page_no;
    uint16_t object;
    uint16_t size_less_1;
};
_Static_assert(sizeof(struct header) == POOL_HEADER_BYTES, "header");

/* Holes beyond this share of the objects' bytes are closed before the pool
 * grows; together with headers, rounding and segment ends it keeps the pool
 * within 5 % of the bytes stored (csrc/tests/test_pool.c). */
enum { LOOSE_PERCENT = 2, SEGMENT_BYTES = 128 << 10, SEGMENT_BYTES_SMALL = 32 << 10 };
static const uint64_t small_pool_bytes = 4 << 20;
static const uint64_t place_limit_bytes = (uint64_t)POOL_UNIT << 32;

static uint32_t round_up(uint32_t value, uint32_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static struct header *header_at(const struct pool *pool, uint64_t offset)
{
    return (struct header *)(void *)(pool->base + offset);
}

static uint32_t object_length(const struct header *header)
{
    if (header->object == POOL_NO_OBJECT)
        return header->page_no * POOL_UNIT;
    return round_up(POOL_HEADER_BYTES + header->size_less_1 + 1u, POOL_UNIT);
}

static struct pool_key key_of(const struct header *header)
{
    return (struct pool_key){.page_no = header->page_no, .object = header->object};
}

static uint64_t start_of(const struct pool *pool, uint32_t segment)
{
    return (uint64_t)segment * pool->segment_size;
}

/* Bytes paid for that a slide and a bump could use. */
static uint32_t spare_of(const struct pool_segment *segment)
{
    return segment->committed - segment->tail + segment->hole_bytes;
}

static uint64_t waste_of(const struct pool *pool)
{
    return atomic_load_explicit(&pool->committed_bytes, memory_order_relaxed) -
           atomic_load_explicit(&pool->object_bytes, memory_order_relaxed);
}

static uint64_t waste_allowed(const struct pool *pool, unsigned percent)
{
    uint64_t bytes = atomic_load_explicit(&pool->object_bytes, memory_order_relaxed);
    return bytes * percent / 100 + 2 * (uint64_t)pool->os_page;
}

bool pool_is_loose(const struct pool *pool)
{
    return waste_of(pool) > waste_allowed(pool, LOOSE_PERCENT + 1);
}

static void count(_Atomic uint64_t *counter, int64_t change)
{
    atomic_fetch_add_explicit(counter, (uint64_t)change, memory_order_relaxed);
}

int pool_init(struct pool *pool, const struct pool_owner *owner, uint64_t max_bytes,
              uint32_t page_size)
{
    memset(pool, 0, sizeof *pool);
    pool->owner = *owner;
    pool->os_page = (uint32_t)sysconf(_SC_PAGESIZE);
    pool->segment_size = max_bytes < small_pool_bytes ? SEGMENT_BYTES_SMALL : SEGMENT_BYTES;
    while (pool->segment_size < 4 * page_size || pool->segment_size < 4 * pool->os_page)
        pool->segment_size *= 2;
    /* Twice the RAM in addresses: segments need not be full. */
    uint64_t reserve = max_bytes * 2 + 2 * (uint64_t)pool->segment_size;
    if (reserve > place_limit_bytes)
        reserve = place_limit_bytes;
    pool->segment_count = (uint32_t)(reserve / pool->segment_size);
    pool->segments = calloc(pool->segment_count, sizeof *pool->segments);
    if (!pool->segments)
        return PGS_E_NOMEM;
    void *base = mmap(NULL, start_of(pool, pool->segment_count), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(pool->segments);
        return PGS_E_NOMEM;
    }
    pool->base = base;
    /* A huge page would be RAM that nobody has charged. */
    madvise(base, start_of(pool, pool->segment_count), MADV_NOHUGEPAGE);
    pthread_mutex_init(&pool->lock, NULL);
    return PGS_OK;
}

void pool_deinit(struct pool *pool)
{
    if (!pool->base)
        return;
    munmap(pool->base, start_of(pool, pool->segment_count));
    free(pool->segments);
    pthread_mutex_destroy(&pool->lock);
    pool->base = NULL;
}

size_t pool_metadata_bytes(const struct pool *pool)
{
    return pool->segment_count * sizeof *pool->segments;
}

unsigned char *pool_bytes(const struct pool *pool, pool_place place, uint32_t *size_ret)
{
    struct header *header = header_at(pool, (uint64_t)place * POOL_UNIT);
    *size_ret = header->size_less_1 + 1u;
    return (unsigned char *)(header + 1);
}

/* The sweep's hand must stand at an object's start or at a segment's tail. */
static void set_tail(struct pool *pool, uint32_t index, uint32_t tail)
{
    uint64_t start = start_of(pool, index);
    if (pool->hand > start + tail && pool->hand < start + pool->segment_size)
        pool->hand = start + tail;
    pool->segments[index].tail = tail;
}

/* Gives back the RAM behind a segment's tail. */
static void trim(struct pool *pool, uint32_t index)
{
    struct pool_segment *segment = &pool->segments[index];
    uint32_t keep = round_up(segment->tail, pool->os_page);
    if (keep >= segment->committed)
        return;
    uint32_t bytes = segment->committed - keep;
    madvise(pool->base + start_of(pool, index) + keep, bytes, MADV_DONTNEED);
    segment->committed = keep;
    count(&pool->committed_bytes, -(int64_t)bytes);
    pool->owner.uncharge(pool->owner.ctx, bytes);
}

static void make_hole(struct pool *pool, uint64_t offset, uint32_t length)
{
    *header_at(pool, offset) =
        (struct header){.page_no = length / POOL_UNIT, .object = POOL_NO_OBJECT};
}

/* Slides a segment's objects together; what may not move now stays, with a
 * hole before it. */
static void slide(struct pool *pool, uint32_t index)
{
    struct pool_segment *segment = &pool->segments[index];
    uint64_t start = start_of(pool, index);
    uint32_t from = 0, to = 0, hole_bytes = 0;
    if (pool->hand > start && pool->hand < start + pool->segment_size)
        pool->hand = start;
    while (from < segment->tail) {
        struct header *header = header_at(pool, start + from);
        uint32_t length = object_length(header);
        struct pool_key key = key_of(header);
        if (header->object == POOL_NO_OBJECT) {
            from += length;
            continue;
        }
        if (from != to && pool->owner.claim(pool->owner.ctx, key)) {
            memmove(pool->base + start + to, header, length);
            pool->owner.release(pool->owner.ctx, key, (pool_place)((start + to) / POOL_UNIT));
        } else if (from != to) {
            make_hole(pool, start + to, from - to);
            hole_bytes += from - to;
            to = from;
        }
        from += length;
        to += length;
    }
    segment->hole_bytes = hole_bytes;
    set_tail(pool, index, to);
}

/* Puts an object at a segment's tail; the RAM there is paid for. */
static pool_place bump(struct pool *pool, uint32_t index, struct pool_key key, uint32_t size,
                       uint32_t length)
{
    struct pool_segment *segment = &pool->segments[index];
    uint64_t offset = start_of(pool, index) + segment->tail;
    assert(segment->tail + length <= segment->committed);
    segment->tail += length;
    pool->open = index;
    *header_at(pool, offset) = (struct header){
        .page_no = key.page_no, .object = key.object, .size_less_1 = (uint16_t)(size - 1)};
    count(&pool->object_bytes, length);
    count(&pool->stored_bytes, size);
    count(&pool->object_count, 1);
    return (pool_place)(offset / POOL_UNIT);
}

static uint32_t loosest(const struct pool *pool, uint32_t except)
{
    uint32_t best = 0, best_spare = 0;
    for (uint32_t i = 0; i < pool->used_segments; i++) {
        uint32_t spare = spare_of(&pool->segments[i]);
        if (spare > best_spare && i != except) {
            best = i;
            best_spare = spare;
        }
    }
    return best;
}

static bool fits(const struct pool *pool, uint32_t index, uint32_t length)
{
    return pool->segments[index].tail + length <= pool->segments[index].committed;
}

/* Finds room among the holes. Emptiest first, as a log-structured store
 * cleans: most room for the bytes moved. A second try, as objects in use may
 * have kept the first from closing. */
static bool reuse(struct pool *pool, uint32_t length, uint32_t except, uint32_t *index_ret)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        uint32_t index = loosest(pool, except);
        if (index >= pool->used_segments || index == except ||
            spare_of(&pool->segments[index]) < length)
            return false;
        if (!fits(pool, index, length))
            slide(pool, index);
        *index_ret = index;
        if (fits(pool, index, length))
            return true;
    }
    return false;
}

/* Finds room at a segment's end, and pays for it. */
static bool grow(struct pool *pool, uint32_t length, uint32_t except, struct pool_growth *growth,
                 uint32_t *index_ret)
{
    uint32_t index = pool->open;
    if (index == except || pool->segment_size - pool->segments[index].tail < length) {
        for (index = 0; index < pool->segment_count; index++)
            if (index != except && pool->segment_size - pool->segments[index].tail >= length)
                break;
        if (index == pool->segment_count)
            return false;
    }
    struct pool_segment *segment = &pool->segments[index];
    uint32_t end = segment->tail + length;
    if (end > segment->committed) {
        uint32_t bytes = round_up(end - segment->committed, pool->os_page);
        if (growth->credit >= bytes)
            growth->credit -= bytes;
        else if (!pool->owner.charge(pool->owner.ctx, bytes))
            return false;
        segment->committed += bytes;
        count(&pool->committed_bytes, bytes);
    }
    if (index >= pool->used_segments)
        pool->used_segments = index + 1;
    *index_ret = index;
    return true;
}

static int alloc_locked(struct pool *pool, struct pool_key key, uint32_t size,
                        struct pool_growth *growth, uint32_t except, pool_place *place_ret)
{
    uint32_t length = round_up(POOL_HEADER_BYTES + size, POOL_UNIT);
    uint32_t index = pool->open;
    bool loose = waste_of(pool) > waste_allowed(pool, LOOSE_PERCENT);
    if ((index != except && fits(pool, index, length)) ||
        (loose && reuse(pool, length, except, &index)) ||
        (growth->allowed && grow(pool, length, except, growth, &index)) ||
        (!loose && reuse(pool, length, except, &index))) {
        *place_ret = bump(pool, index, key, size, length);
        return PGS_OK;
    }
    return PGS_E_BUDGET;
}

int pool_alloc(struct pool *pool, struct pool_key key, uint32_t size, struct pool_growth *growth,
               pool_place *place_ret)
{
    assert(size >= 1 && size <= 65536 && key.object != POOL_NO_OBJECT);
    pthread_mutex_lock(&pool->lock);
    int error = alloc_locked(pool, key, size, growth, UINT32_MAX, place_ret);
    pthread_mutex_unlock(&pool->lock);
    return error;
}

/* Takes `length` bytes at `offset` out of use: the segment's tail, or a hole. */
static void give_up(struct pool *pool, uint64_t offset, uint32_t length)
{
    uint32_t index = (uint32_t)(offset / pool->segment_size);
    struct pool_segment *segment = &pool->segments[index];
    count(&pool->object_bytes, -(int64_t)length);
    if (offset + length == start_of(pool, index) + segment->tail) {
        set_tail(pool, index, segment->tail - length);
    } else {
        make_hole(pool, offset, length);
        segment->hole_bytes += length;
    }
    if (segment->hole_bytes == segment->tail) {
        segment->hole_bytes = 0;
        set_tail(pool, index, 0);
    }
}

static void free_locked(struct pool *pool, pool_place place)
{
    uint64_t offset = (uint64_t)place * POOL_UNIT;
    struct header *header = header_at(pool, offset);
    assert(header->object != POOL_NO_OBJECT);
    count(&pool->stored_bytes, -(int64_t)(header->size_less_1 + 1));
    count(&pool->object_count, -1);
    give_up(pool, offset, object_length(header));
}

void pool_trim(struct pool *pool, pool_place place, uint32_t size)
{
    uint64_t offset = (uint64_t)place * POOL_UNIT;
    pthread_mutex_lock(&pool->lock);
    struct header *header = header_at(pool, offset);
    uint32_t before = object_length(header);
    assert(size > 0 && size <= header->size_less_1 + 1u);
    count(&pool->stored_bytes, -(int64_t)(header->size_less_1 + 1u - size));
    header->size_less_1 = (uint16_t)(size - 1);
    uint32_t length = object_length(header);
    if (length < before)
        give_up(pool, offset + length, before - length);
    pthread_mutex_unlock(&pool->lock);
}

void pool_free(struct pool *pool, pool_place place)
{
    pthread_mutex_lock(&pool->lock);
    free_locked(pool, place);
    pthread_mutex_unlock(&pool->lock);
}

/* The next object at or after the hand, round the corner; false after a whole
 * round. */
static bool next_object(struct pool *pool, uint64_t *walked, struct pool_key *key_ret)
{
    uint64_t round = start_of(pool, pool->used_segments);
    while (*walked <= round) {
        uint32_t index = (uint32_t)(pool->hand / pool->segment_size);
        if (index >= pool->used_segments ||
            pool->hand >= start_of(pool, index) + pool->segments[index].tail) {
            *walked += start_of(pool, index + 1) - pool->hand;
            pool->hand = index + 1 >= pool->used_segments ? 0 : start_of(pool, index + 1);
            continue;
        }
        struct header *header = header_at(pool, pool->hand);
        uint32_t length = object_length(header);
        *walked += length;
        pool->hand += length;
        if (header->object != POOL_NO_OBJECT) {
            *key_ret = key_of(header);
            return true;
        }
    }
    return false;
}

void pool_sweep(struct pool *pool, bool (*visit)(void *ctx, struct pool_key key), void *ctx)
{
    pthread_mutex_lock(&pool->lock);
    uint64_t walked = 0;
    struct pool_key key;
    while (pool->used_segments && next_object(pool, &walked, &key))
        if (!visit(ctx, key))
            break;
    pthread_mutex_unlock(&pool->lock);
}

/* Moves a segment's objects to others, as far as there is room. */
static void evacuate(struct pool *pool, uint32_t index)
{
    struct pool_segment *segment = &pool->segments[index];
    uint64_t start = start_of(pool, index);
    for (uint32_t from = 0; from < segment->tail;) {
        struct header *header = header_at(pool, start + from);
        uint32_t length = object_length(header);
        struct pool_key key = key_of(header);
        pool_place old = (pool_place)((start + from) / POOL_UNIT), place;
        from += length;
        if (key.object == POOL_NO_OBJECT || !pool->owner.claim(pool->owner.ctx, key))
            continue;
        uint32_t size = header->size_less_1 + 1u;
        struct pool_growth growth = {.allowed = true};
        if (alloc_locked(pool, key, size, &growth, index, &place) != PGS_OK) {
            pool->owner.release(pool->owner.ctx, key, old);
            break;
        }
        memcpy(header_at(pool, (uint64_t)place * POOL_UNIT), header, length);
        free_locked(pool, old);
        pool->owner.release(pool->owner.ctx, key, place);
    }
    slide(pool, index);
}

void pool_compact(struct pool *pool, unsigned slack_percent)
{
    pthread_mutex_lock(&pool->lock);
    while (waste_of(pool) > waste_allowed(pool, slack_percent)) {
        uint64_t before = waste_of(pool);
        uint32_t index = loosest(pool, UINT32_MAX);
        struct pool_segment *segment = &pool->segments[index];
        slide(pool, index);
        if (segment->tail <= pool->segment_size / 2 && pool->used_segments > 1)
            evacuate(pool, index);
        trim(pool, index);
        if (waste_of(pool) >= before)
            break;
    }
    pthread_mutex_unlock(&pool->lock);
}
