/* SPDX-License-Identifier: MIT
 *
 * Anonymous memory and its forks over blobs with named faults: what goes there, what never
 * does, and that nothing is left of it there.
 */
#include "fake_blobs.h"
#include "family_fixture.h"

enum { PAGE = 4096, ROOM = 128, PAGES = 400, BUDGET = 800 << 10 };

struct world {
    struct fixture fixture;
    struct fake_blobs fake;
    pgs_store *store;
    uint32_t root;
};

static struct pgs_backing backing_of(struct world *world)
{
    struct pgs_coded_params params = {.struct_size = sizeof params,
                                      .page_size = PAGE,
                                      .page_count = ROOM,
                                      .buffer_pages = 8,
                                      .ahead_pages = 8,
                                      .deadline_ms = 200,
                                      .flags = PGS_CODED_TEMPORARY};
    struct pgs_blobs blobs = fake_blobs_of(&world->fake);
    struct pgs_backing backing;
    CHECK_EQ(pgs_backing_coded(&params, &blobs, NULL, world->fixture.codec, &backing), PGS_OK);
    return backing;
}

/* A store with nothing in it but one anonymous object, whose backing has room for ROOM pages. */
static void world_open(struct world *world, uint64_t pages, uint64_t budget)
{
    struct fixture_options options = {.codec_id = PGS_CODEC_LZ4, .page_count = 1, .anonymous = 1,
                                      .budget_bytes = budget, .pool_percent = 25};
    CHECK_EQ(fixture_open(&world->fixture, &options), PGS_OK);
    fake_blobs_open(&world->fake, ROOM, PAGE);
    world->store = world->fixture.store;
    CHECK_EQ(pgs_object_remove(world->store, world->fixture.object), PGS_OK);
    struct pgs_backing backing = backing_of(world);
    CHECK_EQ(pgs_anonymous_add(world->store, pages, PGS_LEVEL_NORMAL, &backing,
                               world->fixture.codec, &world->root), PGS_OK);
}

static void world_close(struct world *world)
{
    fixture_close(&world->fixture);
    fake_blobs_free(&world->fake);
}

static void fill(unsigned char *page, unsigned version, uint64_t page_no)
{
    struct noise noise = {.state = 1 + version * 100000 + page_no};
    noise_fill(&noise, page, PAGE);
}

static int put(struct world *world, uint32_t object, unsigned version, uint64_t page_no)
{
    unsigned char page[PAGE];
    fill(page, version, page_no);
    return pgs_write(world->store, object, &page_no, 1, page, NULL);
}

static void check(struct world *world, uint32_t object, unsigned version, uint64_t page_no)
{
    unsigned char page[PAGE], wanted[PAGE] = {0};
    if (version)
        fill(wanted, version, page_no);
    CHECK_EQ(pgs_read_page(world->store, object, page_no, 0, page), PGS_OK);
    CHECK_BYTES(page, wanted, PAGE);
}

static uint32_t forked(struct world *world, uint32_t from)
{
    uint32_t object;
    CHECK_EQ(pgs_object_fork(world->store, from, &object), PGS_OK);
    return object;
}

static unsigned blob_count(struct world *world)
{
    uint64_t bits[ROOM / 64];
    CHECK_EQ(world->fake.ram.present(world->fake.ram.ctx, 0, ROOM, bits), PGS_OK);
    return (unsigned)(__builtin_popcountll(bits[0]) + __builtin_popcountll(bits[1]));
}

/* Has everything that the store knows of with the blobs. */
static void flush(struct world *world, uint32_t object)
{
    uint64_t written, failed;
    CHECK_EQ(pgs_flush(world->store, object, &written, &failed), PGS_OK);
    CHECK_EQ(failed, UINT64_MAX);
}

static void forget(struct world *world, uint32_t object, uint64_t first, uint64_t count)
{
    uint64_t forgotten;
    CHECK_EQ(pgs_forget(world->store, object, first, count, &forgotten), PGS_OK);
    CHECK_EQ(forgotten, count);
}

