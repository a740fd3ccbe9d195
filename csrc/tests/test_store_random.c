/* SPDX-License-Identifier: MIT
 *
 * Random steps of several threads against an oracle: every page read must be
 * whole, of a version not older than the last one acknowledged before the
 * read and not newer than the last one begun after it. Page n is written by
 * thread n modulo the number of threads only.
 *
 * usage: test_store_random [steps [threads]]
 */
#include <pthread.h>

#include "store_fixture.h"

enum { PAGES = 900, PAGE = 4096, BATCH = 16, THREADS_MAX = 16 };

struct run {
    struct fixture fixture;
    unsigned threads;
    uint64_t steps;
    int writable;
    uint64_t budget;
    _Atomic uint32_t begun[PAGES], acknowledged[PAGES];
    _Atomic uint64_t refused;
};

struct actor {
    struct run *run;
    unsigned number;
    struct noise noise;
};

/* A page's bytes follow from its number and version: some same-filled, some
 * incompressible. */
static void make_page(unsigned char *page, uint32_t page_no, uint32_t version)
{
    struct noise noise = {((uint64_t)page_no << 32 | version) * 2654435761u + 1};
    unsigned kind = noise_word(&noise) % 16;
    if (kind == 0) {
        memset(page, (int)(version & 0xff), PAGE);
        return;
    }
    for (uint32_t i = 0; i < PAGE; i += 8) {
        uint64_t word = noise_next(&noise);
        if (kind > 1)
            word = i % 32 < 20 ? 0 : word & 0x0f03000f00010303u * (1 + version % 3);
        memcpy(page + i, &word, 8);
    }
}

static void check_page(struct run *run, uint32_t page_no, uint32_t low, const unsigned char *page)
{
    unsigned char expected[PAGE];
    uint32_t high = atomic_load(&run->begun[page_no]);
    for (uint32_t version = low; version <= high; version++) {
        make_page(expected, page_no, version);
        if (memcmp(expected, page, PAGE) == 0)
            return;
    }
    fprintf(stderr, "page %u is none of versions %u to %u\n", page_no, low, high);
    abort();
}

static void check_status(struct run *run, int status)
{
    if (status == PGS_E_BUDGET)
        atomic_fetch_add(&run->refused, 1);
    else
        CHECK(status == PGS_OK || status == PGS_E_DIRTY || status == PGS_E_PINNED);
}

static void read_some(struct actor *actor, uint32_t flags)
{
    struct run *run = actor->run;
    static _Thread_local unsigned char out[BATCH * PAGE];
    uint64_t page_nos[BATCH];
    uint32_t low[BATCH];
    int32_t statuses[BATCH];
    size_t count = 1 + noise_word(&actor->noise) % BATCH;
    for (size_t i = 0; i < count; i++) {
        page_nos[i] = noise_word(&actor->noise) % PAGES;
        low[i] = atomic_load(&run->acknowledged[page_nos[i]]);
    }
    pgs_read(run->fixture.store, 0, page_nos, count, flags, out, statuses);
    for (size_t i = 0; i < count; i++) {
        CHECK(statuses[i] == PGS_OK || (statuses[i] == PGS_E_BUDGET && flags));
        if (!statuses[i])
            check_page(run, (uint32_t)page_nos[i], low[i], out + i * PAGE);
    }
}

static uint64_t own_page(struct actor *actor)
{
    uint32_t each = PAGES / actor->run->threads;
    return noise_word(&actor->noise) % each * actor->run->threads + actor->number;
}

static void write_one(struct actor *actor)
{
    struct run *run = actor->run;
    unsigned char page[PAGE];
    uint64_t page_no = own_page(actor);
    uint32_t next = atomic_load(&run->acknowledged[page_no]) + 1;
    uint32_t part = noise_word(&actor->noise) % 4;
    make_page(page, (uint32_t)page_no, next);
    atomic_store(&run->begun[page_no], next);
    int status = part ? pgs_write(run->fixture.store, 0, &page_no, 1, page, NULL)
                      : pgs_write_part(run->fixture.store, 0, page_no, 0, page, PAGE);
    check_status(run, status);
    if (status)
        atomic_store(&run->begun[page_no], next - 1);
    else
        atomic_store(&run->acknowledged[page_no], next);
}

static void view_one(struct actor *actor)
{
    struct run *run = actor->run;
    const void *view;
    uint64_t page_no = own_page(actor); /* nobody else writes it meanwhile */
    uint32_t low = atomic_load(&run->acknowledged[page_no]);
    int status = pgs_view(run->fixture.store, 0, page_no, &view);
    check_status(run, status);
    if (status)
        return;
    read_some(actor, PGS_READ_INTO_FRAME);
    check_page(run, (uint32_t)page_no, low, view);
    CHECK(pgs_unpin(run->fixture.store, 0, &page_no, 1) == PGS_OK);
}

