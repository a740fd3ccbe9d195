/* SPDX-License-Identifier: MIT
 *
 * Anonymous memory and its forks: what is shared, what is broken, what a page costs and
 * when it goes. Random steps are in test_fork_random.c.
 */
#include <sched.h>

#include "pagestep/discipline.h"

#include "family_fixture.h"

enum { PAGE = 4096, PAGES = 64, SLOT_LIMIT = 1 << 18 };

struct world {
    struct fixture fixture;
    pgs_store *store;
    uint32_t root;
};

/* A store with nothing in it but one anonymous object. */
static void world_open(struct world *world, uint64_t budget, uint64_t pages,
                       const struct pgs_backing *backing)
{
    struct fixture_options options = {.codec_id = PGS_CODEC_LZ4, .page_count = 1, .anonymous = 1,
                                      .budget_bytes = budget, .pool_percent = 50};
    CHECK_EQ(fixture_open(&world->fixture, &options), PGS_OK);
    world->store = world->fixture.store;
    CHECK_EQ(pgs_object_remove(world->store, world->fixture.object), PGS_OK);
    CHECK_EQ(pgs_anonymous_add(world->store, pages, PGS_LEVEL_NORMAL, backing,
                               world->fixture.codec, &world->root), PGS_OK);
}

static void put(pgs_store *store, uint32_t object, uint64_t page_no, unsigned value)
{
    unsigned char page[PAGE];
    for (unsigned i = 0; i < PAGE; i++)
        page[i] = (unsigned char)(value + i / 64);
    CHECK_EQ(pgs_write(store, object, &page_no, 1, page, NULL), PGS_OK);
}

/* The value that a page was last given by `put`; 0 where it is all zeros. */
static unsigned get(pgs_store *store, uint32_t object, uint64_t page_no)
{
    unsigned char page[PAGE];
    CHECK_EQ(pgs_read_page(store, object, page_no, 0, page), PGS_OK);
    for (unsigned i = 0; i < PAGE; i++)
        CHECK_EQ(page[i], page[63] == page[64] ? page[0] : (unsigned char)(page[0] + i / 64));
    return page[0];
}

static uint32_t forked(pgs_store *store, uint32_t from)
{
    uint32_t object;
    CHECK_EQ(pgs_object_fork(store, from, &object), PGS_OK);
    return object;
}

static struct pgs_object_stats stats_of(pgs_store *store, uint32_t object)
{
    struct pgs_object_stats stats;
    CHECK_EQ(pgs_object_stats(store, object, &stats), PGS_OK);
    return stats;
}

static void sides_differ_after_a_write(void)
{
    struct world world;
    world_open(&world, 2 << 20, PAGES, NULL);
    for (uint64_t i = 0; i < PAGES; i += 2)
        put(world.store, world.root, i, 1 + (unsigned)i);
    uint32_t child = forked(world.store, world.root);
    CHECK_EQ(stats_of(world.store, child).shared_pages, PAGES / 2);
    CHECK_EQ(stats_of(world.store, child).private_bytes, 0);
    put(world.store, child, 0, 200);          /* shared: breaks */
    put(world.store, child, 1, 201);          /* zeros: a page of its own */
    put(world.store, world.root, 2, 202);     /* the other way round */
    CHECK_EQ(get(world.store, world.root, 0), 1);
    CHECK_EQ(get(world.store, child, 0), 200);
    CHECK_EQ(get(world.store, world.root, 1), 0);
    CHECK_EQ(get(world.store, child, 1), 201);
    CHECK_EQ(get(world.store, world.root, 2), 202);
    CHECK_EQ(get(world.store, child, 2), 3);
    CHECK_EQ(stats_of(world.store, child).shared_pages, PAGES / 2 - 2);
    CHECK_EQ(pgs_write_part(world.store, child, 4, 0, "\x40", 1), PGS_OK);
    CHECK_EQ(get(world.store, world.root, 4), 5);
    uint32_t own = family_slot(world.store, child, 4);
    CHECK_EQ(pgs_write_part(world.store, child, 4, 0, "\x41", 1), PGS_OK);
    CHECK_EQ(family_slot(world.store, child, 4), own); /* it has it alone: in place */
    family_check(world.store, child, SLOT_LIMIT);
    fixture_close(&world.fixture);
}

