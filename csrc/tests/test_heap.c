/* SPDX-License-Identifier: MIT
 *
 * Heaps: what they promise, one at a time; then random steps against a model
 * that knows whose each granule is, alone and with several threads.
 *
 * usage: test_heap [steps [threads]]
 */
#include <pthread.h>

#include "pagestep/heap.h"
#include "store/store_internal.h"
#include "store_fixture.h"

enum { PAGE = 4096, KIB = 1024, BLOCKS = 600, THREADS_MAX = 16, GRANULE = 16, GUARD = 8 };

static pgs_store *store_new(uint64_t budget_bytes, uint32_t page_size)
{
    struct pgs_store_params params = {.struct_size = sizeof params, .page_size = page_size,
                                      .budget_bytes = budget_bytes, .pool_percent = 50};
    pgs_store *store;
    CHECK_EQ(pgs_store_open(&params, &store), PGS_OK);
    return store;
}

static int heap_try(pgs_store *store, uint32_t kind, uint64_t size, pgs_heap **heap_ret)
{
    struct pgs_heap_params params = {.struct_size = sizeof params, .kind = kind,
                                     .size_bytes = size, .level = PGS_LEVEL_NORMAL};
    return pgs_heap_open(store, &params, heap_ret);
}

static pgs_heap *heap_new(pgs_store *store, uint32_t kind, uint64_t size)
{
    pgs_heap *heap;
    CHECK_EQ(heap_try(store, kind, size, &heap), PGS_OK);
    return heap;
}

static uint64_t alloc(pgs_heap *heap, uint64_t size)
{
    uint64_t block = 0;
    CHECK_EQ(pgs_heap_alloc(heap, size, 1, &block), PGS_OK);
    CHECK(block != 0);
    return block;
}

static struct pgs_stats stats_of(pgs_store *store)
{
    struct pgs_stats stats;
    pgs_store_stats(store, &stats);
    CHECK_EQ(stats.used_bytes, stats.hot_bytes + stats.pool_bytes + stats.metadata_bytes);
    CHECK(stats.used_bytes_max <= stats.budget_bytes);
    return stats;
}

static struct pgs_heap_stats heap_stats(pgs_heap *heap)
{
    struct pgs_heap_stats stats;
    pgs_heap_stats(heap, &stats);
    return stats;
}

static unsigned char *address_of_block(pgs_heap *heap, uint64_t block)
{
    void *address = NULL;
    CHECK_EQ(pgs_heap_address(heap, block, &address), PGS_OK);
    return address;
}

/* -- one promise at a time ------------------------------------------------------- */

static void bytes_come_back(uint32_t kind, uint32_t page_size)
{
    const uint64_t sizes[] = {1, 15, 16, 17, page_size - 1, page_size, page_size + 1,
                              3 * (uint64_t)page_size + 5};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    pgs_store *store = store_new(8 << 20, page_size);
    pgs_heap *heap = heap_new(store, kind, 16 * (uint64_t)page_size);
    unsigned char *in = malloc(4 * (size_t)page_size), *out = malloc(4 * (size_t)page_size);
    uint64_t blocks[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        struct noise noise = {i + 1};
        blocks[i] = alloc(heap, sizes[i]);
        noise_fill(&noise, in, sizes[i]);
        CHECK_EQ(pgs_heap_write(heap, blocks[i], 0, in, sizes[i]), PGS_OK);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        struct noise noise = {i + 1};
        uint64_t from = sizes[i] / 3;
        noise_fill(&noise, in, sizes[i]);
        CHECK_EQ(pgs_heap_read(heap, blocks[i], 0, out, sizes[i]), PGS_OK);
        CHECK_BYTES(out, in, sizes[i]);
        CHECK_EQ(pgs_heap_read(heap, blocks[i], from, out, sizes[i] - from), PGS_OK);
        CHECK_BYTES(out, in + from, sizes[i] - from);
        CHECK_EQ(pgs_heap_read(heap, blocks[i], sizes[i], out, 0), PGS_OK);
        if (kind == PGS_HEAP_NONPAGED)
            CHECK_BYTES(address_of_block(heap, blocks[i]), in, sizes[i]);
    }
    free(in);
    free(out);
    pgs_store_close(store); /* with the heap open, and its blocks */
}

static void alignment_holds(uint32_t kind)
{
    pgs_store *store = store_new(2 << 20, PAGE);
    pgs_heap *heap = heap_new(store, kind, 64 * PAGE);
    uint64_t block;
    for (uint32_t align = 1; align <= PAGE; align *= 2) {
        struct pgs_heap_block where;
        alloc(heap, 1);
        CHECK_EQ(pgs_heap_alloc(heap, 24, align, &block), PGS_OK);
        CHECK_EQ(pgs_heap_block(heap, block, &where), PGS_OK);
        CHECK_EQ(where.offset_bytes % align, 0);
        CHECK_EQ(where.size_bytes, 24);
        if (kind == PGS_HEAP_NONPAGED)
            CHECK_EQ((uintptr_t)address_of_block(heap, block) % align, 0);
    }
    CHECK_EQ(pgs_heap_alloc(heap, 1, 2 * PAGE, &block), PGS_E_INVALID);
    CHECK_EQ(pgs_heap_alloc(heap, 1, 24, &block), PGS_E_INVALID);
    CHECK_EQ(pgs_heap_alloc(heap, 1, 0, &block), PGS_E_INVALID);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    pgs_store_close(store);
}

