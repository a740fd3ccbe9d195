/* SPDX-License-Identifier: MIT
 *
 * Guards: touches that cannot be served, of more pages than a guard keeps, by several
 * threads, while mappings are taken away; and what is there when the guard has ended.
 */
#include "map_fixture.h"

#include <pthread.h>

enum { PAGE = 4096, PAGES = 300, THREADS = 3, ROUNDS = 3 };

struct touching {
    const struct fixture *fixture;
    pgs_map *map;
    uint64_t seed;
};

static const unsigned char *page_at(pgs_map *map, uint64_t page_no)
{
    return (const unsigned char *)pgs_map_address(map) + page_no * PAGE;
}

static void *touch_what_fails(void *ctx)
{
    const struct touching *touching = ctx;
    struct noise noise = {touching->seed};
    for (int i = 0; i < PAGES; i++) {
        uint64_t page_no = noise_below(&noise, PAGES);
        CHECK_EQ(*(volatile const unsigned char *)(page_at(touching->map, page_no) + 7), 0);
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
        for (uint64_t i = 0; i < PAGES; i++) {
            int error = pgs_discard(fixture.store, fixture.object, &i, 1, NULL);
            CHECK(error == PGS_OK || error == PGS_E_DIRTY);
        }
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

int main(void)
{
    for (int i = 0; i < WAYS; i++)
        if (has_way(&ways[i]))
            ends_in_its_error(&ways[i]);
    return 0;
}
