/* SPDX-License-Identifier: MIT
 *
 * How pages are treated: which leaves first, by which codec, how far down; and
 * every eviction held against all frames that could have gone.
 */
#include "store_fixture.h"

enum { PAGES = 400, PAGE = 4096 };

static const struct fixture_options small = {.codec_id = PGS_CODEC_LZ4,
                                             .page_count = PAGES,
                                             .budget_bytes = 1000 << 10,
                                             .pool_percent = 50,
                                             .flags = PGS_STORE_AUDIT};

static int is_verified(void)
{
    return getenv("PGS_TEST_VERIFY") != NULL;
}

static uint8_t treatment(uint32_t level, uint32_t effort, uint32_t more)
{
    return (uint8_t)(level + effort * PGS_TREAT_EFFORT + more);
}

static void read_in(struct fixture *fixture, uint64_t page_no)
{
    fixture_check_page(fixture, page_no, PGS_READ_INTO_FRAME);
}

/* Evictions whose victim falls short of the greatest by more than 2^most. */
static uint64_t shortfalls_above(const struct pgs_stats *stats, unsigned most)
{
    uint64_t found = 0;
    for (unsigned i = most + 1; i < PGS_SHORTFALL_COUNT; i++)
        found += stats->shortfalls[i];
    return found;
}

/* Random levels, random accesses: no page leaves that must not; LRU's victim is
 * always the one of greatest weighted idle time. */
static void test_every_eviction(uint32_t policy)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    options.policy = policy;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK(fixture_treat(&fixture, i, 1, i % 40 == 0 ? 0 : 1 + noise_below(&noise, 5)) == PGS_OK);
    uint64_t pinned[] = {7, 77, 177, 277};
    CHECK(pgs_pin(fixture.store, fixture.object, pinned, 4) == PGS_OK);
    for (int i = 0; i < 20000; i++)
        read_in(&fixture, noise_below(&noise, noise_below(&noise, 3) ? PAGES : 60));
    struct pgs_stats stats = fixture_stats(&fixture);
    CHECK(stats.audited > 5000 && stats.held_victims + stats.fresh_victims == 0);
    if (policy == PGS_POLICY_LRU)
        CHECK_EQ(shortfalls_above(&stats, 0), 0);
    if (policy == PGS_POLICY_WORST)
        CHECK(stats.shortfalls[0] < stats.audited / 10);
    CHECK_EQ(stats.level_hot[PGS_LEVEL_PINNED], 10);
    CHECK(pgs_unpin(fixture.store, fixture.object, pinned, 4) == PGS_OK);
    fixture_close(&fixture);
}

/* Two pages at opposite ends of the scale, in turn, in a store of the fewest frames. */
static void test_two_ends_of_the_scale(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct pgs_stats stats;
    options.pool_percent = 0;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    CHECK(fixture_treat(&fixture, 1, 1, PGS_LEVEL_STEP_ON_IT) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, 1, PGS_LEVEL_LAST_RESORT) == PGS_OK);
    /* As many pins as there may be. */
    uint64_t held = 100;
    while (pgs_pin(fixture.store, fixture.object, &held, 1) == PGS_OK)
        held++;
    CHECK(held < PAGES);
    for (uint64_t i = 0; i < 8; i++)
        read_in(&fixture, 2 + i);
    for (int i = 0; i < 1000; i++) {
        read_in(&fixture, 0);
        read_in(&fixture, 1);
    }
    stats = fixture_stats(&fixture);
    uint64_t faults = stats.level_faults[PGS_LEVEL_STEP_ON_IT];
    CHECK(stats.held_victims + stats.fresh_victims == 0);
    if (!is_verified())
        CHECK(faults <= 3);
    for (held--; held >= 100; held--)
        CHECK(pgs_unpin(fixture.store, fixture.object, &held, 1) == PGS_OK);
    fixture_close(&fixture);
}