/* From 1 byte to the whole heap, aligned or not; then it is exhausted, and whole again. */
static void sizes_have_limits(uint32_t kind)
{
    uint64_t size = 8 * PAGE, guard = kind == PGS_HEAP_NONPAGED ? GUARD : 0, block;
    pgs_store *store = store_new(2 << 20, PAGE);
    pgs_heap *heap = heap_new(store, kind, size - 100); /* rounded up */
    CHECK_EQ(heap_stats(heap).size_bytes, size);
    CHECK_EQ(heap_stats(heap).largest_bytes, size - guard);
    CHECK_EQ(pgs_heap_alloc(heap, 0, 1, &block), PGS_E_INVALID);
    CHECK_EQ(pgs_heap_alloc(heap, size - guard + 1, 1, &block), PGS_E_INVALID);
    CHECK_EQ(pgs_heap_alloc(heap, UINT64_MAX, 1, &block), PGS_E_INVALID);
    for (uint32_t align = 1; align <= PAGE; align *= PAGE) {
        CHECK_EQ(pgs_heap_alloc(heap, size - guard, align, &block), PGS_OK);
        CHECK_EQ(heap_stats(heap).largest_bytes, 0);
        uint64_t none;
        CHECK_EQ(pgs_heap_alloc(heap, 1, 1, &none), PGS_E_HEAP_EXHAUSTED);
        CHECK_EQ(pgs_heap_free(heap, block), PGS_OK);
    }
    struct pgs_heap_stats stats = heap_stats(heap);
    CHECK_EQ(stats.free_bytes, size);
    CHECK_EQ(stats.free_runs, 1);
    CHECK_EQ(stats.used_bytes, 0);
    CHECK_EQ(stats.used_bytes_max, size - guard);
    CHECK_EQ(stats.refusals, 2);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    CHECK_EQ(pgs_heap_close(NULL), PGS_OK);
    pgs_store_close(store);
}

static void errors_are_told_apart(uint32_t kind)
{
    pgs_store *store = store_new(2 << 20, PAGE);
    pgs_heap *heap = heap_new(store, kind, 16 * PAGE);
    unsigned char bytes[64] = {0};
    struct pgs_heap_block where;
    void *address;
    uint64_t kept = alloc(heap, 40), gone = alloc(heap, 40), behind = alloc(heap, 40);
    CHECK_EQ(pgs_heap_free(heap, gone), PGS_OK);
    for (int again = 0; again < 2; again++) {
        CHECK_EQ(pgs_heap_free(heap, gone), PGS_E_HEAP_DOUBLE_FREE);
        CHECK_EQ(pgs_heap_read(heap, gone, 0, bytes, 1), PGS_E_HEAP_USE_AFTER_FREE);
        CHECK_EQ(pgs_heap_write(heap, gone, 0, bytes, 1), PGS_E_HEAP_USE_AFTER_FREE);
        CHECK_EQ(pgs_heap_block(heap, gone, &where), PGS_E_HEAP_USE_AFTER_FREE);
        CHECK_EQ(pgs_heap_address(heap, gone, &address),
                 kind == PGS_HEAP_PAGED ? PGS_E_UNSUPPORTED : PGS_E_HEAP_USE_AFTER_FREE);
        alloc(heap, 40); /* in the same place */
    }
    const uint64_t strangers[] = {0, kept + 1, kept + 16, 77, UINT64_MAX, kept ^ UINT64_C(1) << 60,
                                  UINT64_C(5) << 32 | 1, UINT64_C(6) << 32};
    for (unsigned i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        CHECK_EQ(pgs_heap_free(heap, strangers[i]), PGS_E_HEAP_NOT_A_BLOCK);
        CHECK_EQ(pgs_heap_read(heap, strangers[i], 0, bytes, 1), PGS_E_HEAP_NOT_A_BLOCK);
    }
    const uint64_t beyond[][2] = {{0, 41}, {40, 1}, {41, 0}, {39, 2}, {UINT64_MAX, 2}, {2, UINT64_MAX}};
    CHECK_EQ(pgs_heap_write(heap, kept, 0, "0123456789012345678901234567890123456789", 40), PGS_OK);
    for (unsigned i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        CHECK_EQ(pgs_heap_read(heap, kept, beyond[i][0], bytes, beyond[i][1]), PGS_E_HEAP_OVERRUN);
        CHECK_EQ(pgs_heap_write(heap, kept, beyond[i][0], bytes, beyond[i][1]), PGS_E_HEAP_OVERRUN);
    }
    CHECK_EQ(pgs_heap_read(heap, kept, 38, bytes, 2), PGS_OK);
    CHECK_BYTES(bytes, "89", 2);
    CHECK_EQ(pgs_heap_free(heap, behind), PGS_OK);
    CHECK_EQ(pgs_heap_free(heap, kept), PGS_OK);
    CHECK_EQ(pgs_heap_free(heap, kept), PGS_E_HEAP_DOUBLE_FREE);
    pgs_store_close(store);
}