/* Whoever goes first, pages stay as long as anybody has them, and go with the last. */
static void order_of_closes_is_free(void)
{
    static const unsigned char orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                              {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (unsigned k = 0; k < 6; k++) {
        struct world world;
        world_open(&world, 2 << 20, PAGES, NULL);
        uint64_t before = fixture_stats(&world.fixture).metadata_bytes;
        uint32_t objects[3] = {world.root};
        for (uint64_t i = 0; i < PAGES; i++)
            put(world.store, objects[0], i, 10);
        objects[1] = forked(world.store, objects[0]);
        put(world.store, objects[1], 1, 20);
        objects[2] = forked(world.store, objects[1]);
        put(world.store, objects[2], 2, 30);
        CHECK_EQ(fixture_stats(&world.fixture).hot_pages, PAGES + 2);
        for (unsigned i = 0; i < 3; i++) {
            CHECK_EQ(pgs_object_remove(world.store, objects[orders[k][i]]), PGS_OK);
            for (unsigned left = i + 1; left < 3; left++) {
                unsigned who = orders[k][left];
                CHECK_EQ(get(world.store, objects[who], 0), 10);
                CHECK_EQ(get(world.store, objects[who], 1), who ? 20 : 10);
                CHECK_EQ(get(world.store, objects[who], 2), who == 2 ? 30 : 10);
                family_check(world.store, objects[who], SLOT_LIMIT);
            }
        }
        family_check_gone(&world.fixture, 0);
        CHECK(fixture_stats(&world.fixture).metadata_bytes < before + 64 * 1024);
        fixture_close(&world.fixture);
    }
}

/* A chain of a thousand forks, each with one page of its own, then closed from one end, from the
 * other, from the middle. */
static void chains_are_deep(void)
{
    enum { DEPTH = 1000 };
    static uint32_t objects[DEPTH + 1];
    for (unsigned order = 0; order < 3; order++) {
        struct world world;
        world_open(&world, 8 << 20, 32, NULL);
        objects[0] = world.root;
        for (uint64_t i = 0; i < 32; i++)
            put(world.store, world.root, i, 7);
        for (unsigned i = 1; i <= DEPTH; i++) {
            objects[i] = forked(world.store, objects[i - 1]);
            put(world.store, objects[i], i % 32, i);
        }
        for (unsigned i = 0; i <= DEPTH; i += 37)
            for (unsigned page_no = 0; page_no < 32; page_no++) {
                unsigned last = i < page_no ? 0 : i - (i - page_no) % 32;
                CHECK_EQ(get(world.store, objects[i], page_no), last ? last % 256 : 7);
            }
        CHECK_EQ(stats_of(world.store, world.root).member_count, DEPTH + 1);
        family_check(world.store, world.root, SLOT_LIMIT);
        for (unsigned i = 0; i <= DEPTH; i++) {
            unsigned at = order == 0 ? i : order == 1 ? DEPTH - i : (i + DEPTH / 2) % (DEPTH + 1);
            CHECK_EQ(pgs_object_remove(world.store, objects[at]), PGS_OK);
        }
        family_check_gone(&world.fixture, 0);
        fixture_close(&world.fixture);
    }
}

static void trees_are_wide(void)
{
    enum { WIDTH = 2000 };
    static uint32_t objects[WIDTH];
    struct world world;
    world_open(&world, 8 << 20, 16, NULL);
    for (uint64_t i = 0; i < 16; i++)
        put(world.store, world.root, i, 7);
    uint64_t hot = fixture_stats(&world.fixture).hot_pages;
    for (unsigned i = 0; i < WIDTH; i++)
        objects[i] = forked(world.store, world.root);
    struct pgs_stats stats = fixture_stats(&world.fixture);
    CHECK_EQ(stats.hot_pages, hot);
    CHECK_EQ(stats.page_count, (WIDTH + 1) * 16);
    CHECK_EQ(stats.shared_bytes, 16 * PAGE);
    CHECK_EQ(stats.private_bytes, 0);
    put(world.store, world.root, 3, 9);
    for (unsigned i = 0; i < WIDTH; i++) {
        CHECK_EQ(get(world.store, objects[i], 3), 7);
        CHECK_EQ(pgs_object_remove(world.store, objects[i]), PGS_OK);
    }
    CHECK_EQ(fixture_stats(&world.fixture).hot_pages, hot);
    CHECK_EQ(get(world.store, world.root, 3), 9);
    fixture_close(&world.fixture);
}

/* A view shows what its own object writes, and never what another does. */
static void views_belong_to_their_object(void)
{
    struct world world;
    const void *view, *of_child;
    uint64_t page_no = 5;
    world_open(&world, 2 << 20, PAGES, NULL);
    put(world.store, world.root, 5, 1);
    CHECK_EQ(pgs_view(world.store, world.root, 5, &view), PGS_OK);
    uint32_t child = forked(world.store, world.root);
    /* Viewed before the fork: the others get the new page, in the parent's write. */
    put(world.store, world.root, 5, 2);
    CHECK_EQ(*(const unsigned char *)view, 2);
    CHECK_EQ(get(world.store, child, 5), 1);
    uint32_t grandchild = forked(world.store, child);
    /* Viewed while it is shared: breaks at once. */
    CHECK_EQ(pgs_view(world.store, grandchild, 5, &of_child), PGS_OK);
    put(world.store, child, 5, 3);
    CHECK_EQ(*(const unsigned char *)of_child, 1);
    put(world.store, grandchild, 5, 4);
    CHECK_EQ(*(const unsigned char *)of_child, 4);
    CHECK_EQ(pgs_write_part(world.store, world.root, 5, 0, "\x09", 1), PGS_OK);
    CHECK_EQ(*(const unsigned char *)view, 9);
    CHECK_EQ(get(world.store, child, 5), 3);
    /* A pin is its object's own. */
    CHECK_EQ(pgs_unpin(world.store, child, &page_no, 1), PGS_E_INVALID);
    CHECK_EQ(pgs_object_remove(world.store, child), PGS_OK);
    CHECK_EQ(pgs_object_remove(world.store, world.root), PGS_E_PINNED);
    CHECK_EQ(pgs_object_resize(world.store, world.root, 5), PGS_E_PINNED);
    CHECK_EQ(stats_of(world.store, world.root).page_count, PAGES);
    CHECK_EQ(pgs_unpin(world.store, world.root, &page_no, 1), PGS_OK);
    CHECK_EQ(pgs_object_resize(world.store, world.root, 5), PGS_OK);
    CHECK_EQ(pgs_object_remove(world.store, world.root), PGS_OK);
    CHECK_EQ(*(const unsigned char *)of_child, 4);
    CHECK_EQ(pgs_unpin(world.store, grandchild, &page_no, 1), PGS_OK);
    CHECK_EQ(pgs_object_remove(world.store, grandchild), PGS_OK);
    family_check_gone(&world.fixture, 0);
    fixture_close(&world.fixture);
}

/* A tebibyte under a budget of one mebibyte: what is not touched costs nothing. */
static void sparse_memory_is_cheap(void)
{
    const uint64_t pages = (uint64_t)1 << 28;
    struct world world;
    uint32_t child;
    uint64_t forgotten;
    world_open(&world, 1 << 20, pages, NULL);
    uint64_t before = fixture_stats(&world.fixture).metadata_bytes;
    unsigned char page[PAGE];
    for (uint64_t i = 0; i < pages; i += pages / 1000) {
        CHECK_EQ(pgs_read_page(world.store, world.root, i, 0, page), PGS_OK);
        CHECK_EQ(page[0] | page[PAGE - 1], 0);
    }
    CHECK_EQ(fixture_stats(&world.fixture).hot_pages, 0);
    /* Decoders and rows of frames come with use; the table had no part in it. */
    CHECK(fixture_stats(&world.fixture).metadata_bytes < before + 64 * 1024);
    put(world.store, world.root, pages - 1, 3);
    put(world.store, world.root, 0, 4);
    CHECK_EQ(get(world.store, world.root, pages - 1), 3);
    CHECK_EQ(get(world.store, world.root, pages - 2), 0);
    CHECK(fixture_stats(&world.fixture).metadata_bytes < before + 400 * 1024);
    CHECK_EQ(fixture_stats(&world.fixture).page_count, pages);
    CHECK_EQ(fixture_stats(&world.fixture).absent_pages, pages - 2);
    /* That takes 1 GiB of references. */
    CHECK_EQ(pgs_object_fork(world.store, world.root, &child), PGS_E_BUDGET);
    CHECK_EQ(pgs_forget(world.store, world.root, 0, pages, &forgotten), PGS_OK);
    CHECK_EQ(forgotten, pages);
    CHECK_EQ(fixture_stats(&world.fixture).absent_pages, pages);
    CHECK_EQ(get(world.store, world.root, 0), 0);
    CHECK_EQ(pgs_object_resize(world.store, world.root, 10), PGS_OK);
    put(world.store, world.root, 9, 5);
    child = forked(world.store, world.root);
    CHECK_EQ(get(world.store, child, 9), 5);
    fixture_close(&world.fixture);
}

static void sizes_change(void)
{
    struct world world;
    unsigned char page[PAGE];
    world_open(&world, 2 << 20, PAGES, NULL);
    for (uint64_t i = 0; i < PAGES; i++)
        put(world.store, world.root, i, 1);
    for (unsigned round = 0; round < 2; round++) { /* then as one of a forked family */
        CHECK_EQ(pgs_object_resize(world.store, world.root, PAGES / 2), PGS_OK);
        CHECK_EQ(pgs_read_page(world.store, world.root, PAGES / 2, 0, page), PGS_E_RANGE);
        CHECK_EQ(pgs_object_resize(world.store, world.root, 3 * PAGES), PGS_OK);
        CHECK_EQ(get(world.store, world.root, PAGES / 2 - 1), 1);
        for (uint64_t i = PAGES / 2; i < 3 * PAGES; i++)
            CHECK_EQ(get(world.store, world.root, i), 0);
        put(world.store, world.root, 3 * PAGES - 1, 2);
        uint32_t child = forked(world.store, world.root);
        CHECK_EQ(get(world.store, child, 3 * PAGES - 1), 2);
        CHECK_EQ(pgs_object_resize(world.store, child, 1), PGS_OK);
        CHECK_EQ(get(world.store, world.root, 3 * PAGES - 1), 2);
        family_check(world.store, world.root, SLOT_LIMIT);
    }
    CHECK_EQ(pgs_object_resize(world.store, world.root, 0), PGS_E_INVALID);
    CHECK_EQ(pgs_object_resize(world.store, 99, 1), PGS_E_RANGE);
    fixture_close(&world.fixture);
}

/* Levels are inherited; what is PINNED counts as held for every copy. */
static void treatments_are_inherited(void)
{
    struct world world;
    uint64_t page_nos[] = {1, 2};
    uint8_t treatments[] = {PGS_LEVEL_PINNED, PGS_LEVEL_EAGER};
    world_open(&world, 2 << 20, PAGES, NULL);
    put(world.store, world.root, 1, 1);
    put(world.store, world.root, 2, 2);
    CHECK_EQ(pgs_treat(world.store, world.root, page_nos, treatments, 2), PGS_OK);
    uint32_t child = forked(world.store, world.root);
    CHECK_EQ(fixture_stats(&world.fixture).pinned_pages, 1);
    put(world.store, child, 1, 3);
    put(world.store, child, 2, 4);
    struct pgs_stats stats = fixture_stats(&world.fixture);
    CHECK_EQ(stats.pinned_pages, 2);
    CHECK_EQ(stats.level_hot[PGS_LEVEL_PINNED], 2);
    CHECK_EQ(stats.level_pages[PGS_LEVEL_EAGER], 2);
    CHECK_EQ(pgs_object_remove(world.store, child), PGS_OK);
    CHECK_EQ(fixture_stats(&world.fixture).pinned_pages, 1);
    CHECK_EQ(get(world.store, world.root, 1), 1);
    fixture_close(&world.fixture);
}

/* With a place to go pages leave RAM, and each slot is discarded there when nobody has it. */
static void backings_hold_slots(void)
{
    struct fake fake = {.bytes = calloc(4096, PAGE), .page_count = 4096, .page_size = PAGE};
    struct pgs_backing backing = fake_backing(&fake, 1);
    struct world world;
    world_open(&world, 384 << 10, 200, &backing);
    CHECK_EQ(atomic_load(&fake.page_ins), 0); /* nothing is asked for that was not given */
    struct noise noise = noise_seeded();
    unsigned char page[PAGE], expected[PAGE];
    uint32_t objects[4] = {world.root};
    for (unsigned who = 0; who < 4; who++) {
        if (who)
            objects[who] = forked(world.store, objects[who - 1]);
        for (uint64_t i = who * 20; i < 200; i++) {
            struct noise own = {.state = 1 + who * 1000 + i};
            noise_fill(&own, page, PAGE); /* does not shrink */
            CHECK_EQ(pgs_write(world.store, objects[who], &i, 1, page, NULL), PGS_OK);
        }
    }
    CHECK(fixture_stats(&world.fixture).writebacks > 300);
    for (unsigned step = 0; step < 2000; step++) {
        unsigned who = noise_word(&noise) % 4;
        uint64_t i = noise_word(&noise) % 200, writer = who < i / 20 ? who : i / 20;
        struct noise own = {.state = 1 + writer * 1000 + i};
        noise_fill(&own, expected, PAGE);
        CHECK_EQ(pgs_read_page(world.store, objects[who], i, 0, page), PGS_OK);
        CHECK_BYTES(page, expected, PAGE);
    }
    for (unsigned who = 0; who < 4; who++)
        CHECK_EQ(pgs_object_remove(world.store, objects[who]), PGS_OK);
    CHECK(atomic_load(&fake.discards) > 300);
    CHECK_EQ(atomic_load(&fake.closes), 1);
    family_check_gone(&world.fixture, 0);
    fixture_close(&world.fixture);
    free(fake.bytes);
}

/* -- forks while others write --------------------------------------------------------- */

enum { ROUNDS = 400, COUNTED = 24, APART = 800 /* so that a fork takes its time */ };

struct writing {
    struct world world;
    _Atomic int over;
};

/* Writes a number to one page after the other: at any moment those at the front have it,
 * the others the one before. */
static void *write_in_order(void *ctx)
{
    struct writing *writing = ctx;
    for (uint64_t round = 1; !atomic_load(&writing->over); round++)
        for (uint64_t i = 0; i < COUNTED * APART; i += APART) {
            uint64_t bytes[PAGE / 8];
            for (unsigned k = 0; k < PAGE / 8; k++)
                bytes[k] = round + k;
            int error = round % 2
                            ? pgs_write(writing->world.store, writing->world.root, &i, 1, bytes,
                                        NULL)
                            : pgs_write_part(writing->world.store, writing->world.root, i, 0, bytes,
                                             PAGE - 8);
            CHECK_EQ(error, PGS_OK);
        }
    return NULL;
}

static void check_moment(pgs_store *store, uint32_t object)
{
    uint64_t bytes[PAGE / 8], before = UINT64_MAX, first = 0;
    for (uint64_t i = 0; i < COUNTED * APART; i += APART) {
        CHECK_EQ(pgs_read_page(store, object, i, 0, bytes), PGS_OK);
        uint64_t round = bytes[0];
        for (unsigned k = 0; round && k < PAGE / 8 - 1; k++)
            CHECK_EQ(bytes[k], round + k);
        if (i == 0)
            first = round;
        CHECK(round <= before && round + 1 >= first);
        before = round;
    }
}

static void a_fork_is_one_moment(void)
{
    struct writing writing = {0};
    pthread_t writer;
    world_open(&writing.world, 1 << 20, COUNTED * APART, NULL);
    CHECK_EQ(pthread_create(&writer, NULL, write_in_order, &writing), 0);
    uint32_t last = writing.world.root;
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint32_t child = forked(writing.world.store, writing.world.root);
        check_moment(writing.world.store, child);
        check_moment(writing.world.store, child); /* it does not change any more */
        if (last != writing.world.root)
            CHECK_EQ(pgs_object_remove(writing.world.store, last), PGS_OK);
        last = child;
    }
    atomic_store(&writing.over, 1);
    pthread_join(writer, NULL);
    family_check(writing.world.store, last, SLOT_LIMIT);
    fixture_close(&writing.world.fixture);
}