/* A page that stays in RAM is compressed there and never asked for again. */
static void test_stays_in_ram(void)
{
    struct fixture fixture;
    enum { KEPT = 60 };
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, KEPT, treatment(PGS_LEVEL_STEP_ON_IT, 0, PGS_TREAT_STAYS)) ==
          PGS_OK);
    for (uint64_t i = 0; i < KEPT; i++)
        read_in(&fixture, i);
    for (int round = 0; round < 3; round++)
        for (uint64_t i = KEPT; i < PAGES; i++)
            read_in(&fixture, i);
    uint64_t asked = atomic_load(&fixture.fake.page_ins);
    for (uint64_t i = 0; i < KEPT; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK_EQ(atomic_load(&fixture.fake.page_ins), asked);
    /* And may go once nobody insists. */
    CHECK(fixture_treat(&fixture, 0, KEPT, PGS_LEVEL_STEP_ON_IT) == PGS_OK);
    for (int round = 0; round < 3; round++)
        for (uint64_t i = KEPT; i < PAGES; i++)
            fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    for (uint64_t i = 0; i < KEPT; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK(atomic_load(&fixture.fake.page_ins) > asked);
    fixture_close(&fixture);
}

/* What had to stay counts as what may go, as soon as it need not. */
static void test_room_from_what_need_not_stay(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    options.budget_bytes = 2500 << 10;
    options.pool_percent = 90;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    uint8_t stays = treatment(PGS_LEVEL_NORMAL, PGS_EFFORT_FAST, PGS_TREAT_STAYS);
    CHECK(fixture_treat(&fixture, 0, PAGES, stays) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK(pgs_page_out(fixture.store, fixture.object, &i, 1, NULL) == PGS_OK);
    uint64_t used = fixture_stats(&fixture).used_bytes;
    CHECK_EQ(pgs_store_set_budget(fixture.store, used / 2), PGS_E_BUDGET);
    CHECK(fixture_treat(&fixture, 0, PAGES, PGS_LEVEL_NORMAL) == PGS_OK);
    CHECK_EQ(pgs_store_set_budget(fixture.store, used / 2), PGS_OK);
    fixture_close(&fixture);
}

/* The pool's share is of what held frames leave: else hardly any frame could move. */
static void test_pool_beside_held_frames(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    enum { HELD = 150 };
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, HELD, PGS_LEVEL_PINNED) == PGS_OK);
    for (int i = 0; i < 5000; i++)
        read_in(&fixture, HELD + noise_below(&noise, PAGES - HELD));
    struct pgs_stats stats = fixture_stats(&fixture);
    uint64_t rest = options.budget_bytes - stats.metadata_bytes - (uint64_t)HELD * PAGE;
    CHECK(stats.pool_bytes <= rest / 2 + 8 * PAGE);
    fixture_close(&fixture);
}

static uint64_t bytes_when_out(uint32_t effort)
{
    struct fixture_options options = small;
    struct fixture fixture;
    options.balanced = 1;
    options.budget_bytes = 4000 << 10;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, PAGES, treatment(PGS_LEVEL_NORMAL, effort, 0)) == PGS_OK);
    uint64_t page_nos[PAGES];
    for (uint64_t i = 0; i < PAGES; i++)
        page_nos[i] = i;
    CHECK(pgs_page_out(fixture.store, fixture.object, page_nos, PAGES, NULL) == PGS_OK);
    uint64_t stored = fixture_stats(&fixture).stored_bytes;
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, i % 2 ? PGS_READ_INTO_FRAME : 0);
    fixture_close(&fixture);
    return stored;
}

static void test_codec_by_effort(void)
{
    uint64_t fast = bytes_when_out(PGS_EFFORT_FAST), balanced = bytes_when_out(PGS_EFFORT_BALANCED);
    CHECK(balanced < fast * 9 / 10);
    CHECK_EQ(bytes_when_out(PGS_EFFORT_SETTLING), fast); /* nobody needed room */
}

/* Pages that no backing takes: where room is needed they are coded anew, and more of
 * them fit than would have fitted otherwise. */