/* What is written through an address is found at the free and by a check. */
static void damage_is_found(void)
{
    pgs_store *store = store_new(2 << 20, PAGE);
    pgs_heap *heap = heap_new(store, PGS_HEAP_NONPAGED, 16 * PAGE);
    uint64_t found, at;
    for (uint64_t size = 1; size <= 40; size++) {
        uint64_t block = alloc(heap, size);
        unsigned char *bytes = address_of_block(heap, block);
        struct pgs_heap_block where;
        CHECK_EQ(pgs_heap_block(heap, block, &where), PGS_OK);
        memset(bytes, 0xEE, size);
        CHECK_EQ(pgs_heap_check(heap, &found, &at), PGS_OK);
        for (uint64_t over = 0; over < GUARD; over++) {
            bytes[size + over] ^= 0x10;
            CHECK_EQ(pgs_heap_check(heap, &found, &at), PGS_E_HEAP_OVERRUN);
            CHECK_EQ(found, block);
            CHECK_EQ(at, where.offset_bytes + size + over);
            CHECK_EQ(pgs_heap_free(heap, block), PGS_E_HEAP_OVERRUN);
            bytes[size + over] ^= 0x10;
        }
        CHECK_EQ(pgs_heap_free(heap, block), PGS_OK);
        CHECK_EQ(pgs_heap_check(heap, &found, &at), PGS_OK);
        CHECK(bytes[0] == 0xDD && bytes[size - 1] == 0xDD);
        bytes[size / 2] = 0;
        CHECK_EQ(pgs_heap_check(heap, &found, &at), PGS_E_HEAP_USE_AFTER_FREE);
        CHECK_EQ(found, 0);
        CHECK_EQ(at, where.offset_bytes + size / 2);
        bytes[size / 2] = 0xDD;
    }
    pgs_store_close(store);
}

static void forgotten_pages_are_zeros(void)
{
    struct fixture_options options = {.codec_id = PGS_CODEC_LZ4, .page_count = 64,
                                      .budget_bytes = 768 * KIB, .pool_percent = 50, .anonymous = 1};
    struct fixture fixture;
    struct noise noise = noise_seeded();
    unsigned char page[PAGE];
    uint64_t forgotten;
    CHECK_EQ(fixture_open(&fixture, &options), PGS_OK);
    uint64_t idle = fixture_stats(&fixture).stored_bytes;
    for (uint64_t i = 0; i < 64; i++) {
        fixture_fill_page(page, PAGE, &noise);
        CHECK_EQ(pgs_write(fixture.store, fixture.object, &i, 1, page, NULL), PGS_OK);
        if (i % 3 == 0)
            CHECK_EQ(pgs_page_out(fixture.store, fixture.object, &i, 1, NULL), PGS_OK);
        memcpy(fixture_shadow(&fixture, i), page, PAGE);
    }
    uint64_t pinned = 7;
    CHECK_EQ(pgs_pin(fixture.store, fixture.object, &pinned, 1), PGS_OK);
    CHECK_EQ(pgs_forget(fixture.store, fixture.object, 4, 50, &forgotten), PGS_E_PINNED);
    for (uint64_t i = 4; i < 54; i++)
        if (i != pinned)
            memset(fixture_shadow(&fixture, i), 0, PAGE);
    for (uint64_t i = 0; i < 64; i++)
        fixture_check_page(&fixture, i, i % 2 ? PGS_READ_THROUGH : PGS_READ_INTO_FRAME);
    CHECK_EQ(pgs_forget(fixture.store, fixture.object, 60, 5, &forgotten), PGS_E_RANGE);
    CHECK_EQ(pgs_forget(fixture.store, fixture.object, 65, 0, &forgotten), PGS_E_RANGE);
    CHECK_EQ(pgs_forget(fixture.store, 99, 0, 1, &forgotten), PGS_E_RANGE);
    CHECK_EQ(pgs_forget(fixture.store, fixture.object, 64, 0, &forgotten), PGS_OK);
    CHECK_EQ(pgs_unpin(fixture.store, fixture.object, &pinned, 1), PGS_OK);
    CHECK_EQ(pgs_forget(fixture.store, fixture.object, 0, 64, &forgotten), PGS_OK);
    struct pgs_stats stats = fixture_stats(&fixture);
    CHECK_EQ(stats.dirty_pages, 0);
    CHECK_EQ(stats.absent_pages, 64);
    CHECK_EQ(stats.stored_bytes, idle);
    fixture_close(&fixture);
    options.anonymous = 0;
    CHECK_EQ(fixture_open(&fixture, &options), PGS_OK);
    /* Of what has a backing, the bytes are gone for good, until it is written whole. */
    CHECK_EQ(pgs_forget(fixture.store, fixture.object, 0, 2, &forgotten), PGS_OK);
    CHECK_EQ(forgotten, 2);
    uint64_t gone = 0;
    unsigned char bytes[PAGE] = {1};
    CHECK_EQ(pgs_read(fixture.store, fixture.object, &gone, 1, 0, bytes, NULL), PGS_E_GONE);
    CHECK_EQ(pgs_write_part(fixture.store, fixture.object, 0, 0, bytes, 8), PGS_E_GONE);
    CHECK_EQ(pgs_pin(fixture.store, fixture.object, &gone, 1), PGS_E_GONE);
    CHECK_EQ(pgs_page_out(fixture.store, fixture.object, &gone, 1, NULL), PGS_OK);
    CHECK_EQ(pgs_write(fixture.store, fixture.object, &gone, 1, bytes, NULL), PGS_OK);
    memcpy(fixture_shadow(&fixture, 0), bytes, PAGE);
    fixture_check_page(&fixture, 0, 0);
    CHECK_EQ(pgs_page_out(fixture.store, fixture.object, &gone, 1, NULL), PGS_OK);
    fixture_check_page(&fixture, 0, 0);
    fixture_close(&fixture);
}