/* Threads use one object while it is forked, and the forks closed, all the time: a page that
 * moved to another slot must be followed, whoever has the old one by then. */
struct sharing {
    struct world world;
    _Atomic int over;
    _Atomic uint64_t written[COUNTED];
};

struct sharer {
    struct sharing *sharing;
    unsigned number; /* writes every other page */
};

static void check_owned(const struct sharing *sharing, uint64_t page_no, uint64_t least)
{
    uint64_t words[PAGE / 8];
    CHECK_EQ(pgs_read_page(sharing->world.store, sharing->world.root, page_no,
                           least % 2 ? PGS_READ_INTO_FRAME : 0, words), PGS_OK);
    for (unsigned k = 0; k < PAGE / 8; k++)
        CHECK_EQ(words[k], words[0]);
    CHECK_EQ(words[0] % COUNTED, words[0] ? page_no : 0);
    /* Those of the second half are given up at times. */
    CHECK(words[0] / COUNTED >= least || (words[0] == 0 && page_no >= COUNTED / 2));
}

/* Writes a page, or gives it up; nobody else does, so that it must be as it was left. */
static void change_own(struct sharing *sharing, uint64_t page_no, uint64_t round)
{
    uint64_t words[PAGE / 8], found[PAGE / 8], forgotten;
    int gives_up = page_no >= COUNTED / 2 && round % 3 == 0;
    for (unsigned k = 0; k < PAGE / 8; k++)
        words[k] = gives_up ? 0 : round * COUNTED + page_no;
    if (gives_up)
        CHECK_EQ(pgs_forget(sharing->world.store, sharing->world.root, page_no, 1, &forgotten),
                 PGS_OK);
    else
        CHECK_EQ(pgs_write(sharing->world.store, sharing->world.root, &page_no, 1, words, NULL),
                 PGS_OK);
    CHECK_EQ(pgs_read_page(sharing->world.store, sharing->world.root, page_no, 0, found), PGS_OK);
    CHECK_BYTES(found, words, PAGE);
    atomic_store(&sharing->written[page_no], round);
}

