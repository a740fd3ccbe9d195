/* SPDX-License-Identifier: MIT
 *
 * Sections, pins in them, locks and their order: each way to deadlock a page-in is
 * an error the first time, with an error number of its own.
 */
#include <pthread.h>

#include "store_fixture.h"

enum { PAGES = 400, PAGE = 4096 };

static const struct fixture_options small = {.codec_id = PGS_CODEC_LZ4,
                                             .page_count = PAGES,
                                             .budget_bytes = 1000 << 10,
                                             .pool_percent = 50};

static int read_one(struct fixture *fixture, uint64_t page_no)
{
    unsigned char page[PAGE];
    int error = pgs_read(fixture->store, fixture->object, &page_no, 1, 0, page, NULL);
    if (!error)
        CHECK_BYTES(page, fixture_shadow(fixture, page_no), PAGE);
    return error;
}

static int pin_one(struct fixture *fixture, uint64_t page_no)
{
    return pgs_pin(fixture->store, fixture->object, &page_no, 1);
}

static int unpin_one(struct fixture *fixture, uint64_t page_no)
{
    return pgs_unpin(fixture->store, fixture->object, &page_no, 1);
}

static int begin(struct fixture *fixture, uint32_t kind)
{
    return pgs_section_begin(fixture->store, kind);
}

static int end(struct fixture *fixture, uint32_t kind)
{
    return pgs_section_end(fixture->store, kind);
}

/* A page that was read a moment ago is in its frame, by luck: without the verifier it
 * can be had in an atomic section, with it it cannot. What is pinned can always. */