/* In whatever order small blocks go, a page goes with the last of its blocks. */
static void freed_pages_go(void)
{
    enum { COUNT = 1000 };
    pgs_store *store = store_new(4 << 20, PAGE);
    pgs_heap *heap = heap_new(store, PGS_HEAP_PAGED, COUNT * 208);
    struct noise noise = noise_seeded();
    uint64_t blocks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = alloc(heap, 200);
        CHECK_EQ(pgs_heap_write(heap, blocks[i], 0, &i, sizeof i), PGS_OK);
    }
    CHECK(stats_of(store).dirty_pages >= COUNT * 208 / PAGE);
    for (int i = COUNT; i > 0; i--) {
        size_t at = noise_below(&noise, (size_t)i);
        CHECK_EQ(pgs_heap_free(heap, blocks[at]), PGS_OK);
        blocks[at] = blocks[i - 1];
        /* No more pages than blocks that may lie on two each. */
        CHECK(stats_of(store).dirty_pages <= 2 * (uint64_t)(i - 1));
    }
    CHECK_EQ(stats_of(store).dirty_pages, 0);
    CHECK_EQ(stats_of(store).hot_pages, 0);
    CHECK_EQ(heap_stats(heap).free_runs, 1);
    pgs_store_close(store);
}

static void budget_is_kept(void)
{
    pgs_store *store = store_new(1 << 20, PAGE);
    uint64_t before = stats_of(store).metadata_bytes;
    pgs_heap *heap, *other;
    CHECK_EQ(heap_try(store, PGS_HEAP_NONPAGED, 1 << 20, &heap), PGS_E_BUDGET);
    CHECK(heap == NULL);
    CHECK_EQ(stats_of(store).metadata_bytes, before);
    heap = heap_new(store, PGS_HEAP_NONPAGED, 512 * KIB);
    CHECK(stats_of(store).metadata_bytes >= before + 512 * KIB);
    CHECK_EQ(heap_stats(heap).metadata_bytes, stats_of(store).metadata_bytes - before);
    CHECK_EQ(heap_try(store, PGS_HEAP_NONPAGED, 512 * KIB, &other), PGS_E_BUDGET);
    CHECK_EQ(pgs_store_set_budget(store, 512 * KIB), PGS_E_BUDGET);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    CHECK_EQ(stats_of(store).metadata_bytes, before);
    CHECK_EQ(pgs_store_set_budget(store, 512 * KIB), PGS_OK);
    /* Its metadata grows until there is no RAM for it; what is there stays. */
    heap = heap_new(store, PGS_HEAP_PAGED, 1 << 20);
    uint64_t block, count = 0, last = 0;
    int error;
    while ((error = pgs_heap_alloc(heap, 16, 1, &block)) == PGS_OK) {
        last = block;
        count++;
    }
    CHECK_EQ(error, PGS_E_BUDGET);
    CHECK(count * 32 <= heap_stats(heap).metadata_bytes && count > 1000);
    CHECK_EQ(heap_stats(heap).block_count, count);
    CHECK_EQ(pgs_heap_free(heap, last), PGS_OK);
    CHECK_EQ(pgs_heap_alloc(heap, 16, 1, &block), PGS_OK);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    pgs_store_close(store);
}