static void *share(void *ctx)
{
    struct sharer *sharer = ctx;
    struct sharing *sharing = sharer->sharing;
    struct noise noise = {.state = 7 + sharer->number};
    for (uint64_t round = 1; !atomic_load(&sharing->over); round++) {
        uint64_t page_no = noise_word(&noise) % (COUNTED / 2) * 2 + sharer->number % 2;
        if (sharer->number < 2)
            change_own(sharing, page_no, round);
        page_no = noise_word(&noise) % COUNTED;
        check_owned(sharing, page_no, atomic_load(&sharing->written[page_no]));
    }
    return NULL;
}

static void pages_are_followed(void)
{
    static struct sharing sharing;
    struct sharer sharers[4];
    pthread_t ids[4];
    world_open(&sharing.world, 512 << 10, COUNTED, NULL);
    for (unsigned i = 0; i < 4; i++) {
        sharers[i] = (struct sharer){.sharing = &sharing, .number = i};
        CHECK_EQ(pthread_create(&ids[i], NULL, share, &sharers[i]), 0);
    }
    for (unsigned i = 0; i < 20 * ROUNDS; i++) {
        uint32_t child = forked(sharing.world.store, sharing.world.root);
        if (i % 64 == 0)
            sched_yield();
        CHECK_EQ(pgs_object_resize(sharing.world.store, sharing.world.root, COUNTED + i % 500),
                 PGS_OK);
        CHECK_EQ(pgs_object_remove(sharing.world.store, child), PGS_OK);
    }
    atomic_store(&sharing.over, 1);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
    family_check(sharing.world.store, sharing.world.root, SLOT_LIMIT);
    CHECK_EQ(pgs_object_remove(sharing.world.store, sharing.world.root), PGS_OK);
    family_check_gone(&sharing.world.fixture, 0);
    fixture_close(&sharing.world.fixture);
}

