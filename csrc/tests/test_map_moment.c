/* SPDX-License-Identifier: MIT
 *
 * A fork of mapped memory is one moment of it, and a pin shows what the map shows, while
 * others take mappings away, page out, and open and close maps. Taking a mapping away is
 * made slow here: a page whose mapping is about to go can be written until then.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "map_fixture.h"

enum { PAGE = 4096, PAGES = 16, COUNTERS = 4, ROUNDS = 40, OPENS = 40, SLOW_US = 100, PAUSE_US = 30,
      
       BUDGET = 2 << 20 };

static _Thread_local unsigned slow_us; /* what this thread's madvise waits for */

/* In place of the library's. */
int madvise(void *at, size_t size, int advice)
{
    if (slow_us && advice == MADV_DONTNEED)
        usleep(slow_us);
    return (int)syscall(SYS_madvise, at, size, advice);
}

struct race {
    struct fixture fixture;
    pgs_store *store;
    uint32_t object;
    pgs_map *map;
    atomic_bool stop;
};

typedef void *thread_start(void *race);

static _Atomic uint64_t *counter_of(const struct race *race, uint64_t page_no)
{
    return (_Atomic uint64_t *)((char *)pgs_map_address(race->map) + page_no * PAGE);
}

/* Counts in the first word of each page in turn: at any moment a page has what the one before
 * it has, or is one behind; and the last behind the first by one at most. */
static void *count(void *ctx)
{
    struct race *race = ctx;
    for (uint64_t value = 1; !atomic_load(&race->stop); value++)
        for (uint64_t i = 0; i < COUNTERS; i++) {
            CHECK_EQ(atomic_load(counter_of(race, i)), value - 1);
            atomic_store(counter_of(race, i), value);
        }
    return NULL;
}

static void *detach(void *ctx)
{
    struct race *race = ctx;
    slow_us = SLOW_US;
    while (!atomic_load(&race->stop)) {
        CHECK_EQ(pgs_map_detach(race->map, 0, COUNTERS), PGS_OK);
        usleep(PAUSE_US);
    }
    return NULL;
}

static void *page_out(void *ctx)
{
    struct race *race = ctx;
    const uint64_t page_nos[COUNTERS] = {0, 1, 2, 3};
    while (!atomic_load(&race->stop)) {
        CHECK_EQ(pgs_page_out(race->store, race->object, page_nos, COUNTERS, NULL), PGS_OK);
        usleep(PAUSE_US);
    }
    return NULL;
}

static void *page_out_slowly(void *ctx)
{
    slow_us = SLOW_US;
    return page_out(ctx);
}

/* Who is at work beside the one that counts. */
enum { CROWD = 2 };
struct crowd {
    thread_start *starts[CROWD];
};
static const struct crowd crowds[] = {
    {{detach}}, {{page_out}}, {{page_out_slowly}}, {{detach, page_out}}};
enum { CROWDS = sizeof crowds / sizeof *crowds };

static void read_counters(const struct race *race, uint32_t object, uint64_t *values)
{
    uint64_t page[PAGE / sizeof(uint64_t)];
    for (uint64_t i = 0; i < COUNTERS; i++) {
        CHECK_EQ(pgs_read_page(race->store, object, i, 0, page), PGS_OK);
        values[i] = page[0];
    }
}

static void load_counters(const struct race *race, uint64_t *values)
{
    for (uint64_t i = 0; i < COUNTERS; i++)
        values[i] = atomic_load(counter_of(race, i));
}

/* All counters have gone on: whatever could be written by way of an old mapping was. */
static void wait_for_more(const struct race *race)
{
    uint64_t last = atomic_load(counter_of(race, COUNTERS - 1));
    while (atomic_load(counter_of(race, COUNTERS - 1)) < last + 2)
        sched_yield();
}

static void fork_once(const struct race *race)
{
    uint64_t before[COUNTERS], moment[COUNTERS], after[COUNTERS], later[COUNTERS];
    uint32_t child;
    load_counters(race, before);
    CHECK_EQ(pgs_object_fork(race->store, race->object, &child), PGS_OK);
    load_counters(race, after);
    read_counters(race, child, moment);
    for (int i = 0; i < COUNTERS; i++) {
        CHECK(before[i] <= moment[i] && moment[i] <= after[i]);
        CHECK(i == 0 || moment[i] <= moment[i - 1]);
        CHECK(moment[i] + 1 >= moment[0]);
    }
    wait_for_more(race);
    read_counters(race, child, later);
    CHECK_BYTES(later, moment, sizeof moment);
    CHECK_EQ(pgs_object_remove(race->store, child), PGS_OK);
}

static void run_beside(struct race *race, const struct crowd *crowd,
                       void (*step)(const struct race *))
{
    pthread_t counting, crowding[CROWD];
    atomic_init(&race->stop, false);
    CHECK_EQ(pthread_create(&counting, NULL, count, race), 0);
    for (int i = 0; i < CROWD && crowd->starts[i]; i++)
        CHECK_EQ(pthread_create(&crowding[i], NULL, crowd->starts[i], race), 0);
    for (int round = 0; round < ROUNDS; round++) {
        /* Slow as well: the others come while all mappings are taken away. */
        slow_us = round % 2 ? 3 * SLOW_US : 0;
        step(race);
    }
    slow_us = 0;
    atomic_store(&race->stop, true);
    pthread_join(counting, NULL);
    for (int i = 0; i < CROWD && crowd->starts[i]; i++)
        pthread_join(crowding[i], NULL);
}