/* Blocks in reserve need no RAM that is not there from the start, nor a page to leave. */
static void reserve_is_there(void)
{
    enum { RESERVE = 3000 };
    pgs_store *store = store_new(1 << 20, PAGE);
    struct pgs_heap_params params = {.struct_size = sizeof params, .kind = PGS_HEAP_NONPAGED,
                                     .size_bytes = 256 * KIB, .block_reserve = RESERVE};
    pgs_heap *heap;
    uint64_t blocks[RESERVE];
    CHECK_EQ(pgs_heap_open(store, &params, &heap), PGS_OK);
    uint64_t used = stats_of(store).used_bytes;
    for (int i = 0; i < RESERVE; i++)
        blocks[i] = alloc(heap, 20);
    for (int i = 0; i < RESERVE; i += 2)
        CHECK_EQ(pgs_heap_free(heap, blocks[i]), PGS_OK);
    for (int i = 0; i < RESERVE; i += 2)
        blocks[i] = alloc(heap, 8);
    CHECK_EQ(stats_of(store).used_bytes, used);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    params.block_reserve = UINT32_MAX; /* no more than it can ever need */
    params.size_bytes = 4 * KIB;
    CHECK_EQ(pgs_heap_open(store, &params, &heap), PGS_OK);
    CHECK(heap_stats(heap).metadata_bytes < 32 * KIB);
    pgs_store_close(store);
}

static void misuse_is_refused(void)
{
    pgs_store *store = store_new(1 << 20, PAGE);
    pgs_heap *heap;
    struct pgs_heap_params good = {.struct_size = sizeof good, .size_bytes = 64 * KIB, .level = 3},
                           bad;
    CHECK_EQ(heap_try(store, 2, PAGE, &heap), PGS_E_INVALID);
    CHECK_EQ(heap_try(store, PGS_HEAP_PAGED, 0, &heap), PGS_E_INVALID);
    CHECK_EQ(heap_try(store, PGS_HEAP_PAGED, UINT64_MAX, &heap), PGS_E_INVALID);
    CHECK_EQ(heap_try(store, PGS_HEAP_NONPAGED, UINT64_C(1) << 36, &heap), PGS_E_INVALID);
    CHECK_EQ(heap_try(store, PGS_HEAP_NONPAGED, (UINT64_C(1) << 36) - 65536, &heap), PGS_E_BUDGET);
    bad = good;
    bad.level = PGS_LEVEL_PINNED;
    CHECK_EQ(pgs_heap_open(store, &bad, &heap), PGS_E_INVALID);
    bad.level = PGS_LEVEL_COUNT;
    CHECK_EQ(pgs_heap_open(store, &bad, &heap), PGS_E_INVALID);
    bad = good;
    bad.struct_size--;
    CHECK_EQ(pgs_heap_open(store, &bad, &heap), PGS_E_INVALID);
    /* A pinned page keeps its heap open, and keeps its bytes when they are freed. */
    CHECK_EQ(pgs_heap_open(store, &good, &heap), PGS_OK);
    uint64_t page_no = 0, block = alloc(heap, 2 * PAGE);
    uint32_t object = pgs_heap_object(heap);
    CHECK_EQ(pgs_pin(store, object, &page_no, 1), PGS_OK);
    CHECK_EQ(pgs_heap_free(heap, block), PGS_OK);
    CHECK_EQ(pgs_heap_close(heap), PGS_E_PINNED);
    CHECK_EQ(heap_stats(heap).free_runs, 1);
    CHECK_EQ(pgs_unpin(store, object, &page_no, 1), PGS_OK);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    CHECK_EQ(stats_of(store).page_count, 0);
    heap = heap_new(store, PGS_HEAP_NONPAGED, PAGE);
    CHECK_EQ(pgs_heap_object(heap), UINT32_MAX);
    pgs_store_close(store);
    store = store_new(1 << 20, 512); /* RAM comes in pages of the system */
    heap = heap_new(store, PGS_HEAP_NONPAGED, 512);
    CHECK_EQ(heap_stats(heap).size_bytes, (uint64_t)sysconf(_SC_PAGESIZE));
    pgs_store_close(store);
}

/* -- random steps ------------------------------------------------------------------ */

struct block {
    uint64_t handle, size, offset;
    uint64_t seed;
};

struct model {
    pgs_store *store;
    pgs_heap *heap;
    unsigned char *owned; /* granules; NULL where several threads share the heap */
    uint64_t granules, guard;
    struct block blocks[BLOCKS];
    unsigned count;
    uint64_t used, exhausted, steps;
    struct noise noise;
};