/* Pages with numbers that the backing has no room for stay in RAM, and are never lost. */
static void pages_beyond_the_room_stay_in_ram(void)
{
    struct world world;
    uint64_t wrote = 0, written, failed;
    world_open(&world, PAGES, BUDGET);
    while (wrote < PAGES && put(&world, world.root, 1, wrote) == PGS_OK)
        wrote++;
    CHECK(wrote > ROOM + 40);
    CHECK(wrote < PAGES);
    CHECK(fixture_stats(&world.fixture).writebacks > ROOM / 2);
    for (uint64_t i = 0; i < PAGES; i++)
        check(&world, world.root, i < wrote, i);
    CHECK_EQ(pgs_flush(world.store, world.root, &written, &failed), PGS_E_FULL);
    CHECK_EQ(failed, ROOM);
    CHECK_EQ(blob_count(&world), ROOM);
    world_close(&world);
}

/* What forks write gets numbers that are free: where the room is used up, it stays too. */
static void forks_go_beyond_the_room(void)
{
    struct world world;
    world_open(&world, ROOM, BUDGET);
    for (uint64_t i = 0; i < ROOM; i++)
        CHECK_EQ(put(&world, world.root, 1, i), PGS_OK);
    uint32_t child = forked(&world, world.root);
    uint64_t wrote = 0;
    while (wrote < ROOM && put(&world, child, 2, wrote) == PGS_OK)
        wrote++;
    CHECK(wrote > 40);
    for (uint64_t i = 0; i < ROOM; i++) {
        check(&world, world.root, 1, i);
        check(&world, child, i < wrote ? 2 : 1, i);
    }
    CHECK(blob_count(&world) <= ROOM);
    /* What its parent has alone makes room there when it goes. */
    CHECK_EQ(pgs_object_remove(world.store, world.root), PGS_OK);
    for (uint64_t i = 0; i < ROOM; i++)
        check(&world, child, i < wrote ? 2 : 1, i);
    CHECK_EQ(pgs_object_remove(world.store, child), PGS_OK);
    CHECK_EQ(blob_count(&world), 0);
    CHECK_EQ(atomic_load(&world.fake.closes), 1);
    family_check_gone(&world.fixture, 0);
    world_close(&world);
}

/* A page's blob goes when the last that has it gives it up. */
static void blobs_go_with_their_last_owner(void)
{
    struct world world;
    world_open(&world, 100, 4 << 20);
    for (uint64_t i = 0; i < 100; i++)
        CHECK_EQ(put(&world, world.root, 1, i), PGS_OK);
    flush(&world, world.root);
    CHECK_EQ(blob_count(&world), 100);
    forget(&world, world.root, 0, 10);
    flush(&world, world.root);
    CHECK_EQ(blob_count(&world), 90);
    uint32_t child = forked(&world, world.root);
    forget(&world, world.root, 10, 10); /* the child has them */
    CHECK_EQ(pgs_object_resize(world.store, world.root, 80), PGS_OK);
    flush(&world, world.root);
    CHECK_EQ(blob_count(&world), 90);
    check(&world, world.root, 0, 15);
    check(&world, child, 1, 15);
    forget(&world, child, 10, 20); /* ten of them the root has */
    CHECK_EQ(pgs_object_resize(world.store, child, 90), PGS_OK);
    flush(&world, child);
    CHECK_EQ(blob_count(&world), 70);
    CHECK_EQ(pgs_object_remove(world.store, child), PGS_OK);
    flush(&world, world.root);
    CHECK_EQ(blob_count(&world), 60);
    for (uint64_t i = 0; i < 80; i++)
        check(&world, world.root, i >= 20, i);
    world_close(&world);
}

/* A page that was changed back to zeros needs no blob, and leaves none. */
static void zeros_need_no_blob(void)
{
    struct world world;
    unsigned char zeros[PAGE] = {0};
    world_open(&world, ROOM, 4 << 20);
    for (uint64_t i = 0; i < 40; i++)
        CHECK_EQ(put(&world, world.root, 1, i), PGS_OK);
    flush(&world, world.root);
    for (uint64_t i = 0; i < 20; i++)
        CHECK_EQ(pgs_write(world.store, world.root, &i, 1, zeros, NULL), PGS_OK);
    flush(&world, world.root);
    CHECK_EQ(blob_count(&world), 20);
    CHECK_EQ(fixture_stats(&world.fixture).dirty_pages, 0);
    for (uint64_t i = 0; i < 40; i++) {
        CHECK_EQ(pgs_discard(world.store, world.root, &i, 1, NULL), PGS_OK);
        check(&world, world.root, i >= 20, i);
    }
    world_close(&world);
}

/* The thread that writes tries again by itself, at intervals. */
static void flush_at_last(struct world *world, uint32_t object)
{
    uint64_t written, failed;
    int error = PGS_E_FULL;
    for (int i = 0; error && i < 500; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        error = pgs_flush(world->store, object, &written, &failed);
    }
    CHECK_EQ(error, PGS_OK);
}