/* An object's end moves while threads write on both sides of it: its references are copied
 * to where there is more room, and what is beyond the end stays nothing. */
static void *write_around_end(void *ctx)
{
    struct sharer *sharer = ctx;
    struct sharing *sharing = sharer->sharing;
    pgs_store *store = sharing->world.store;
    struct noise noise = {.state = 11 + sharer->number};
    while (!atomic_load(&sharing->over)) {
        uint64_t page_no = noise_word(&noise) % COUNTED * 2 + sharer->number, forgotten;
        unsigned char value = (unsigned char)(1 + noise_word(&noise) % 255), page[PAGE];
        int error = pgs_write_part(store, sharing->world.root, page_no, 7, &value, 1);
        CHECK(error == PGS_OK || (error == PGS_E_RANGE && page_no >= COUNTED));
        if (page_no >= COUNTED)
            continue;
        CHECK_EQ(pgs_read_page(store, sharing->world.root, page_no, 0, page), PGS_OK);
        CHECK_EQ(page[7], value);
        CHECK_EQ(pgs_forget(store, sharing->world.root, page_no, 1, &forgotten), PGS_OK);
        CHECK_EQ(pgs_read_page(store, sharing->world.root, page_no, 0, page), PGS_OK);
        CHECK_EQ(page[7], 0);
    }
    return NULL;
}