/* Some blocks' bytes shrink well, others not at all. */
static void make_bytes(const struct block *block, unsigned char *bytes)
{
    struct noise noise = {block->seed};
    if (block->seed % 4)
        memset(bytes, (int)(block->seed & 0xff), block->size);
    else
        noise_fill(&noise, bytes, block->size);
    bytes[0] = bytes[block->size - 1] = (unsigned char)(block->seed >> 8);
}

static void own(struct model *model, const struct block *block, unsigned char owned)
{
    uint64_t first = block->offset / GRANULE;
    uint64_t count = (block->size + model->guard + GRANULE - 1) / GRANULE;
    for (uint64_t i = first; model->owned && i < first + count; i++) {
        CHECK(i < model->granules && model->owned[i] != owned);
        model->owned[i] = owned;
    }
}

/* Whether there is room, as the map of granules says. */
static int has_room(const struct model *model, uint64_t size, uint32_t align)
{
    uint64_t length = (size + model->guard + GRANULE - 1) / GRANULE, free_from = 0;
    uint64_t step = align > GRANULE ? align / GRANULE : 1;
    for (uint64_t i = 0; i < model->granules; i++) {
        if (model->owned[i])
            free_from = i + 1;
        else if (i + 1 - (free_from + step - 1) / step * step >= length &&
                 i + 1 > (free_from + step - 1) / step * step)
            return 1;
    }
    return 0;
}

static void model_alloc(struct model *model)
{
    struct block *block = &model->blocks[model->count];
    struct pgs_heap_block where;
    uint32_t align = 1u << (noise_below(&model->noise, 4) ? 0 : noise_below(&model->noise, 13));
    block->size = 1 + noise_below(&model->noise, noise_below(&model->noise, 8) ? 700 : 3 * PAGE);
    block->seed = noise_next(&model->noise) | 1 << 10;
    int error = pgs_heap_alloc(model->heap, block->size, align, &block->handle);
    if (error) {
        CHECK_EQ(error, PGS_E_HEAP_EXHAUSTED);
        CHECK(!model->owned || !has_room(model, block->size, align));
        model->exhausted++;
        return;
    }
    CHECK_EQ(pgs_heap_block(model->heap, block->handle, &where), PGS_OK);
    CHECK_EQ(where.size_bytes, block->size);
    CHECK_EQ(where.offset_bytes % align, 0);
    block->offset = where.offset_bytes;
    own(model, block, 1);
    unsigned char bytes[3 * PAGE];
    make_bytes(block, bytes);
    CHECK_EQ(pgs_heap_write(model->heap, block->handle, 0, bytes, block->size), PGS_OK);
    model->used += block->size;
    model->count++;
}

static void model_check(const struct model *model, const struct block *block)
{
    unsigned char bytes[3 * PAGE], expected[3 * PAGE];
    CHECK_EQ(pgs_heap_read(model->heap, block->handle, 0, bytes, block->size), PGS_OK);
    make_bytes(block, expected);
    CHECK_BYTES(bytes, expected, block->size);
}

static void model_free(struct model *model, size_t at)
{
    struct block *block = &model->blocks[at];
    unsigned char byte;
    model_check(model, block);
    own(model, block, 0);
    CHECK_EQ(pgs_heap_free(model->heap, block->handle), PGS_OK);
    CHECK_EQ(pgs_heap_free(model->heap, block->handle), PGS_E_HEAP_DOUBLE_FREE);
    CHECK_EQ(pgs_heap_read(model->heap, block->handle, 0, &byte, 1), PGS_E_HEAP_USE_AFTER_FREE);
    model->used -= block->size;
    *block = model->blocks[--model->count];
}

static void model_rewrite(struct model *model, struct block *block)
{
    unsigned char bytes[3 * PAGE];
    block->seed = noise_next(&model->noise) | 1 << 10;
    make_bytes(block, bytes);
    uint64_t half = block->size / 2;
    CHECK_EQ(pgs_heap_write(model->heap, block->handle, half, bytes + half, block->size - half),
             PGS_OK);
    CHECK_EQ(pgs_heap_write(model->heap, block->handle, 0, bytes, half), PGS_OK);
}

/* Has pages of the heap leave RAM's frames, so that blocks fault. */
static void model_press(struct model *model)
{
    uint32_t object = pgs_heap_object(model->heap);
    uint64_t page_no = noise_below(&model->noise, model->granules * GRANULE / PAGE);
    if (object != UINT32_MAX)
        CHECK_EQ(pgs_page_out(model->store, object, &page_no, 1, NULL), PGS_OK);
}

static void model_step(struct model *model)
{
    uint64_t found, at;
    size_t draw = noise_below(&model->noise, 100);
    /* It fills up and runs empty by turns. */
    size_t allocs = ++model->steps / 1000 % 2 ? 30 : 55;
    if (model->count == 0 || (draw < allocs && model->count < BLOCKS))
        model_alloc(model);
    else if (draw < 80)
        model_free(model, noise_below(&model->noise, model->count));
    else if (draw < 90)
        model_rewrite(model, &model->blocks[noise_below(&model->noise, model->count)]);
    else if (draw < 98)
        model_press(model);
    else
        CHECK_EQ(pgs_heap_check(model->heap, &found, &at), PGS_OK);
}