static void test_fault_under_atomic(void)
{
    struct fixture fixture;
    unsigned char bytes[16] = {1};
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    CHECK(pin_one(&fixture, 5) == PGS_OK && read_one(&fixture, 6) == PGS_OK);
    fixture_check_page(&fixture, 7, PGS_READ_INTO_FRAME);
    CHECK(begin(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(begin(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(read_one(&fixture, 5) == PGS_OK);
    CHECK_EQ(read_one(&fixture, 7), getenv("PGS_TEST_VERIFY") ? PGS_E_WOULD_FAULT : PGS_OK);
    CHECK_EQ(read_one(&fixture, 300), PGS_E_WOULD_FAULT);
    CHECK(end(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK_EQ(read_one(&fixture, 300), PGS_E_WOULD_FAULT);
    CHECK_EQ(pgs_write_part(fixture.store, fixture.object, 300, 0, bytes, 16), PGS_E_WOULD_FAULT);
    CHECK(pgs_write_part(fixture.store, fixture.object, 5, 0, bytes, 16) == PGS_OK);
    memcpy(fixture_shadow(&fixture, 5), bytes, 16);
    uint64_t far = 301;
    CHECK_EQ(pgs_write(fixture.store, fixture.object, &far, 1, fixture_shadow(&fixture, 301), NULL),
             PGS_E_WOULD_FAULT);
    CHECK_EQ(pgs_page_in(fixture.store, fixture.object, &far, 1, NULL), PGS_E_WOULD_FAULT);
    CHECK(end(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(read_one(&fixture, 300) == PGS_OK && read_one(&fixture, 5) == PGS_OK);
    CHECK_EQ(end(&fixture, PGS_SECTION_ATOMIC), PGS_E_INVALID);
    CHECK(unpin_one(&fixture, 5) == PGS_OK);
    fixture_close(&fixture);
}

static void test_pin_inside_atomic(void)
{
    struct fixture fixture;
    const void *view;
    struct pgs_stats stats;
    uint64_t page_no = 9;
    uint8_t eager = PGS_LEVEL_EAGER;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    CHECK(pin_one(&fixture, 5) == PGS_OK);
    CHECK(begin(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK_EQ(pin_one(&fixture, 5), PGS_E_ATOMIC);
    CHECK_EQ(pgs_view(fixture.store, fixture.object, 9, &view), PGS_E_ATOMIC);
    CHECK(pgs_view(fixture.store, fixture.object, 5, &view) == PGS_OK);
    CHECK_BYTES(view, fixture_shadow(&fixture, 5), PAGE);
    CHECK(unpin_one(&fixture, 5) == PGS_OK);
    /* Whatever else moves pages, and may wait for it. */
    CHECK_EQ(pgs_page_out(fixture.store, fixture.object, &page_no, 1, NULL), PGS_E_ATOMIC);
    CHECK_EQ(pgs_discard(fixture.store, fixture.object, &page_no, 1, NULL), PGS_E_ATOMIC);
    CHECK_EQ(pgs_treat(fixture.store, fixture.object, &page_no, &eager, 1), PGS_E_ATOMIC);
    CHECK_EQ(pgs_store_set_budget(fixture.store, 2000 << 10), PGS_E_ATOMIC);
    CHECK_EQ(pgs_store_stats(fixture.store, &stats), PGS_E_ATOMIC);
    CHECK_EQ(pgs_object_remove(fixture.store, fixture.object), PGS_E_ATOMIC);
    CHECK(end(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(unpin_one(&fixture, 5) == PGS_OK);
    CHECK_EQ(fixture_stats(&fixture).pinned_pages, 0);
    fixture_close(&fixture);
}

/* Resident by luck is not enough for the pager: it may be the one to bring it back. */
static void test_pager_calls_pageable(void)
{
    struct fixture fixture;
    const void *view;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    CHECK(fixture_treat(&fixture, 3, 1, PGS_LEVEL_PINNED) == PGS_OK);
    fixture_check_page(&fixture, 7, PGS_READ_INTO_FRAME);
    CHECK(begin(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    CHECK(read_one(&fixture, 3) == PGS_OK);
    CHECK_EQ(read_one(&fixture, 7), PGS_E_PAGER);
    CHECK_EQ(pin_one(&fixture, 7), PGS_E_PAGER);
    CHECK_EQ(pgs_view(fixture.store, fixture.object, 7, &view), PGS_E_PAGER);
    CHECK_EQ(pgs_write_part(fixture.store, fixture.object, 7, 0, "x", 1), PGS_E_PAGER);
    CHECK(end(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    CHECK(read_one(&fixture, 7) == PGS_OK);
    CHECK_EQ(begin(&fixture, PGS_SECTION_KIND_COUNT), PGS_E_INVALID);
    fixture_close(&fixture);
}

/* A backing that calls the store which called it. */
struct reentrant {
    struct fake fake;
    pgs_store *store;
    uint32_t object;
    int error, stats_error, section_error;
};

static int reentrant_page_in(void *ctx, uint64_t page_no, void *page)
{
    struct reentrant *self = ctx;
    unsigned char other[PAGE];
    struct pgs_stats stats;
    uint64_t next = page_no + 1;
    if (self->store) {
        self->error = pgs_read(self->store, self->object, &next, 1, 0, other, NULL);
        self->stats_error = pgs_store_stats(self->store, &stats);
        self->section_error = pgs_section_begin(self->store, PGS_SECTION_ATOMIC);
    }
    return fake_page_in(&self->fake, page_no, page);
}

static void test_backing_calls_store(void)
{
    struct fixture fixture;
    struct reentrant self = {.fake = {.page_count = 16, .page_size = PAGE}};
    unsigned char page[PAGE];
    uint64_t page_no = 2;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    self.fake.bytes = calloc(16, PAGE);
    for (uint64_t i = 0; i < 16; i++)
        self.fake.bytes[i * PAGE + i] = 1; /* no page is of one word */
    struct pgs_backing backing = fake_backing(&self.fake, 0);
    backing.ctx = &self;
    backing.page_in = reentrant_page_in;
    backing.close = NULL;
    CHECK(pgs_object_add(fixture.store, 16, 0, &backing, NULL, &self.object) == PGS_OK);
    self.store = fixture.store;
    CHECK(pgs_read(fixture.store, self.object, &page_no, 1, 0, page, NULL) == PGS_OK);
    CHECK_EQ(self.error, PGS_E_REENTRY);
    CHECK_EQ(self.stats_error, PGS_E_REENTRY);
    CHECK_EQ(self.section_error, PGS_E_REENTRY);
    CHECK(read_one(&fixture, 2) == PGS_OK);
    fixture_close(&fixture);
    free(self.fake.bytes);
}

static uint32_t lock_of(struct fixture *fixture, uint32_t rank)
{
    uint32_t lock;
    CHECK(pgs_lock_add(fixture->store, rank, &lock) == PGS_OK);
    return lock;
}

static void take_in_order(struct fixture *fixture, const uint32_t *locks, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        CHECK(pgs_lock_taking(fixture->store, locks[i]) == PGS_OK);
    for (unsigned i = 0; i < count; i++)
        CHECK(pgs_lock_dropped(fixture->store, locks[i]) == PGS_OK);
}

static void test_rank_inversion(void)
{
    struct fixture fixture;
    uint32_t chain[4];
    size_t count;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint32_t low = lock_of(&fixture, 1), high = lock_of(&fixture, 2), learnt = lock_of(&fixture, 0);
    take_in_order(&fixture, (uint32_t[]){low, learnt, high}, 3);
    CHECK(pgs_lock_taking(fixture.store, high) == PGS_OK);
    CHECK_EQ(pgs_lock_taking(fixture.store, low), PGS_E_LOCK_ORDER);
    pgs_lock_conflict(fixture.store, low, chain, 4, &count);
    CHECK(count == 2 && chain[0] == low && chain[1] == high);
    CHECK_EQ(pgs_lock_taking(fixture.store, high), PGS_E_LOCK_ORDER); /* waits for itself */
    CHECK_EQ(pgs_lock_taking(fixture.store, lock_of(&fixture, 1)), PGS_E_LOCK_ORDER); /* never seen */
    CHECK_EQ(pgs_lock_taking(fixture.store, 99), PGS_E_INVALID);
    CHECK_EQ(pgs_lock_taking(fixture.store, PGS_LOCK_PAGE_IN), PGS_E_INVALID);
    CHECK(pgs_lock_dropped(fixture.store, high) == PGS_OK);
    CHECK_EQ(pgs_lock_dropped(fixture.store, high), PGS_E_INVALID);
    fixture_close(&fixture);
}

/* a, b; b, c; then c, a: nobody waits for anybody, and it is an error. */
static void test_learnt_order(void)
{
    struct fixture fixture;
    uint32_t chain[8];
    size_t count;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint32_t a = lock_of(&fixture, 0), b = lock_of(&fixture, 0), c = lock_of(&fixture, 0);
    take_in_order(&fixture, (uint32_t[]){a, b}, 2);
    take_in_order(&fixture, (uint32_t[]){b, c}, 2);
    CHECK(pgs_lock_taking(fixture.store, c) == PGS_OK);
    pgs_lock_conflict(fixture.store, b, chain, 8, &count);
    CHECK(count == 2);
    CHECK_EQ(pgs_lock_taking(fixture.store, a), PGS_E_LOCK_ORDER);
    pgs_lock_conflict(fixture.store, a, chain, 8, &count);
    CHECK(count == 3 && chain[0] == a && chain[1] == b && chain[2] == c);
    CHECK(pgs_lock_dropped(fixture.store, c) == PGS_OK);
    pgs_lock_conflict(fixture.store, a, chain, 8, &count);
    CHECK_EQ(count, 0);
    for (uint32_t i = 4; i < PGS_LOCK_COUNT_MAX; i++)
        lock_of(&fixture, 0);
    CHECK_EQ(pgs_lock_add(fixture.store, 0, &a), PGS_E_INVALID);
    fixture_close(&fixture);
}

/* The pager takes a lock; somebody faults with it held. Whichever comes first is
 * allowed, the second is not. */
static void test_lock_and_page_in(int pager_first)
{
    struct fixture fixture;
    uint32_t chain[4];
    size_t count;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint32_t lock = lock_of(&fixture, 0);
    if (pager_first) {
        CHECK(begin(&fixture, PGS_SECTION_PAGER) == PGS_OK);
        take_in_order(&fixture, &lock, 1);
        CHECK(end(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    }
    CHECK(pgs_lock_taking(fixture.store, lock) == PGS_OK);
    CHECK_EQ(read_one(&fixture, 200), pager_first ? PGS_E_LOCK_ORDER : PGS_OK);
    if (pager_first) {
        CHECK_EQ(pin_one(&fixture, 201), PGS_E_LOCK_ORDER);
        CHECK_EQ(pgs_write_part(fixture.store, fixture.object, 202, 0, "x", 1), PGS_E_LOCK_ORDER);
        pgs_lock_conflict(fixture.store, PGS_LOCK_PAGE_IN, chain, 4, &count);
        CHECK(count == 2 && chain[0] == PGS_LOCK_PAGE_IN && chain[1] == lock);
    }
    CHECK(pgs_lock_dropped(fixture.store, lock) == PGS_OK);
    CHECK(begin(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    CHECK_EQ(pgs_lock_taking(fixture.store, lock), pager_first ? PGS_OK : PGS_E_LOCK_ORDER);
    if (pager_first)
        CHECK(pgs_lock_dropped(fixture.store, lock) == PGS_OK);
    CHECK(end(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    CHECK(read_one(&fixture, 200) == PGS_OK);
    CHECK_EQ(fixture_stats(&fixture).pinned_pages, 0);
    fixture_close(&fixture);
}

/* What the pager allocates must not need the pager: not even where it happens to be in
 * a frame. A non-paged heap serves it, and an atomic section. */
static void test_paged_pool_in_pager(void)
{
    struct fixture fixture;
    pgs_heap *paged, *nonpaged;
    uint64_t mine, fixed;
    char bytes[8] = "";
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    struct pgs_heap_params params = {.struct_size = sizeof params, .size_bytes = 64 << 10,
                                     .level = PGS_LEVEL_NORMAL, .codec = fixture.codec};
    CHECK(pgs_heap_open(fixture.store, &params, &paged) == PGS_OK);
    params.kind = PGS_HEAP_NONPAGED;
    params.codec = NULL;
    CHECK(pgs_heap_open(fixture.store, &params, &nonpaged) == PGS_OK);
    CHECK(pgs_heap_alloc(paged, 100, 16, &mine) == PGS_OK);
    CHECK(pgs_heap_alloc(nonpaged, 100, 16, &fixed) == PGS_OK);
    CHECK(pgs_heap_write(paged, mine, 0, "paged", 6) == PGS_OK);
    CHECK(begin(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    CHECK_EQ(pgs_heap_read(paged, mine, 0, bytes, 6), PGS_E_PAGER_POOL);
    CHECK_EQ(pgs_heap_write(paged, mine, 0, bytes, 6), PGS_E_PAGER_POOL);
    CHECK(pgs_heap_write(nonpaged, fixed, 0, "fixed", 6) == PGS_OK);
    CHECK(end(&fixture, PGS_SECTION_PAGER) == PGS_OK);
    CHECK(pgs_heap_read(paged, mine, 0, bytes, 6) == PGS_OK && strcmp(bytes, "paged") == 0);
    uint64_t page_no = 0;
    CHECK(pgs_page_out(fixture.store, pgs_heap_object(paged), &page_no, 1, NULL) == PGS_OK);
    CHECK(begin(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK_EQ(pgs_heap_read(paged, mine, 0, bytes, 6), PGS_E_WOULD_FAULT);
    CHECK(pgs_heap_read(nonpaged, fixed, 0, bytes, 6) == PGS_OK && strcmp(bytes, "fixed") == 0);
    CHECK(pgs_heap_free(nonpaged, fixed) == PGS_OK && pgs_heap_free(paged, mine) == PGS_OK);
    CHECK(end(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(pgs_heap_close(paged) == PGS_OK && pgs_heap_close(nonpaged) == PGS_OK);
    fixture_close(&fixture);
}

/* Who holds a lock and faults waits for a page-in, and an atomic section that wants the
 * lock would wait with it. */
static void test_lock_in_atomic_section(int atomic_first)
{
    struct fixture fixture;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint32_t lock = lock_of(&fixture, 0), other = lock_of(&fixture, 0);
    if (!atomic_first) {
        CHECK(pgs_lock_taking(fixture.store, lock) == PGS_OK);
        CHECK(read_one(&fixture, 200) == PGS_OK);
        CHECK(pgs_lock_dropped(fixture.store, lock) == PGS_OK);
    }
    CHECK(begin(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK_EQ(pgs_lock_taking(fixture.store, lock), atomic_first ? PGS_OK : PGS_E_LOCK_ORDER);
    if (atomic_first)
        CHECK(pgs_lock_dropped(fixture.store, lock) == PGS_OK);
    CHECK(end(&fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    if (atomic_first) {
        CHECK(pgs_lock_taking(fixture.store, lock) == PGS_OK);
        CHECK_EQ(read_one(&fixture, 200), PGS_E_LOCK_ORDER);
        uint64_t page_no = 201;
        CHECK_EQ(pgs_page_out(fixture.store, fixture.object, &page_no, 1, NULL), PGS_E_LOCK_ORDER);
        CHECK_EQ(pgs_store_set_budget(fixture.store, 900 << 10), PGS_E_LOCK_ORDER);
        CHECK(pgs_lock_dropped(fixture.store, lock) == PGS_OK);
    }
    /* What was refused is not remembered as done. */
    CHECK(pgs_lock_taking(fixture.store, other) == PGS_OK);
    CHECK(read_one(&fixture, 202) == PGS_OK);
    CHECK(pgs_lock_dropped(fixture.store, other) == PGS_OK);
    fixture_close(&fixture);
}

static void test_refused_orders_leave_no_trace(void)
{
    struct fixture fixture;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint32_t a = lock_of(&fixture, 0), b = lock_of(&fixture, 0), c = lock_of(&fixture, 0);
    take_in_order(&fixture, (uint32_t[]){c, b}, 2);
    CHECK(pgs_lock_taking(fixture.store, a) == PGS_OK && pgs_lock_taking(fixture.store, b) == PGS_OK);
    CHECK_EQ(pgs_lock_taking(fixture.store, c), PGS_E_LOCK_ORDER);
    CHECK(pgs_lock_dropped(fixture.store, b) == PGS_OK && pgs_lock_dropped(fixture.store, a) == PGS_OK);
    take_in_order(&fixture, (uint32_t[]){c, a}, 2); /* a was never seen before c */
    fixture_close(&fixture);
}

/* More threads may be in atomic sections than there are workers, and others go on. */
struct crowd {
    struct fixture fixture;
    pthread_barrier_t inside, leave;
};

static void *stay_inside(void *ctx)
{
    struct crowd *crowd = ctx;
    CHECK(begin(&crowd->fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(read_one(&crowd->fixture, 5) == PGS_OK);
    pthread_barrier_wait(&crowd->inside);
    pthread_barrier_wait(&crowd->leave);
    CHECK(end(&crowd->fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    return NULL;
}

static void test_many_sections(void)
{
    enum { THREADS = 40 };
    struct crowd crowd;
    pthread_t threads[THREADS];
    CHECK(fixture_open(&crowd.fixture, &small) == PGS_OK && pin_one(&crowd.fixture, 5) == PGS_OK);
    uint64_t reads = fixture_stats(&crowd.fixture).reads;
    pthread_barrier_init(&crowd.inside, NULL, THREADS + 1);
    pthread_barrier_init(&crowd.leave, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, stay_inside, &crowd) == 0);
    pthread_barrier_wait(&crowd.inside);
    CHECK(read_one(&crowd.fixture, 300) == PGS_OK);
    pthread_barrier_wait(&crowd.leave);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(fixture_stats(&crowd.fixture).reads, reads + THREADS + 1);
    CHECK(unpin_one(&crowd.fixture, 5) == PGS_OK);
    pthread_barrier_destroy(&crowd.inside);
    pthread_barrier_destroy(&crowd.leave);
    fixture_close(&crowd.fixture);
}

/* Threads in atomic sections over pinned pages, others that write to those and press
 * everything else out: whoever promised and pinned always gets its bytes. */
struct party {
    struct fixture fixture;
    _Atomic int stop;
    uint32_t lock;
};

/* A view in an atomic section while another thread takes pins and gives them back: one
 * more pin, or refused at once, and never a fault. */
static void *pin_and_unpin(void *ctx)
{
    struct party *party = ctx;
    while (!atomic_load(&party->stop)) {
        int error = pin_one(&party->fixture, 9);
        CHECK(error == PGS_OK);
        CHECK(unpin_one(&party->fixture, 9) == PGS_OK);
        uint64_t page_no = 9;
        pgs_page_out(party->fixture.store, 0, &page_no, 1, NULL);
    }
    return NULL;
}

static void test_views_while_pins_go(void)
{
    struct party party = {.stop = 0};
    pthread_t other;
    const void *view;
    unsigned seen = 0;
    CHECK(fixture_open(&party.fixture, &small) == PGS_OK);
    CHECK(pthread_create(&other, NULL, pin_and_unpin, &party) == 0);
    for (int i = 0; i < 30000; i++) {
        CHECK(begin(&party.fixture, PGS_SECTION_ATOMIC) == PGS_OK);
        int error = pgs_view(party.fixture.store, 0, 9, &view);
        CHECK(error == PGS_OK || error == PGS_E_ATOMIC || error == PGS_E_WOULD_FAULT);
        if (!error) {
            CHECK_BYTES(view, fixture_shadow(&party.fixture, 9), PAGE);
            CHECK(unpin_one(&party.fixture, 9) == PGS_OK);
            seen++;
        }
        CHECK(end(&party.fixture, PGS_SECTION_ATOMIC) == PGS_OK);
    }
    atomic_store(&party.stop, 1);
    pthread_join(other, NULL);
    fprintf(stderr, "views: %u\n", seen);
    CHECK_EQ(fixture_stats(&party.fixture).pinned_pages, 0);
    fixture_close(&party.fixture);
}

static void test_sections_of_two_stores(void)
{
    struct fixture first, second;
    CHECK(fixture_open(&first, &small) == PGS_OK && fixture_open(&second, &small) == PGS_OK);
    CHECK(begin(&first, PGS_SECTION_ATOMIC) == PGS_OK && begin(&second, PGS_SECTION_PAGER) == PGS_OK);
    CHECK_EQ(read_one(&first, 300), PGS_E_WOULD_FAULT);
    CHECK_EQ(read_one(&second, 300), PGS_E_PAGER);
    CHECK(end(&first, PGS_SECTION_ATOMIC) == PGS_OK);
    CHECK(read_one(&first, 300) == PGS_OK);
    CHECK_EQ(read_one(&second, 300), PGS_E_PAGER);
    CHECK(end(&second, PGS_SECTION_PAGER) == PGS_OK);
    CHECK(read_one(&second, 300) == PGS_OK);
    fixture_close(&first);
    fixture_close(&second);
}

static void *be_atomic(void *ctx)
{
    struct party *party = ctx;
    uint64_t pages[] = {10, 11, 12};
    unsigned char out[3 * PAGE];
    for (int i = 0; i < 600; i++) {
        CHECK(pgs_pin(party->fixture.store, 0, pages, 3) == PGS_OK);
        CHECK(begin(&party->fixture, PGS_SECTION_ATOMIC) == PGS_OK);
        for (int k = 0; k < 5; k++)
            CHECK(pgs_read(party->fixture.store, 0, pages, 3, 0, out, NULL) == PGS_OK);
        CHECK(pgs_write_part(party->fixture.store, 0, 11, 8, "abc", 3) == PGS_OK);
        CHECK(end(&party->fixture, PGS_SECTION_ATOMIC) == PGS_OK);
        CHECK(pgs_unpin(party->fixture.store, 0, pages, 3) == PGS_OK);
    }
    return NULL;
}

static void *press(void *ctx)
{
    struct party *party = ctx;
    struct noise noise = noise_seeded();
    unsigned char page[PAGE];
    while (!atomic_load(&party->stop)) {
        uint64_t page_no = noise_below(&noise, PAGES);
        int error = pgs_read(party->fixture.store, 0, &page_no, 1, PGS_READ_INTO_FRAME, page, NULL);
        CHECK(error == PGS_OK || error == PGS_E_BUDGET);
        CHECK(pgs_lock_taking(party->fixture.store, party->lock) == PGS_OK);
        pgs_write_part(party->fixture.store, 0, 12, 0, "xyz", 3);
        CHECK(pgs_lock_dropped(party->fixture.store, party->lock) == PGS_OK);
    }
    return NULL;
}

static void test_threads(void)
{
    struct party party = {.stop = 0};
    pthread_t atomic[3], pressing[2];
    CHECK(fixture_open(&party.fixture, &small) == PGS_OK);
    party.lock = lock_of(&party.fixture, 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&pressing[i], NULL, press, &party) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&atomic[i], NULL, be_atomic, &party) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(atomic[i], NULL);
    atomic_store(&party.stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(pressing[i], NULL);
    CHECK_EQ(fixture_stats(&party.fixture).pinned_pages, 0);
    fixture_close(&party.fixture);
}

int main(void)
{
    RUN(test_fault_under_atomic);
    RUN(test_pin_inside_atomic);
    RUN(test_pager_calls_pageable);
    RUN(test_backing_calls_store);
    RUN(test_rank_inversion);
    RUN(test_learnt_order);
    test_lock_and_page_in(0);
    test_lock_and_page_in(1);
    RUN(test_paged_pool_in_pager);
    RUN(test_sections_of_two_stores);
    test_lock_in_atomic_section(0);
    test_lock_in_atomic_section(1);
    RUN(test_refused_orders_leave_no_trace);
    RUN(test_many_sections);
    RUN(test_views_while_pins_go);
    RUN(test_threads);
    return 0;
}
