/* SPDX-License-Identifier: MIT
 *
 * Threads that touch one map at random, under eviction, against an oracle: what each page
 * must hold. A page is written by one thread only, in its first half, and read by all.
 *
 * usage: test_map_threads [touches [threads]]
 */
#include "map_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/family.h"

enum { PAGE = 4096, PAGES = 1500, HALF = PAGE / 2, RUN_MAX = 64, THREADS_MAX = 16,
       WINDOW = 32 /* pages that one fault brings at most */ };

struct toucher {
    struct fixture *fixture;
    pgs_map *map;
    struct noise noise;
    uint64_t touches;
    unsigned number, threads;
    int writes;
};

static unsigned char *mapped(const struct toucher *toucher, uint64_t page_no)
{
    return (unsigned char *)pgs_map_address(toucher->map) + page_no * PAGE;
}

/* A page of the thread's own. */
static uint64_t own_page(struct toucher *toucher)
{
    uint64_t page_no = noise_below(&toucher->noise, PAGES - toucher->threads);
    return page_no - page_no % toucher->threads + toucher->number;
}

static void touch_own(struct toucher *toucher)
{
    uint64_t page_no = own_page(toucher), at = noise_below(&toucher->noise, HALF);
    unsigned char *shadow = fixture_shadow(toucher->fixture, page_no);
    CHECK_EQ(mapped(toucher, page_no)[at], shadow[at]);
    if (toucher->writes && noise_word(&toucher->noise) % 4 == 0)
        mapped(toucher, page_no)[at] = shadow[at] = (unsigned char)noise_word(&toucher->noise);
}

static void touch_any(struct toucher *toucher)
{
    uint64_t page_no = noise_below(&toucher->noise, PAGES);
    uint64_t at = HALF + noise_below(&toucher->noise, HALF);
    CHECK_EQ(mapped(toucher, page_no)[at], fixture_shadow(toucher->fixture, page_no)[at]);
}

/* As a scan does, up or down: the reader comes to it. */
static void touch_run(struct toucher *toucher)
{
    uint64_t from = noise_below(&toucher->noise, PAGES - RUN_MAX);
    int down = noise_word(&toucher->noise) % 2;
    for (uint64_t i = 0; i < RUN_MAX; i++) {
        uint64_t page_no = from + (down ? RUN_MAX - 1 - i : i), at = PAGE - 1 - i;
        CHECK_EQ(mapped(toucher, page_no)[at], fixture_shadow(toucher->fixture, page_no)[at]);
    }
}

static void call_beside(struct toucher *toucher, uint32_t draw)
{
    pgs_store *store = toucher->fixture->store;
    uint32_t object = toucher->fixture->object;
    uint64_t page_no = own_page(toucher);
    unsigned char *shadow = fixture_shadow(toucher->fixture, page_no), page[PAGE];
    if (draw == 0) {
        int error = pgs_page_out(store, object, &page_no, 1, NULL);
        CHECK(error == PGS_OK || error == PGS_E_BUDGET);
    } else if (draw == 1) {
        CHECK_EQ(pgs_map_detach(toucher->map, page_no, PAGES - page_no), PGS_OK);
    } else if (draw == 2) {
        /* From and to pages of the map itself. */
        CHECK_EQ(pgs_read(store, object, &page_no, 1, 0, page, NULL), PGS_OK);
        CHECK_BYTES(page, shadow, PAGE);
        if (toucher->writes)
            CHECK_EQ(pgs_write(store, object, &page_no, 1, mapped(toucher, page_no), NULL), PGS_OK);
    } else {
        CHECK_EQ(pgs_map_prefetch(toucher->map, page_no, 1, 0, NULL), PGS_OK);
    }
}

/* Samples what the store takes of the system: pages in the home, pool and metadata, at moments
 * when none leaves for another tier. */
struct watch {
    struct fixture *fixture;
    atomic_bool stop;
    unsigned samples;
    uint64_t most;
};

static void *watch_ram(void *ctx)
{
    struct watch *watch = ctx;
    const struct home *home = member_of(watch->fixture->store, watch->fixture->object)->home;
    while (!atomic_load(&watch->stop)) {
        struct stat file;
        usleep(100);
        struct pgs_stats before = fixture_stats(watch->fixture);
        CHECK_EQ(fstat(home->fd, &file), 0);
        struct pgs_stats after = fixture_stats(watch->fixture);
        uint64_t bytes = (uint64_t)file.st_blocks * 512 + before.pool_bytes + before.metadata_bytes;
        if (after.page_outs != before.page_outs)
            continue;
        watch->samples++;
        watch->most = bytes > watch->most ? bytes : watch->most;
    }
    return NULL;
}

static void *touch_all(void *ctx)
{
    struct toucher *toucher = ctx;
    for (uint64_t i = 0; i < toucher->touches; i++) {
        uint32_t draw = noise_word(&toucher->noise) % 4096;
        if (draw < 4)
            call_beside(toucher, draw);
        else if (draw < 20)
            touch_run(toucher);
        else if (draw % 2)
            touch_own(toucher);
        else
            touch_any(toucher);
    }
    return NULL;
}

/* What the command line says. */
static uint64_t touches = 60000;
static unsigned threads = 4;

static void run(const struct way *way)
{
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = 3 << 20,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 40,
                                      .writable = 1};
    struct fixture fixture;
    struct toucher touchers[THREADS_MAX];
    pthread_t ids[THREADS_MAX], watcher;
    struct watch watch = {.fixture = &fixture};
    CHECK_EQ(fixture_open(&fixture, &options), PGS_OK);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    for (unsigned t = 0; t < threads; t++) {
        touchers[t] = (struct toucher){.fixture = &fixture, .map = map, .number = t,
                                       .noise = noise_seeded(), .threads = threads,
                                       .touches = touches / threads, .writes = is_writable(way)};
        touchers[t].noise.state += t;
        CHECK_EQ(pthread_create(&ids[t], NULL, touch_all, &touchers[t]), 0);
    }
    CHECK_EQ(pthread_create(&watcher, NULL, watch_ram, &watch), 0);
    for (unsigned t = 0; t < threads; t++)
        pthread_join(ids[t], NULL);
    atomic_store(&watch.stop, true);
    pthread_join(watcher, NULL);
    printf("%u samples, at most %llu of %llu bytes\n", watch.samples,
           (unsigned long long)watch.most, (unsigned long long)options.budget_bytes);
    CHECK(watch.samples > 0);
    CHECK(watch.most <= options.budget_bytes + (uint64_t)(threads + 2) * WINDOW * PAGE);
    CHECK_BYTES(pgs_map_address(map), fixture.shadow, (size_t)PAGES * PAGE);
    struct pgs_map_stats stats = stats_of(map);
    struct pgs_stats all = fixture_stats(&fixture);
    printf("%s: %llu faults, %llu attaches, %llu write faults, %llu ahead, %llu detached, "
           "%llu page-outs\n", way->name, (unsigned long long)stats.faults,
           (unsigned long long)stats.attaches, (unsigned long long)stats.write_faults,
           (unsigned long long)stats.pages_ahead, (unsigned long long)stats.detaches,
           (unsigned long long)all.page_outs);
    CHECK_EQ(stats.failures, 0);
    CHECK(all.used_bytes_max <= options.budget_bytes);
    pgs_map_close(map);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    fixture_close(&fixture);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        touches = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        threads = (unsigned)strtoul(argv[2], NULL, 0);
    CHECK(threads >= 1 && threads <= THREADS_MAX);
    in_every_way(run);
    return 0;
}