static void move_some(struct actor *actor, unsigned which)
{
    struct run *run = actor->run;
    uint64_t page_nos[BATCH];
    int32_t statuses[BATCH];
    size_t count = 1 + noise_word(&actor->noise) % BATCH;
    for (size_t i = 0; i < count; i++)
        page_nos[i] = noise_word(&actor->noise) % PAGES;
    pgs_store *store = run->fixture.store;
    if (which == 0)
        pgs_page_out(store, 0, page_nos, count, statuses);
    else if (which == 1)
        pgs_discard(store, 0, page_nos, count, statuses);
    else
        pgs_page_in(store, 0, page_nos, count, statuses);
    for (size_t i = 0; i < count; i++)
        check_status(run, statuses[i]);
}

static void press(struct actor *actor)
{
    struct run *run = actor->run;
    uint64_t budget = run->budget / 2 + noise_next(&actor->noise) % run->budget;
    check_status(run, pgs_store_set_budget(run->fixture.store, budget));
    struct pgs_stats stats = fixture_stats(&run->fixture);
    CHECK(stats.used_bytes_max <= run->budget / 2 + run->budget);
}

static uint8_t any_treatment(struct actor *actor)
{
    uint32_t level = 1 + noise_word(&actor->noise) % (PGS_LEVEL_COUNT - 1);
    uint32_t effort = noise_word(&actor->noise) % PGS_EFFORT_COUNT;
    uint32_t stays = noise_word(&actor->noise) % 2 * PGS_TREAT_STAYS;
    return (uint8_t)(level + effort * PGS_TREAT_EFFORT + stays);
}

static void step(struct actor *actor)
{
    uint32_t draw = noise_word(&actor->noise) % 100;
    if (draw < 40)
        read_some(actor, draw % 2 ? PGS_READ_INTO_FRAME : PGS_READ_THROUGH);
    else if (draw < 70)
        write_one(actor);
    else if (draw < 76)
        view_one(actor);
    else if (draw < 94)
        move_some(actor, draw % 3);
    else if (draw < 98)
        check_status(actor->run,
                     fixture_treat(&actor->run->fixture, own_page(actor), 1, any_treatment(actor)));
    else if (actor->number == 0)
        press(actor);
}

static void *act(void *ctx)
{
    struct actor *actor = ctx;
    for (uint64_t i = 0; i < actor->run->steps; i++)
        step(actor);
    return NULL;
}

static void run_all(uint64_t steps, unsigned threads, int writable, uint32_t policy)
{
    struct run *run = calloc(1, sizeof *run);
    struct actor actors[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    struct noise noise = noise_seeded();
    run->threads = threads;
    run->steps = steps;
    run->writable = writable;
    run->budget = 3000 << 10;
    struct fixture_options options = {.codec_id = PGS_CODEC_LZ4, .page_count = PAGES,
                                      .budget_bytes = run->budget, .pool_percent = 60,
                                      .policy = policy, .writable = writable, .balanced = 1,
                                      .flags = PGS_STORE_AUDIT};
    CHECK(fixture_open(&run->fixture, &options) == PGS_OK);
    unsigned char page[PAGE];
    for (uint64_t i = 0; i < PAGES; i++) {
        make_page(page, (uint32_t)i, 0);
        CHECK(pgs_write(run->fixture.store, 0, &i, 1, page, NULL) == PGS_OK);
    }
    for (unsigned i = 0; i < threads; i++) {
        actors[i] = (struct actor){.run = run, .number = i, .noise = {noise.state + i}};
        CHECK(pthread_create(&ids[i], NULL, act, &actors[i]) == 0);
    }
    for (unsigned i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t page_no = i;
        CHECK(pgs_read(run->fixture.store, 0, &page_no, 1, 0, page, NULL) == PGS_OK);
        check_page(run, i, atomic_load(&run->acknowledged[i]), page);
    }
    struct pgs_stats stats = fixture_stats(&run->fixture);
    CHECK(stats.pinned_pages == 0 && stats.corrupt == 0 && stats.held_victims == 0);
    CHECK(stats.used_bytes == stats.hot_bytes + stats.pool_bytes + stats.metadata_bytes);
    printf("threads %u writable %d policy %u: %llu reads, %llu page-outs, %llu refused\n", threads,
           writable, policy, (unsigned long long)stats.reads, (unsigned long long)stats.page_outs,
           (unsigned long long)atomic_load(&run->refused));
    fixture_close(&run->fixture);
    free(run);
}

int main(int argc, char **argv)
{
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 4000;
    unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 4;
    CHECK(threads >= 1 && threads <= THREADS_MAX);
    for (uint32_t policy = 0; policy < PGS_POLICY_COUNT; policy++)
        for (int writable = 0; writable < 2; writable++) {
            run_all(steps, 1, writable, policy);
            run_all(steps, threads, writable, policy);
        }
    return 0;
}
