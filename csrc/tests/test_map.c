/* SPDX-License-Identifier: MIT */
#include "map_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { PAGE = 4096, PAGES = 600 };

/* What a touch finds. */
static volatile const unsigned char *page_at(pgs_map *map, uint64_t page_no)
{
    return (unsigned char *)pgs_map_address(map) + page_no * PAGE;
}

static void open_store(struct fixture *fixture, int writable, int anonymous)
{
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = 1200000,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 50,
                                      .writable = writable, .anonymous = anonymous};
    CHECK_EQ(fixture_open(fixture, &options), PGS_OK);
}

static void check_all(const struct fixture *fixture, pgs_map *map)
{
    for (uint64_t i = 0; i < fixture->page_count; i++)
        CHECK_BYTES((const void *)page_at(map, i), fixture_shadow(fixture, i), PAGE);
}

static void reads_what_is_there(const struct way *way)
{
    struct fixture fixture;
    open_store(&fixture, 0, 0);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    struct noise noise = noise_seeded();
    check_all(&fixture, map);
    for (int i = 0; i < 5000; i++) {
        uint64_t page_no = noise_below(&noise, PAGES), at = noise_below(&noise, PAGE);
        CHECK_EQ(page_at(map, page_no)[at], fixture_shadow(&fixture, page_no)[at]);
        if (i % 7 == 0)
            fixture_check_page(&fixture, noise_below(&noise, PAGES), PGS_READ_INTO_FRAME);
    }
    for (uint64_t i = PAGES; i > 0; i--)
        CHECK_EQ(page_at(map, i - 1)[9], fixture_shadow(&fixture, i - 1)[9]);
    struct pgs_map_stats stats = stats_of(map);
    CHECK_EQ(stats.service, way->service);
    CHECK_EQ(stats.writes, way->writes);
    CHECK(stats.faults > 100 && stats.pages_ahead > 100 && stats.failures == 0);
    CHECK(fixture_stats(&fixture).used_bytes_max <= 1200000);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static void writes_are_kept(const struct way *way)
{
    struct fixture fixture;
    open_store(&fixture, 1, 0);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    struct noise noise = noise_seeded();
    for (int i = 0; i < 20000; i++) {
        uint64_t page_no = noise_below(&noise, PAGES), at = noise_below(&noise, PAGE);
        unsigned char *shadow = fixture_shadow(&fixture, page_no);
        if (i % 3 == 0) {
            unsigned char byte = (unsigned char)noise_word(&noise);
            ((unsigned char *)page_at(map, page_no))[at] = shadow[at] = byte;
        } else if (i % 29 == 0) {
            fixture_fill_page(shadow, PAGE, &noise);
            CHECK_EQ(pgs_write(fixture.store, fixture.object, &page_no, 1, shadow, NULL), PGS_OK);
        } else if (i % 31 == 0) {
            fixture_check_page(&fixture, page_no, 0);
        } else if (i % 37 == 0) {
            int error = pgs_page_out(fixture.store, fixture.object, &page_no, 1, NULL);
            CHECK(error == PGS_OK || error == PGS_E_BUDGET);
        } else if (i % 41 == 0) {
            CHECK_EQ(pgs_map_detach(map, page_no, PAGES - page_no), PGS_OK);
        } else {
            CHECK_EQ(page_at(map, page_no)[at], shadow[at]);
        }
    }
    check_all(&fixture, map);
    pgs_map_close(map);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    uint64_t written, failed;
    CHECK_EQ(pgs_flush(fixture.store, fixture.object, &written, &failed), PGS_OK);
    CHECK_BYTES(fixture.fake.bytes, fixture.shadow, PAGES * PAGE);
    fixture_close(&fixture);
}

/* Pages are where an earlier map had them, and their bytes elsewhere as well. */
static void a_second_map_knows_of_writes(const struct way *way)
{
    enum { FEW = 3 };
    const uint64_t page_nos[FEW] = {0, 1, 2};
    struct fixture fixture;
    struct noise noise = noise_seeded();
    open_store(&fixture, 1, 0);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    CHECK_EQ(pgs_page_out(fixture.store, fixture.object, page_nos, FEW, NULL), PGS_OK);
    for (int i = 0; i < FEW; i++)
        CHECK_EQ(page_at(map, page_nos[i])[0], fixture_shadow(&fixture, page_nos[i])[0]);
    pgs_map_close(map);
    map = map_of(&fixture, fixture.object, way);
    for (int i = 0; i < FEW; i++) {
        noise_fill(&noise, fixture_shadow(&fixture, page_nos[i]), PAGE);
        memcpy((void *)page_at(map, page_nos[i]), fixture_shadow(&fixture, page_nos[i]), PAGE);
    }
    CHECK_EQ(pgs_page_out(fixture.store, fixture.object, page_nos, FEW, NULL), PGS_OK);
    for (int i = 0; i < FEW; i++)
        fixture_check_page(&fixture, page_nos[i], 0);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static int page_in_counted(void *ctx, uint64_t page_no, void *page)
{
    _Atomic unsigned *page_ins = ctx;
    (*page_ins)++;
    memset(page, (int)page_no + 1, PAGE);
    *(uint64_t *)page = page_no;
    return PGS_OK;
}

/* Nobody waits for a backing that is slow but for what was touched. */
static void dear_pages_come_one_by_one(const struct way *way)
{
    struct fixture fixture;
    _Atomic unsigned page_ins = 0;
    uint32_t object;
    struct pgs_backing backing = {.struct_size = sizeof backing, .ctx = (void *)&page_ins,
                                  .flags = PGS_BACKING_LEARN_LATE, .page_in = page_in_counted};
    open_store(&fixture, 0, 0);
    CHECK_EQ(pgs_object_add(fixture.store, PAGES, 0, &backing, fixture.codec, &object), PGS_OK);
    pgs_map *map = map_of(&fixture, object, way);
    for (uint64_t i = 0; i < 100; i++) {
        CHECK_EQ(page_at(map, i)[9], (unsigned char)(i + 1));
        CHECK_EQ(page_ins, i + 1);
    }
    pgs_map_close(map);
    fixture_close(&fixture);
}

/* A scan leaves long streams behind; touches here and there, of which many fall into one by
 * chance, must not bring what follows. */
static void touches_here_and_there_bring_little(const struct way *way)
{
    enum { SCANNED = 4096, PART = 256, STEP = 1031, TOUCHES = 64, BUDGET = 64 << 20 };
    struct fixture fixture;
    uint32_t object = fixture_open_memory(&fixture, SCANNED, BUDGET);
    pgs_map *map = map_of(&fixture, object, way);
    for (uint64_t end = SCANNED; end > 0; end -= PART)
        for (uint64_t i = end - PART; i < end; i++)
            CHECK_EQ(*page_at(map, i), 0);
    usleep(1000); /* for the reader */
    for (uint64_t i = 0; i < SCANNED; i++)
        pgs_page_out(fixture.store, object, &i, 1, NULL);
    struct pgs_map_stats before = stats_of(map);
    for (uint64_t i = 0; i < TOUCHES; i++)
        CHECK_EQ(*page_at(map, i * STEP % SCANNED), 0);
    usleep(1000);
    uint64_t ahead = stats_of(map).pages_ahead - before.pages_ahead;
    CHECK(stats_of(map).faults > before.faults);
    printf("%llu came with %d touches\n", (unsigned long long)ahead, TOUCHES);
    CHECK(ahead < TOUCHES);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static void all_of(const struct way *way)
{
    reads_what_is_there(way);
    if (is_writable(way)) {
        writes_are_kept(way);
        a_second_map_knows_of_writes(way);
        if (way->writes == PGS_MAP_WRITES_FAULT) /* anonymous memory has no other */
            touches_here_and_there_bring_little(way);
    } else {
        dear_pages_come_one_by_one(way);
    }
}

int main(void)
{
    in_every_way(all_of);
    return 0;
}
