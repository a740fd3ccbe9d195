/* SPDX-License-Identifier: MIT
 *
 * Guards: touches that cannot be served, of more pages than a guard keeps, by several
 * threads, while mappings are taken away; and what is there when the guard has ended. Touches
 * in atomic sections, and of more pages than the budget has entries for.
 */
#include "map_fixture.h"

#include <pthread.h>
#include <stdbool.h>

#include "pagestep/discipline.h"

enum { PAGE = 4096, PAGES = 300, THREADS = 3, ROUNDS = 3, SCANNED = 6000, STRETCH = 60,
       IN_SECTION = 10, SPARSE = 1 << 18, BUDGET = 2 << 20 };

struct touching {
    const struct fixture *fixture;
    pgs_map *map;
    uint64_t seed;
};

static const unsigned char *page_at(pgs_map *map, uint64_t page_no)
{
    return (const unsigned char *)pgs_map_address(map) + page_no * PAGE;
}

/* It reads as zeros, or as it is, where the reader has been there in time. */
static void touch_one(const struct touching *touching, uint64_t page_no)
{
    unsigned char byte = *(volatile const unsigned char *)(page_at(touching->map, page_no) + 7);
    CHECK(byte == 0 || byte == fixture_shadow(touching->fixture, page_no)[7]);
}

static void *touch_what_fails(void *ctx)
{
    const struct touching *touching = ctx;
    struct noise noise = {touching->seed};
    for (int i = 0; i < PAGES; i++) {
        uint64_t page_no = noise_below(&noise, PAGES);
        touch_one(touching, page_no);
        if (i % 50 == 0)
            CHECK_EQ(pgs_map_detach(touching->map, 0, PAGES), PGS_OK);
    }
    return NULL;
}