static void a_fork_is_one_moment(const struct way *way)
{
    for (int i = 0; i < CROWDS; i++) {
        struct race race = {.store = NULL};
        race.object = fixture_open_memory(&race.fixture, PAGES, BUDGET);
        race.store = race.fixture.store;
        race.map = map_of(&race.fixture, race.object, way);
        run_beside(&race, &crowds[i], fork_once);
        pgs_map_close(race.map);
        fixture_close(&race.fixture);
    }
}

static void flush_once(const struct race *race)
{
    uint64_t written, failed;
    CHECK_EQ(pgs_flush(race->store, race->object, &written, &failed), PGS_OK);
    wait_for_more(race);
}

/* Memory that can be forked cannot have its writes noted; what can, loses none. */
static void noted_writes_are_kept(const struct way *way)
{
    for (int i = 0; i < CROWDS; i++) {
        struct race race = {.store = NULL};
        struct pgs_map_params params = {.struct_size = sizeof params, .service = way->service,
                                        .writes = way->writes};
        struct fixture_options options = {.page_count = PAGES, .budget_bytes = BUDGET,
                                          .codec_id = PGS_CODEC_LZ4, .pool_percent = 40,
                                          .writable = 1};
        uint32_t memory = fixture_open_memory(&race.fixture, PAGES, BUDGET);
        CHECK_EQ(pgs_map_open(race.fixture.store, memory, &params, &race.map), PGS_E_NO_FAULTS);
        fixture_close(&race.fixture);
        CHECK_EQ(fixture_open(&race.fixture, &options), PGS_OK);
        race.store = race.fixture.store;
        race.object = race.fixture.object;
        race.map = map_of(&race.fixture, race.object, way);
        for (uint64_t page_no = 0; page_no < COUNTERS; page_no++)
            atomic_store(counter_of(&race, page_no), 0);
        run_beside(&race, &crowds[i], flush_once);
        uint64_t mapped[COUNTERS], kept[COUNTERS];
        load_counters(&race, mapped);
        pgs_map_close(race.map);
        read_counters(&race, race.object, kept);
        CHECK_BYTES(kept, mapped, sizeof kept);
        fixture_close(&race.fixture);
    }
}

/* Views of page 0 never go back; page 1 is this thread's own. */
static void *pin_and_write(void *ctx)
{
    struct race *race = ctx;
    uint64_t views = 0, writes = 1, last = 0, page[PAGE / sizeof(uint64_t)] = {0}, found[PAGE / 8];
    while (!atomic_load(&race->stop)) {
        const void *view;
        CHECK_EQ(pgs_view(race->store, race->object, 0, &view), PGS_OK);
        for (int i = 0; i < 2; i++) {
            uint64_t now = atomic_load((const _Atomic uint64_t *)view);
            CHECK(now >= last);
            last = now;
            usleep(20);
        }
        CHECK_EQ(pgs_unpin(race->store, race->object, &views, 1), PGS_OK);
        page[0]++;
        CHECK_EQ(pgs_write(race->store, race->object, &writes, 1, page, NULL), PGS_OK);
        CHECK_EQ(pgs_read_page(race->store, race->object, 1, 0, found), PGS_OK);
        CHECK_BYTES(found, page, PAGE);
        usleep(20);
    }
    return NULL;
}

/* One map, if no pin was before it; has it count. 0: it was refused. */
static int map_once(struct race *race, const struct way *way, uint64_t value)
{
    uint64_t page[PAGE / sizeof(uint64_t)], page_no = 0;
    int error = map_open_in(race->store, race->object, way, 0, &race->map);
    if (error) {
        CHECK_EQ(error, PGS_E_PINNED);
        usleep((unsigned)value % 16);
        return 0;
    }
    CHECK_EQ(atomic_load(counter_of(race, 0)), value - 1);
    atomic_store(counter_of(race, 0), value);
    CHECK_EQ(pgs_read_page(race->store, race->object, 0, 0, page), PGS_OK);
    CHECK_EQ(page[0], value);
    pgs_map_close(race->map);
    /* The next to come is in no map's place. */
    error = pgs_page_out(race->store, race->object, &page_no, 1, NULL);
    CHECK(error == PGS_OK || error == PGS_E_PINNED);
    return 1;
}

static void pins_and_maps_agree(const struct way *way)
{
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = BUDGET,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 40,
                                      .writable = 1};
    struct race race = {.store = NULL};
    uint64_t page_no = 0, page[PAGE / sizeof(uint64_t)] = {0};
    pthread_t pinning;
    int refused = 0;
    CHECK_EQ(fixture_open(&race.fixture, &options), PGS_OK);
    race.store = race.fixture.store;
    race.object = race.fixture.object;
    CHECK_EQ(pgs_write(race.store, race.object, &page_no, 1, page, NULL), PGS_OK);
    CHECK_EQ(pthread_create(&pinning, NULL, pin_and_write, &race), 0);
    for (uint64_t opened = 0; opened < OPENS;)
        if (map_once(&race, way, opened + 1))
            opened++;
        else
            refused++;
    atomic_store(&race.stop, true);
    pthread_join(pinning, NULL);
    printf("%s: %d maps, %d refused\n", way->name, OPENS, refused);
    fixture_close(&race.fixture);
}

static void all_of(const struct way *way)
{
    if (!is_writable(way))
        return;
    if (way->writes == PGS_MAP_WRITES_NOTED)
        noted_writes_are_kept(way);
    else
        a_fork_is_one_moment(way);
    pins_and_maps_agree(way);
}

int main(void)
{
    in_every_way(all_of);
    return 0;
}
