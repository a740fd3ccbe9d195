/* SPDX-License-Identifier: MIT
 *
 * Touches that cannot be served. Under a guard the page reads as zeros for the time
 * being, so that the touch comes to its end, and the guard's tells; without one it is
 * said, and the SIGBUS goes to whoever had that signal before.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/map_internal.h"

static void say(const struct pgs_map *map, uint64_t page_no, int error)
{
    char line[160];
    int size = snprintf(line, sizeof line,
                        "pagestep: SIGBUS: page %llu of object %u cannot be brought in: %s\n",
                        (unsigned long long)page_no, map->member->number, pgs_error_text(error));
    if (write(STDERR_FILENO, line, (size_t)size) < 0)
        return; /* there is nobody to tell */
}

static int install_zeros(struct pgs_map *map, uint64_t page_no)
{
    size_t size = map->store->page_size;
    int error = range_install(&map->range, page_no * size, map->zeros, size, false);
    if (!error)
        atomic_fetch_or(&map->attached[page_no / 64], map_bit(page_no));
    return error;
}

/* The page is there, but cannot be written: it goes, to where no map shows it. Or it reads as
 * zeros already, and only its mapping was taken away. */
static int make_way(const struct job *job, void *ctx)
{
    const struct pgs_map *map = ctx;
    size_t size = map->store->page_size;
    if (!job->page) { /* nobody has ever had it */
        home_drop(map->range.home, (size_t)job->member_page * size, size);
        return map_error_of(install_zeros(ctx, job->member_page));
    }
    int error = page_claim_to_use(job);
    if (error)
        return error;
    uint64_t word = page_load(job->page);
    if ((word & PAGE_HOT) && page_is_home(job)) {
        if (word & PAGE_PINS_MASK)
            error = PGS_E_PINNED;
        else
            page_leave_home(job);
    } else {
        home_drop(map->range.home, (size_t)job->member_page * size, size);
    }
    if (!error)
        error = map_error_of(install_zeros(ctx, job->member_page));
    page_publish(job->store, job->page, 0, 0);
    return error;
}

/* False: the page cannot be made to read as zeros. */
static bool make_void(struct pgs_map *map, uint64_t page_no)
{
    struct call call;
    int error = install_zeros(map, page_no);
    if (error == EEXIST) {
        error = call_begin(&call, map->store, map->member->number, CALL_USES, 0, NULL);
        if (!error) {
            call_note(&call, 0, call_do(&call, page_no, LOOKS, make_way, map));
            error = call_end(&call);
        }
    }
    range_wake(&map->range, page_no * map->store->page_size, map->store->page_size);
    return !error;
}

/* What reads as zeros for the time being faults again. If the page has come meanwhile it is
 * mapped again as it should be. */
static int drop_void(const struct job *job, void *ctx)
{
    struct pgs_map *map = ctx;
    size_t size = job->store->page_size, offset = (size_t)job->member_page * size;
    int error = page_claim_to_use(job);
    if (error)
        return error;
    atomic_fetch_and(&map->attached[job->member_page / 64], ~map_bit(job->member_page));
    if ((page_load(job->page) & PAGE_HOT) && page_is_home(job))
        range_detach(&map->range, offset, size);
    else
        home_drop(map->range.home, offset, size);
    page_publish(job->store, job->page, 0, 0);
    return PGS_OK;
}

/* In a child process the bytes are the parent's, which may have dropped the voids since. */
static void drop_these(struct pgs_map *map, const uint64_t *page_nos, uint32_t count)
{
    struct call call;
    size_t size = map->store->page_size;
    if (section_may_be(map->store) == PGS_E_FORKED)
        return;
    bool begun = call_begin(&call, map->store, map->member->number, CALL_USES, 0, NULL) == PGS_OK;
    for (uint32_t i = 0; i < count; i++)
        /* A page that cannot be had is nobody's business either. */
        if (!begun || call_do(&call, page_nos[i], NEEDS_ENTRY, drop_void, map))
            home_drop(map->range.home, page_nos[i] * size, size);
    if (begun)
        call_end(&call);
}

static void drop_voids(struct pgs_map *map)
{
    struct map_failures *failures = &map->failures;
    uint64_t voids[VOIDS_MAX];
    pthread_mutex_lock(&failures->lock);
    uint32_t count = failures->void_count;
    memcpy(voids, failures->voids, count * sizeof *voids);
    failures->void_count = 0;
    pthread_mutex_unlock(&failures->lock);
    if (count)
        drop_these(map, voids, count);
}

/* They take RAM that nobody has charged, so they are few: the oldest makes way, and fails
 * again when it is touched again. Called with the lock, which is let go meanwhile. */
static void make_room_for_void(struct pgs_map *map)
{
    struct map_failures *failures = &map->failures;
    while (failures->void_count == VOIDS_MAX) {
        uint64_t oldest = failures->voids[0];
        failures->void_count--;
        memmove(failures->voids, failures->voids + 1,
                failures->void_count * sizeof *failures->voids);
        pthread_mutex_unlock(&failures->lock);
        drop_these(map, &oldest, 1);
        pthread_mutex_lock(&failures->lock);
    }
}

int map_fail(struct pgs_map *map, uint64_t page_no, int error)
{
    struct map_failures *failures = &map->failures;
    pthread_mutex_lock(&failures->lock);
    if (failures->guards == 0 || !failures->error) {
        failures->page_no = page_no;
        failures->error = error;
    }
    failures->count++;
    if (failures->guards > 0)
        make_room_for_void(map);
    bool guarded = failures->guards > 0;
    if (guarded)
        failures->voids[failures->void_count++] = page_no;
    pthread_mutex_unlock(&failures->lock);
    if (guarded && make_void(map, page_no))
        return PGS_OK;
    say(map, page_no, error);
    return error;
}

uint64_t pgs_map_guard_begin(pgs_map *map)
{
    drop_voids(map);
    pthread_mutex_lock(&map->failures.lock);
    if (map->failures.guards++ == 0)
        map->failures.error = PGS_OK;
    uint64_t count = map->failures.count;
    pthread_mutex_unlock(&map->failures.lock);
    return count;
}

int pgs_map_guard_end(pgs_map *map, uint64_t begun, uint64_t *page_no_ret)
{
    struct map_failures *failures = &map->failures;
    pthread_mutex_lock(&failures->lock);
    bool last = --failures->guards == 0;
    int error = failures->count > begun ? failures->error : PGS_OK;
    *page_no_ret = failures->page_no;
    pthread_mutex_unlock(&failures->lock);
    if (last)
        drop_voids(map);
    return error;
}
