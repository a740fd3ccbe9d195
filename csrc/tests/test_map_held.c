/* SPDX-License-Identifier: MIT
 *
 * Pages that system calls are given: pinned and prefetched they are written to by read(2), and
 * when the memory is forked the child keeps its bytes. Views show a page throughout. Which page
 * cannot be brought; and who must not wait, does not.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "family_fixture.h"
#include "map_fixture.h"
#include "pagestep/discipline.h"

enum { PAGE = 4096, PAGES = 16, BUDGET = 2 << 20, OLD = 7 };

struct held {
    struct fixture fixture;
    pgs_store *store;
    pgs_map *map;
    uint32_t object;
    int zeros; /* a file */
};

static void held_open(struct held *held, const struct way *way)
{
    held->object = fixture_open_memory(&held->fixture, PAGES, BUDGET);
    held->store = held->fixture.store;
    held->map = map_of(&held->fixture, held->object, way);
    held->zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK(held->zeros >= 0);
}

static void held_close(struct held *held)
{
    close(held->zeros);
    pgs_map_close(held->map);
    fixture_close(&held->fixture);
}

static unsigned char *page_at(const struct held *held, uint64_t page_no)
{
    return (unsigned char *)pgs_map_address(held->map) + page_no * PAGE;
}

static void put(const struct held *held, uint64_t page_no, unsigned char first)
{
    for (unsigned i = 0; i < PAGE; i++)
        page_at(held, page_no)[i] = (unsigned char)(first + i / 64);
}

/* What put has put there, or, with a `first` of 0, zeros. */
static void check_page(const struct held *held, uint32_t object, uint64_t page_no,
                       unsigned char first)
{
    unsigned char page[PAGE];
    CHECK_EQ(pgs_read_page(held->store, object, page_no, 0, page), PGS_OK);
    for (unsigned i = 0; i < PAGE; i++)
        CHECK_EQ(page[i], first ? (unsigned char)(first + i / 64) : 0);
}

static long read_zeros(const struct held *held, uint64_t page_no)
{
    return (long)read(held->zeros, page_at(held, page_no), PAGE);
}

static void prefetch_to_write(const struct held *held, uint64_t page_no)
{
    CHECK_EQ(pgs_map_prefetch(held->map, page_no, 1, 1, NULL), PGS_OK);
}

static uint32_t forked(const struct held *held)
{
    uint32_t child;
    CHECK_EQ(pgs_object_fork(held->store, held->object, &child), PGS_OK);
    return child;
}

static void a_held_page_can_be_given_away(const struct way *way)
{
    struct held held;
    const uint64_t page_no = 3;
    held_open(&held, way);
    put(&held, page_no, OLD);
    CHECK_EQ(pgs_pin(held.store, held.object, &page_no, 1), PGS_OK);
    prefetch_to_write(&held, page_no);
    /* What ages maps does not take the mapping of a pinned page away. */
    CHECK_EQ(pgs_map_detach(held.map, 0, PAGES), PGS_OK);
    CHECK_EQ(read_zeros(&held, page_no), PAGE);
    check_page(&held, held.object, page_no, 0);
    put(&held, page_no, OLD);
    uint32_t child = forked(&held);
    long done = read_zeros(&held, page_no);
    CHECK(done == PAGE || (done < 0 && errno == EFAULT));
    check_page(&held, held.object, page_no, done < 0 ? OLD : 0);
    check_page(&held, child, page_no, OLD);
    prefetch_to_write(&held, page_no);
    CHECK_EQ(read_zeros(&held, page_no), PAGE);
    check_page(&held, held.object, page_no, 0);
    check_page(&held, child, page_no, OLD);
    CHECK_EQ(pgs_unpin(held.store, held.object, &page_no, 1), PGS_OK);
    CHECK_EQ(pgs_object_remove(held.store, child), PGS_OK);
    held_close(&held);
}