static uint64_t pages_that_fit(uint32_t effort)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    options.balanced = options.anonymous = 1;
    options.page_count = 4000;
    options.budget_bytes = 2500 << 10;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, 4000, treatment(PGS_LEVEL_NORMAL, effort, 0)) == PGS_OK);
    uint64_t page_no = 0;
    for (; page_no < 4000; page_no++) {
        unsigned char *page = fixture_shadow(&fixture, page_no);
        uint64_t first = noise_next(&noise);
        for (uint32_t i = 0; i < PAGE; i += 8) {
            uint64_t word = (first + noise_below(&noise, 40)) * 0x9E3779B97F4A7C15u;
            memcpy(page + i, &word, 8);
        }
        if (pgs_write(fixture.store, fixture.object, &page_no, 1, page, NULL))
            break;
    }
    for (uint64_t i = 0; i < page_no; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK_EQ(fixture_stats(&fixture).corrupt, 0);
    fixture_close(&fixture);
    return page_no;
}

static void test_settling(void)
{
    uint64_t fast = pages_that_fit(PGS_EFFORT_FAST), settling = pages_that_fit(PGS_EFFORT_SETTLING);
    fprintf(stderr, "pages that fit: %llu fast, %llu settling\n", (unsigned long long)fast,
            (unsigned long long)settling);
    CHECK(settling > fast * 11 / 10);
}

static void test_misuse(void)
{
    struct fixture fixture;
    uint64_t page_no = 0;
    uint8_t end = PGS_TREAT_END, level = PGS_LEVEL_COUNT, eager = PGS_LEVEL_EAGER;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    CHECK(pgs_treat(fixture.store, fixture.object, &page_no, &end, 1) == PGS_E_INVALID);
    CHECK(pgs_treat(fixture.store, fixture.object, &page_no, &level, 1) == PGS_E_INVALID);
    CHECK(pgs_treat(fixture.store, 9, &page_no, &eager, 1) == PGS_E_RANGE);
    CHECK(pgs_object_add_codec(fixture.store, 9, fixture.codec) == PGS_E_RANGE);
    CHECK_EQ(pgs_object_add_codec(fixture.store, fixture.object, fixture.codec), PGS_E_INVALID);
    uint8_t effort = (uint8_t)(PGS_LEVEL_EAGER + PGS_EFFORT_COUNT * PGS_TREAT_EFFORT);
    CHECK(pgs_treat(fixture.store, fixture.object, &page_no, &effort, 1) == PGS_E_INVALID);
    /* The first of two fails to change nothing: the second does not exist. */
    uint64_t two[] = {3, PAGES};
    uint8_t pinned[] = {PGS_LEVEL_PINNED, PGS_LEVEL_PINNED};
    CHECK(pgs_treat(fixture.store, fixture.object, two, pinned, 2) == PGS_E_RANGE);
    CHECK_EQ(fixture_stats(&fixture).pinned_pages, 0);
    /* Nor does a refusal let go what was held. */
    CHECK(fixture_treat(&fixture, 10, 30, PGS_LEVEL_PINNED) == PGS_OK);
    static uint64_t all[PAGES];
    static uint8_t swapped[PAGES];
    for (uint64_t i = 0; i < PAGES; i++) {
        all[i] = i;
        swapped[i] = i >= 10 && i < 40 ? PGS_LEVEL_EAGER : PGS_LEVEL_PINNED;
    }
    CHECK_EQ(pgs_treat(fixture.store, fixture.object, all, swapped, PAGES), PGS_E_BUDGET);
    struct pgs_stats stats = fixture_stats(&fixture);
    CHECK(stats.level_pages[PGS_LEVEL_PINNED] == 30 && stats.level_hot[PGS_LEVEL_PINNED] == 30);
    CHECK_EQ(stats.pinned_pages, 30);
    CHECK_EQ(pgs_level_weight(PGS_LEVEL_PINNED), 0);
    CHECK(pgs_level_weight(PGS_LEVEL_EAGER) > pgs_level_weight(PGS_LEVEL_NORMAL));
    CHECK_EQ(pgs_level_weight(PGS_LEVEL_COUNT), 0);
    fixture_close(&fixture);
}

int main(void)
{
    for (uint32_t policy = 0; policy < PGS_POLICY_COUNT; policy++)
        test_every_eviction(policy);
    RUN(test_two_ends_of_the_scale);
    RUN(test_stays_in_ram);
    RUN(test_room_from_what_need_not_stay);
    RUN(test_pool_beside_held_frames);
    RUN(test_codec_by_effort);
    RUN(test_settling);
    RUN(test_misuse);
    return 0;
}