static void fail_under_guard(struct fixture *fixture, pgs_map *map)
{
    pthread_t threads[THREADS];
    struct touching touching[THREADS];
    uint64_t page_no = PAGES, begun = pgs_map_guard_begin(map);
    for (uint64_t i = 0; i < THREADS; i++) {
        touching[i] = (struct touching){fixture, map, i + 1};
        CHECK_EQ(pthread_create(&threads[i], NULL, touch_what_fails, &touching[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(pgs_map_guard_end(map, begun, &page_no), PGS_E_IO);
    CHECK(page_no < PAGES);
}

/* The backing alone has pages, as far as others can lose them. */
static void discard_all(struct fixture *fixture)
{
    for (uint64_t i = 0; i < PAGES; i++) {
        int error = pgs_discard(fixture->store, fixture->object, &i, 1, NULL);
        CHECK(error == PGS_OK || error == PGS_E_DIRTY);
    }
}

static void ends_in_its_error(const struct way *way)
{
    struct fixture fixture;
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = 1200000,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 50,
                                      .writable = 1};
    CHECK_EQ(fixture_open(&fixture, &options), PGS_OK);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    atomic_store(&fixture.fake.fault_page, UINT64_MAX);
    for (int round = 0; round < ROUNDS; round++) {
        discard_all(&fixture);
        atomic_store(&fixture.fake.fault, FAKE_EIO);
        fail_under_guard(&fixture, map);
        atomic_store(&fixture.fake.fault, FAKE_NONE);
        uint64_t unused, begun = pgs_map_guard_begin(map);
        for (uint64_t i = 0; i < PAGES; i++)
            CHECK_BYTES(page_at(map, i), fixture_shadow(&fixture, i), PAGE);
        CHECK_EQ(pgs_map_guard_end(map, begun, &unused), PGS_OK);
    }
    CHECK(stats_of(map).failures >= 64);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static void *guard_and_touch(void *ctx)
{
    enum { GUARDS = 200 };
    const struct touching *touching = ctx;
    struct noise noise = {touching->seed};
    for (int i = 0; i < GUARDS; i++) {
        uint64_t unused, page_no = noise_below(&noise, PAGES);
        uint64_t begun = pgs_map_guard_begin(touching->map);
        touch_one(touching, page_no);
        /* It failed, or read what another's guard shows. */
        int error = pgs_map_guard_end(touching->map, begun, &unused);
        CHECK(error == PGS_E_IO || error == PGS_OK);
    }
    return NULL;
}

/* What reads as zeros does so no longer than a guard is open, whoever's that is. */
static void guards_come_and_go(const struct way *way)
{
    struct fixture fixture;
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = 1200000,
                                      .codec_id = PGS_CODEC_LZ4};
    pthread_t threads[THREADS];
    struct touching touching[THREADS];
    CHECK_EQ(fixture_open(&fixture, &options), PGS_OK);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    discard_all(&fixture);
    atomic_store(&fixture.fake.fault_page, UINT64_MAX);
    atomic_store(&fixture.fake.fault, FAKE_EIO);
    for (uint64_t i = 0; i < THREADS; i++) {
        touching[i] = (struct touching){&fixture, map, i + 1};
        CHECK_EQ(pthread_create(&threads[i], NULL, guard_and_touch, &touching[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&fixture.fake.fault, FAKE_NONE);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_BYTES(page_at(map, i), fixture_shadow(&fixture, i), PAGE);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static _Thread_local bool in_section;

static int page_in_outside_sections(void *ctx, uint64_t page_no, void *page)
{
    uint64_t *words = page;
    (void)ctx;
    CHECK(!in_section);
    for (uint64_t i = 0; i < PAGE / sizeof *words; i++)
        words[i] = page_no * PAGE + i;
    return PGS_OK;
}

static uint64_t word_at(pgs_map *map, uint64_t page_no)
{
    return ((volatile const uint64_t *)(const void *)page_at(map, page_no))[1];
}

/* Touches pages that a stream comes to next, some of which its reader has fetched by now. */
static void scan_in_section(pgs_store *store, pgs_map *map, uint64_t from)
{
    uint64_t unused, begun = pgs_map_guard_begin(map);
    CHECK_EQ(pgs_section_begin(store, PGS_SECTION_ATOMIC), PGS_OK);
    in_section = true;
    for (uint64_t i = from; i < from + IN_SECTION; i++) {
        uint64_t word = word_at(map, i);
        CHECK(word == i * PAGE + 1 || word == 0);
    }
    in_section = false;
    CHECK_EQ(pgs_section_end(store, PGS_SECTION_ATOMIC), PGS_OK);
    int error = pgs_map_guard_end(map, begun, &unused);
    CHECK(error == PGS_OK || error == PGS_E_WOULD_FAULT);
    for (uint64_t i = from; i < from + IN_SECTION; i++)
        CHECK_EQ(word_at(map, i), i * PAGE + 1);
}

static void an_atomic_section_asks_no_backing(const struct way *way)
{
    struct fixture fixture;
    struct pgs_backing backing = {.struct_size = sizeof backing,
                                  .page_in = page_in_outside_sections};
    uint32_t object;
    fixture_open_memory(&fixture, 1, BUDGET);
    CHECK_EQ(pgs_object_add(fixture.store, SCANNED, 0, &backing, fixture.codec, &object), PGS_OK);
    pgs_map *map = map_of(&fixture, object, way);
    for (uint64_t from = 0; from < SCANNED; from += STRETCH) {
        for (uint64_t i = from; i < from + STRETCH - IN_SECTION; i++)
            CHECK_EQ(word_at(map, i), i * PAGE + 1);
        usleep(20); /* for the reader */
        scan_in_section(fixture.store, map, from + STRETCH - IN_SECTION);
    }
    pgs_map_close(map);
    fixture_close(&fixture);
}

/* Memory that nobody has written to takes entries of the page table when it is touched. */
static void sparse_memory_ends_in_the_budget(const struct way *way)
{
    enum { LOOK_EVERY = 4096, MORE = 200 };
    struct fixture fixture;
    uint32_t object = fixture_open_memory(&fixture, SPARSE, BUDGET);
    pgs_map *map = map_of(&fixture, object, way);
    uint64_t page_no, begun = pgs_map_guard_begin(map), end = SPARSE;
    for (uint64_t i = 0; i < end; i++) {
        CHECK_EQ(page_at(map, i)[i % PAGE], 0);
        if (i % LOOK_EVERY == 0 && end == SPARSE && stats_of(map).failures && i + MORE < SPARSE)
            end = i + MORE;
    }
    int error = pgs_map_guard_end(map, begun, &page_no);
    CHECK(error == PGS_E_BUDGET || (error == PGS_OK && end == SPARSE));
    CHECK(error == PGS_OK || (page_no > 0 && page_no < end));
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_EQ(page_at(map, i)[i % PAGE], 0);
    CHECK(fixture_stats(&fixture).used_bytes_max <= BUDGET);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static void all_of(const struct way *way)
{
    ends_in_its_error(way);
    guards_come_and_go(way);
    if (!is_writable(way))
        an_atomic_section_asks_no_backing(way);
    if (way->writes != PGS_MAP_WRITES_NOTED)
        sparse_memory_ends_in_the_budget(way);
}

int main(void)
{
    in_every_way(all_of);
    return 0;
}