/* A page that others have as well gets its own. */
static void a_shared_page_is_prefetched_to_be_written(const struct way *way)
{
    struct held held;
    const uint64_t page_no = 5;
    held_open(&held, way);
    for (int out = 0; out < 2; out++) {
        put(&held, page_no, OLD);
        uint32_t child = forked(&held);
        if (out)
            CHECK_EQ(pgs_page_out(held.store, held.object, &page_no, 1, NULL), PGS_OK);
        prefetch_to_write(&held, page_no);
        CHECK(family_slot(held.store, held.object, (uint32_t)page_no) !=
              family_slot(held.store, child, (uint32_t)page_no));
        CHECK_EQ(read_zeros(&held, page_no), PAGE);
        check_page(&held, held.object, page_no, 0);
        check_page(&held, child, page_no, OLD);
        CHECK_EQ(pgs_object_remove(held.store, child), PGS_OK);
    }
    held_close(&held);
}

struct viewer {
    const unsigned char *view, *bytes;
    atomic_bool stop;
};

static void *look(void *ctx)
{
    struct viewer *viewer = ctx;
    while (!atomic_load(&viewer->stop))
        CHECK_BYTES(viewer->view, viewer->bytes, PAGE);
    return NULL;
}

static void open_image(struct fixture *fixture)
{
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = BUDGET,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 40,
                                      .writable = 1};
    CHECK_EQ(fixture_open(fixture, &options), PGS_OK);
}

static void flush(const struct fixture *fixture)
{
    uint64_t written, failed;
    CHECK_EQ(pgs_flush(fixture->store, fixture->object, &written, &failed), PGS_OK);
}

/* Also while the page is mapped anew. */
static void a_view_shows_its_page(const struct way *way)
{
    enum { TIMES = 10000 };
    struct fixture fixture;
    pthread_t thread;
    const void *view;
    open_image(&fixture);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    CHECK_EQ(pgs_view(fixture.store, fixture.object, 1, &view), PGS_OK);
    struct viewer viewer = {.view = view, .bytes = fixture_shadow(&fixture, 1)};
    CHECK_EQ(pthread_create(&thread, NULL, look, &viewer), 0);
    for (int i = 0; i < TIMES; i++) {
        flush(&fixture);
        CHECK_EQ(((volatile unsigned char *)pgs_map_address(map))[PAGE], viewer.bytes[0]);
    }
    atomic_store(&viewer.stop, true);
    pthread_join(thread, NULL);
    const uint64_t page_no = 1;
    CHECK_EQ(pgs_unpin(fixture.store, fixture.object, &page_no, 1), PGS_OK);
    pgs_map_close(map);
    fixture_close(&fixture);
}

/* A device that was given a held page writes to it without a fault, as one does here that has its
 * bytes by another way: a flush in between does not make it clean. */