static void full_or_dead_blobs_lose_nothing(enum blobs_fault fault, int error)
{
    struct world world;
    uint64_t wrote = 0, written, failed;
    world_open(&world, ROOM, 600 << 10);
    fake_blobs_set(&world.fake, fault);
    while (wrote < ROOM && put(&world, world.root, 1, wrote) == PGS_OK)
        wrote++;
    CHECK(wrote > 20);
    CHECK(wrote < ROOM);
    for (uint64_t i = 0; i < ROOM; i++)
        check(&world, world.root, i < wrote, i);
    CHECK_EQ(pgs_flush(world.store, world.root, &written, &failed), error);
    CHECK(failed < wrote);
    fake_blobs_set(&world.fake, BLOBS_FINE);
    flush_at_last(&world, world.root);
    for (; wrote < ROOM; wrote++)
        CHECK_EQ(put(&world, world.root, 1, wrote), PGS_OK);
    for (uint64_t i = 0; i < ROOM; i++)
        check(&world, world.root, 1, i);
    world_close(&world);
}

static void full_blobs_lose_nothing(void)
{
    full_or_dead_blobs_lose_nothing(BLOBS_FULL, PGS_E_FULL);
}

static void dead_blobs_lose_nothing(void)
{
    full_or_dead_blobs_lose_nothing(BLOBS_DEAD, PGS_E_STORE_LOST);
}

/* Reads of pages that only the blobs have say why they fail, and go on afterwards. */
static void reads_say_what_is_wrong(void)
{
    static const struct {
        enum blobs_fault fault;
        int error;
    } cases[] = {{BLOBS_DEAD, PGS_E_STORE_LOST},
                 {BLOBS_STUCK, PGS_E_TIMEOUT},
                 {BLOBS_WRONG_BYTE, PGS_E_CORRUPT},
                 {BLOBS_WRONG_PAGE, PGS_E_CORRUPT},
                 {BLOBS_LOSES, PGS_E_CORRUPT}};
    struct world world;
    unsigned char page[PAGE];
    world_open(&world, ROOM, 4 << 20);
    for (uint64_t i = 0; i < ROOM; i++)
        CHECK_EQ(put(&world, world.root, 1, i), PGS_OK);
    flush(&world, world.root);
    uint32_t child = forked(&world, world.root);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint64_t i = 3 + 20 * c, last = ROOM - 1;
        CHECK_EQ(pgs_discard(world.store, child, &i, 1, NULL), PGS_OK);
        fake_blobs_set(&world.fake, cases[c].fault);
        CHECK_EQ(pgs_read_page(world.store, world.root, i, 0, page), cases[c].error);
        CHECK_EQ(pgs_write_part(world.store, child, i, 5, "x", 1), cases[c].error);
        check(&world, world.root, 1, last); /* others go on */
        fake_blobs_set(&world.fake, BLOBS_FINE);
        check(&world, world.root, 1, i);
        check(&world, child, 1, i);
    }
    world_close(&world);
}

/* Whoever closes it, nothing is left of temporary pages; and nothing more is written. */
static void nothing_is_left_behind(void)
{
    for (int with_store = 0; with_store < 2; with_store++) {
        struct world world;
        world_open(&world, ROOM, 4 << 20);
        for (uint64_t i = 0; i < 50; i++)
            CHECK_EQ(put(&world, world.root, 1, i), PGS_OK);
        flush(&world, world.root);
        CHECK_EQ(blob_count(&world), 50);
        if (!with_store)
            CHECK_EQ(pgs_object_remove(world.store, world.root), PGS_OK);
        fixture_close(&world.fixture);
        CHECK_EQ(atomic_load(&world.fake.closes), 1);
        CHECK_EQ(blob_count(&world), 0);
        CHECK_EQ(atomic_load(&world.fake.puts), 50);
        fake_blobs_free(&world.fake);
    }
}

int main(void)
{
    RUN(pages_beyond_the_room_stay_in_ram);
    RUN(forks_go_beyond_the_room);
    RUN(blobs_go_with_their_last_owner);
    RUN(zeros_need_no_blob);
    RUN(full_blobs_lose_nothing);
    RUN(dead_blobs_lose_nothing);
    RUN(reads_say_what_is_wrong);
    RUN(nothing_is_left_behind);
    return 0;
}