static void check_end(pgs_store *store, uint32_t object)
{
    const struct member *member = member_of(store, object);
    struct family *family = member->object->family;
    pthread_mutex_lock(&family->lock);
    for (uint64_t i = member_pages(member); i < member->ref_limit; i++)
        CHECK_EQ(member->refs[i], NO_SLOT);
    for (uint32_t i = COUNTED; !member->refs && i < 2 * COUNTED; i++) {
        const struct page *page = table_page(&family->table, i);
        CHECK(!page || !(page_load(page) & (PAGE_HOT | PAGE_COPY | PAGE_DIRTY)));
    }
    pthread_mutex_unlock(&family->lock);
}

static void ends_move_under_writers(void)
{
    for (unsigned round = 0; round < 40; round++) {
        static struct sharing sharing;
        struct sharer sharers[2];
        pthread_t ids[2];
        atomic_store(&sharing.over, 0);
        world_open(&sharing.world, 16 << 20, 2 * COUNTED, NULL);
        if (round % 2)
            forked(sharing.world.store, sharing.world.root);
        for (unsigned i = 0; i < 2; i++) {
            sharers[i] = (struct sharer){.sharing = &sharing, .number = i};
            CHECK_EQ(pthread_create(&ids[i], NULL, write_around_end, &sharers[i]), 0);
        }
        for (uint64_t pages = 1000; pages < 200000; pages += pages / 2 + 1) {
            CHECK_EQ(pgs_object_resize(sharing.world.store, sharing.world.root, pages), PGS_OK);
            CHECK_EQ(pgs_object_resize(sharing.world.store, sharing.world.root, COUNTED), PGS_OK);
            sched_yield();
            check_end(sharing.world.store, sharing.world.root);
        }
        atomic_store(&sharing.over, 1);
        for (unsigned i = 0; i < 2; i++)
            pthread_join(ids[i], NULL);
        family_check(sharing.world.store, sharing.world.root, SLOT_LIMIT);
        fixture_close(&sharing.world.fixture);
    }
}