static void model_end(struct model *model)
{
    while (model->count)
        model_free(model, model->count - 1);
}

static void check_empty(pgs_heap *heap, pgs_store *store)
{
    struct pgs_heap_stats stats = heap_stats(heap);
    CHECK_EQ(stats.block_count, 0);
    CHECK_EQ(stats.used_bytes, 0);
    CHECK_EQ(stats.free_runs, 1);
    CHECK_EQ(stats.free_bytes, stats.size_bytes);
    CHECK_EQ(stats.allocations, stats.frees);
    CHECK_EQ(stats_of(store).dirty_pages, 0);
    CHECK_EQ(stats_of(store).hot_pages, 0);
}

static void random_steps(uint32_t kind, uint64_t steps)
{
    struct model *model = calloc(1, sizeof *model);
    model->noise = noise_seeded();
    model->store = store_new(2 << 20, PAGE);
    model->heap = heap_new(model->store, kind, 256 * KIB);
    model->granules = 256 * KIB / GRANULE;
    model->guard = kind == PGS_HEAP_NONPAGED ? GUARD : 0;
    model->owned = calloc(model->granules, 1);
    for (uint64_t i = 0; i < steps; i++) {
        model_step(model);
        struct pgs_heap_stats stats = heap_stats(model->heap);
        CHECK_EQ(stats.block_count, model->count);
        CHECK_EQ(stats.used_bytes, model->used);
    }
    printf("kind %u: %llu times exhausted, %u blocks at the end\n", kind,
           (unsigned long long)model->exhausted, model->count);
    CHECK(model->exhausted > 0);
    model_end(model);
    check_empty(model->heap, model->store);
    pgs_store_close(model->store);
    free(model->owned);
    free(model);
}

struct actor {
    struct model model;
    uint64_t steps;
};

static void *act(void *ctx)
{
    struct actor *actor = ctx;
    for (uint64_t i = 0; i < actor->steps; i++)
        model_step(&actor->model);
    model_end(&actor->model);
    return NULL;
}