static void a_flush_is_not_the_last_of_a_held_page(const struct way *way)
{
    struct fixture fixture;
    const uint64_t page_no = 2;
    const void *view;
    unsigned char page[PAGE];
    open_image(&fixture);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    CHECK_EQ(pgs_view(fixture.store, fixture.object, page_no, &view), PGS_OK);
    CHECK_EQ(pgs_map_prefetch(map, page_no, 1, 1, NULL), PGS_OK);
    unsigned char *device = (unsigned char *)(uintptr_t)view;
    device[0] = 1;
    flush(&fixture);
    device[1] = 2;
    CHECK_EQ(pgs_unpin(fixture.store, fixture.object, &page_no, 1), PGS_OK);
    CHECK_EQ(pgs_page_out(fixture.store, fixture.object, &page_no, 1, NULL), PGS_OK);
    flush(&fixture);
    CHECK(pgs_discard(fixture.store, fixture.object, &page_no, 1, NULL) == PGS_OK);
    CHECK_EQ(pgs_read_page(fixture.store, fixture.object, page_no, 0, page), PGS_OK);
    CHECK(page[0] == 1 && page[1] == 2);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static void the_first_that_cannot_be_had_is_named(const struct way *way)
{
    enum { BAD = 11 };
    struct fixture fixture;
    uint64_t page_no = PAGES;
    open_image(&fixture);
    pgs_map *map = map_of(&fixture, fixture.object, way);
    for (uint64_t i = 0; i < PAGES; i++) {
        int error = pgs_discard(fixture.store, fixture.object, &i, 1, NULL);
        CHECK(error == PGS_OK || error == PGS_E_DIRTY);
    }
    atomic_store(&fixture.fake.fault_page, BAD);
    atomic_store(&fixture.fake.fault, FAKE_EIO);
    CHECK_EQ(pgs_map_prefetch(map, 0, BAD, 0, &page_no), PGS_OK);
    CHECK_EQ(page_no, PAGES);
    CHECK_EQ(pgs_map_prefetch(map, 2, PAGES - 2, 0, &page_no), PGS_E_IO);
    CHECK_EQ(page_no, BAD);
    CHECK_EQ(pgs_map_prefetch(map, 2, PAGES - 2, 0, NULL), PGS_E_IO);
    atomic_store(&fixture.fake.fault, FAKE_NONE);
    CHECK_EQ(pgs_map_prefetch(map, 2, PAGES - 2, 0, &page_no), PGS_OK);
    pgs_map_close(map);
    fixture_close(&fixture);
}

/* Another thread may prefetch, and wait for its backing. */
static void who_must_not_wait_does_not(const struct way *way)
{
    struct fixture fixture;
    uint64_t page_no = PAGES;
    uint32_t lock;
    open_image(&fixture);
    pgs_store *store = fixture.store;
    pgs_map *map = map_of(&fixture, fixture.object, way);
    CHECK_EQ(pgs_map_prefetch(map, 3, 2, 0, NULL), PGS_OK);
    CHECK_EQ(pgs_section_begin(store, PGS_SECTION_ATOMIC), PGS_OK);
    CHECK_EQ(pgs_map_prefetch(map, 3, 2, 0, &page_no), PGS_E_ATOMIC);
    CHECK_EQ(page_no, 3);
    CHECK_EQ(pgs_map_detach(map, 3, 2), PGS_E_ATOMIC);
    CHECK_EQ(pgs_section_end(store, PGS_SECTION_ATOMIC), PGS_OK);
    CHECK_EQ(pgs_lock_add(store, 0, &lock), PGS_OK);
    CHECK_EQ(pgs_section_begin(store, PGS_SECTION_PAGER), PGS_OK);
    CHECK_EQ(pgs_lock_taking(store, lock), PGS_OK); /* from now on page-ins take it */
    CHECK_EQ(pgs_lock_dropped(store, lock), PGS_OK);
    CHECK_EQ(pgs_section_end(store, PGS_SECTION_PAGER), PGS_OK);
    CHECK_EQ(pgs_lock_taking(store, lock), PGS_OK);
    CHECK_EQ(pgs_map_prefetch(map, 3, 2, 0, NULL), PGS_E_LOCK_ORDER);
    CHECK_EQ(pgs_map_detach(map, 3, 2), PGS_E_LOCK_ORDER);
    CHECK_EQ(pgs_lock_dropped(store, lock), PGS_OK);
    CHECK_EQ(pgs_map_detach(map, 3, 2), PGS_OK);
    pgs_map_close(map);
    fixture_close(&fixture);
}

static void all_of(const struct way *way)
{
    if (way->writes != PGS_MAP_WRITES_FAULT)
        return;
    a_view_shows_its_page(way);
    a_flush_is_not_the_last_of_a_held_page(way);
    a_held_page_can_be_given_away(way);
    a_shared_page_is_prefetched_to_be_written(way);
    the_first_that_cannot_be_had_is_named(way);
    who_must_not_wait_does_not(way);
}

int main(void)
{
    in_every_way(all_of);
    return 0;
}