/* -- discipline and refusals ---------------------------------------------------------- */

static void sections_refuse_breaks(void)
{
    struct world world;
    unsigned char page[PAGE];
    uint64_t page_no = 0;
    uint32_t object;
    const void *view;
    world_open(&world, 2 << 20, PAGES, NULL);
    put(world.store, world.root, 0, 1);
    CHECK_EQ(pgs_pin(world.store, world.root, &page_no, 1), PGS_OK);
    uint32_t child = forked(world.store, world.root);
    CHECK_EQ(pgs_section_begin(world.store, PGS_SECTION_ATOMIC), PGS_OK);
    CHECK_EQ(pgs_read_page(world.store, child, 0, 0, page), PGS_OK); /* it is in its frame */
    CHECK_EQ(pgs_read_page(world.store, child, 1, 0, page), PGS_E_WOULD_FAULT);
    CHECK_EQ(pgs_write_part(world.store, child, 0, 0, "x", 1), PGS_E_WOULD_FAULT);
    CHECK_EQ(pgs_write_part(world.store, child, 1, 0, "x", 1), PGS_E_WOULD_FAULT);
    CHECK_EQ(pgs_write_part(world.store, world.root, 0, 0, "x", 1), PGS_E_WOULD_FAULT);
    CHECK_EQ(pgs_view(world.store, child, 0, &view), PGS_E_ATOMIC);
    CHECK_EQ(pgs_object_fork(world.store, child, &object), PGS_E_ATOMIC);
    CHECK_EQ(pgs_object_resize(world.store, child, 1), PGS_E_ATOMIC);
    CHECK_EQ(pgs_section_end(world.store, PGS_SECTION_ATOMIC), PGS_OK);
    CHECK_EQ(pgs_section_begin(world.store, PGS_SECTION_PAGER), PGS_OK);
    CHECK_EQ(pgs_write_part(world.store, child, 0, 0, "x", 1), PGS_E_PAGER);
    CHECK_EQ(pgs_section_end(world.store, PGS_SECTION_PAGER), PGS_OK);
    CHECK_EQ(pgs_write_part(world.store, child, 0, 0, "x", 1), PGS_OK);
    CHECK_EQ(get(world.store, world.root, 0), 1);
    CHECK_EQ(pgs_unpin(world.store, world.root, &page_no, 1), PGS_OK);
    family_check(world.store, child, SLOT_LIMIT);
    fixture_close(&world.fixture);
}