static void threads_share(uint32_t kind, uint64_t steps, unsigned threads)
{
    struct actor *actors = calloc(threads, sizeof *actors);
    pthread_t ids[THREADS_MAX];
    struct noise noise = noise_seeded();
    pgs_store *store = store_new(2 << 20, PAGE);
    pgs_heap *heap = heap_new(store, kind, 256 * KIB);
    for (unsigned i = 0; i < threads; i++) {
        actors[i].steps = steps;
        actors[i].model = (struct model){.store = store, .heap = heap, .noise = {noise.state + i},
                                         .granules = 256 * KIB / GRANULE};
        CHECK_EQ(pthread_create(&ids[i], NULL, act, &actors[i]), 0);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    check_empty(heap, store);
    CHECK_EQ(pgs_heap_close(heap), PGS_OK);
    pgs_store_close(store);
    free(actors);
}

enum { TURN_PAGES = 2, TURNS = 3000 };

static void *take_turns(void *ctx)
{
    pgs_heap *heap = ctx;
    uint64_t block;
    for (int i = 0; i < TURNS; i++) {
        CHECK_EQ(pgs_heap_alloc(heap, TURN_PAGES * PAGE - GUARD, PAGE, &block), PGS_OK);
        CHECK_EQ(pgs_heap_write(heap, block, 0, &i, sizeof i), PGS_OK);
        CHECK_EQ(pgs_heap_free(heap, block), PGS_OK);
    }
    return NULL;
}

/* What is just being freed is waited for: with room for a block each, nobody is refused. */
static void freeing_is_waited_for(uint32_t kind, unsigned threads)
{
    pthread_t ids[THREADS_MAX];
    pgs_store *store = store_new(2 << 20, PAGE);
    pgs_heap *heap = heap_new(store, kind, threads * TURN_PAGES * PAGE);
    for (unsigned i = 0; i < threads; i++)
        CHECK_EQ(pthread_create(&ids[i], NULL, take_turns, heap), 0);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    check_empty(heap, store);
    pgs_store_close(store);
}

/* A free that is under way: it waits for a page that the test has claimed. */
struct slow_free {
    pgs_store *store;
    pgs_heap *heap;
    struct page *page;
    uint64_t block;
    pthread_t thread;
};

static void *free_it(void *ctx)
{
    struct slow_free *slow = ctx;
    CHECK_EQ(pgs_heap_free(slow->heap, slow->block), PGS_OK);
    return NULL;
}

static void slow_free_begin(struct slow_free *slow, uint64_t page_no)
{
    uint64_t frees = heap_stats(slow->heap).frees;
    slow->page = page_entry(object_of(slow->store, pgs_heap_object(slow->heap)), (uint32_t)page_no);
    page_claim(slow->store, slow->page);
    CHECK_EQ(pthread_create(&slow->thread, NULL, free_it, slow), 0);
    while (heap_stats(slow->heap).frees == frees)
        usleep(100);
}

static void slow_free_end(struct slow_free *slow)
{
    page_publish(slow->store, slow->page, 0, 0);
    pthread_join(slow->thread, NULL);
}

static void *alloc_all(void *ctx)
{
    alloc(ctx, 4 * PAGE);
    return NULL;
}

/* The first joins the second while the third is being freed, and is not done when
 * that is: the page between the second and the third must go all the same. */
static void three_frees_overlap(pgs_store *store, pgs_heap *heap)
{
    struct slow_free first = {.store = store, .heap = heap}, third = first;
    struct page *between = page_entry(object_of(store, pgs_heap_object(heap)), 1);
    unsigned char bytes[4 * PAGE];
    memset(bytes, 0x77, sizeof bytes);
    first.block = alloc(heap, PAGE + PAGE / 2);
    uint64_t second = alloc(heap, PAGE);
    third.block = alloc(heap, PAGE + PAGE / 2);
    CHECK_EQ(pgs_heap_write(heap, first.block, 0, bytes, PAGE + PAGE / 2), PGS_OK);
    CHECK_EQ(pgs_heap_write(heap, second, 0, bytes, PAGE), PGS_OK);
    CHECK_EQ(pgs_heap_write(heap, third.block, 0, bytes, PAGE + PAGE / 2), PGS_OK);
    page_claim(store, between);
    slow_free_begin(&first, 0);
    slow_free_begin(&third, 3);
    CHECK_EQ(pgs_heap_free(heap, second), PGS_OK);
    CHECK_EQ(heap_stats(heap).free_runs, 1);
    page_publish(store, first.page, 0, 0);
    while (heap_stats(heap).free_runs == 1)
        usleep(100);
    slow_free_end(&third);
    first.page = between;
    slow_free_end(&first);
    check_empty(heap, store);
}

static void frees_overlap(void)
{
    const uint64_t sizes[] = {PAGE + PAGE / 2, 2 * PAGE + PAGE / 2};
    struct slow_free slow = {.store = store_new(2 << 20, PAGE)};
    slow.heap = heap_new(slow.store, PGS_HEAP_PAGED, 4 * PAGE);
    for (int first = 0; first < 2; first++) {
        uint64_t blocks[2];
        unsigned char bytes[3 * PAGE];
        memset(bytes, 0x77, sizeof bytes);
        for (int i = 0; i < 2; i++) {
            blocks[i] = alloc(slow.heap, sizes[i]);
            CHECK_EQ(pgs_heap_write(slow.heap, blocks[i], 0, bytes, sizes[i]), PGS_OK);
        }
        CHECK_EQ(stats_of(slow.store).dirty_pages, 4);
        /* While one is being freed its neighbour is: the page between goes with the last. */
        slow.block = blocks[first];
        slow_free_begin(&slow, first ? 3 : 0);
        CHECK_EQ(pgs_heap_free(slow.heap, blocks[!first]), PGS_OK);
        CHECK_EQ(pgs_heap_free(slow.heap, slow.block), PGS_E_HEAP_DOUBLE_FREE);
        slow_free_end(&slow);
        check_empty(slow.heap, slow.store);
    }
    three_frees_overlap(slow.store, slow.heap);
    /* Who needs what is being freed waits for it. */
    pthread_t other;
    slow.block = alloc(slow.heap, 4 * PAGE);
    slow_free_begin(&slow, 2);
    CHECK_EQ(pthread_create(&other, NULL, alloc_all, slow.heap), 0);
    usleep(20000); /* time to be refused in; it must not be, however long this is */
    slow_free_end(&slow);
    pthread_join(other, NULL);
    CHECK_EQ(heap_stats(slow.heap).refusals, 0);
    pgs_store_close(slow.store);
}

int main(int argc, char **argv)
{
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000;
    unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 4;
    CHECK(threads >= 1 && threads <= THREADS_MAX);
    for (uint32_t kind = PGS_HEAP_PAGED; kind <= PGS_HEAP_NONPAGED; kind++) {
        bytes_come_back(kind, PAGE);
        bytes_come_back(kind, 512);
        bytes_come_back(kind, 65536);
        alignment_holds(kind);
        sizes_have_limits(kind);
        errors_are_told_apart(kind);
        random_steps(kind, steps);
        threads_share(kind, steps / threads, threads);
        freeing_is_waited_for(kind, threads);
    }
    RUN(damage_is_found);
    RUN(forgotten_pages_are_zeros);
    RUN(freed_pages_go);
    RUN(frees_overlap);
    RUN(budget_is_kept);
    RUN(reserve_is_there);
    RUN(misuse_is_refused);
    return 0;
}