static void images_are_not_forked(void)
{
    struct fixture fixture;
    struct fixture_options options = {.page_count = 16, .budget_bytes = 1 << 20};
    uint32_t object;
    CHECK_EQ(fixture_open(&fixture, &options), PGS_OK);
    CHECK_EQ(pgs_object_fork(fixture.store, fixture.object, &object), PGS_E_UNSUPPORTED);
    CHECK_EQ(pgs_object_fork(fixture.store, 77, &object), PGS_E_RANGE);
    CHECK_EQ(pgs_object_resize(fixture.store, fixture.object, 1), PGS_E_UNSUPPORTED);
    CHECK_EQ(pgs_anonymous_add(fixture.store, 1, PGS_LEVEL_PINNED, NULL, NULL, &object),
             PGS_E_INVALID);
    CHECK_EQ(pgs_anonymous_add(fixture.store, 1, PGS_TREAT_END, NULL, NULL, &object),
             PGS_E_INVALID);
    CHECK_EQ(pgs_anonymous_add(fixture.store, 0, PGS_LEVEL_NORMAL, NULL, NULL, &object),
             PGS_E_INVALID);
    CHECK_EQ(stats_of(fixture.store, fixture.object).member_count, 1);
    fixture_close(&fixture);
}

/* A write that finds no RAM for its page leaves both sides as they were. */
static void a_full_store_refuses(void)
{
    struct world world;
    world_open(&world, 256 << 10, 40, NULL);
    unsigned char page[PAGE];
    uint64_t done = 0;
    for (; done < 40; done++) {
        struct noise own = {.state = 1 + done};
        noise_fill(&own, page, PAGE);
        if (pgs_write(world.store, world.root, &done, 1, page, NULL))
            break;
    }
    uint32_t child = forked(world.store, world.root);
    unsigned refused = 0;
    for (uint64_t i = 0; i < done; i++) {
        struct noise own = {.state = 1000 + i};
        noise_fill(&own, page, PAGE);
        int error = pgs_write(world.store, child, &i, 1, page, NULL);
        CHECK(error == PGS_OK || error == PGS_E_BUDGET);
        refused += error == PGS_E_BUDGET;
    }
    CHECK(refused > 0);
    for (uint64_t i = 0; i < done; i++) {
        unsigned char expected[PAGE];
        struct noise own = {.state = 1 + i};
        noise_fill(&own, expected, PAGE);
        CHECK_EQ(pgs_read_page(world.store, world.root, i, 0, page), PGS_OK);
        CHECK_BYTES(page, expected, PAGE);
    }
    family_check(world.store, child, SLOT_LIMIT);
    fixture_close(&world.fixture);
}

int main(void)
{
    RUN(sides_differ_after_a_write);
    RUN(order_of_closes_is_free);
    RUN(chains_are_deep);
    RUN(trees_are_wide);
    RUN(views_belong_to_their_object);
    RUN(sparse_memory_is_cheap);
    RUN(sizes_change);
    RUN(treatments_are_inherited);
    RUN(backings_hold_slots);
    RUN(a_fork_is_one_moment);
    RUN(pages_are_followed);
    RUN(ends_move_under_writers);
    RUN(sections_refuse_breaks);
    RUN(images_are_not_forked);
    RUN(a_full_store_refuses);
    return 0;
}
