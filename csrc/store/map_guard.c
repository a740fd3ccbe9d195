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

enum { REPEATS_MAX = 8 };

static void say(const struct pgs_map *map, uint64_t page_no, int error)
{
    char line[160];
    int size = snprintf(line, sizeof line,
                        "pagestep: SIGBUS: page %llu of object %u cannot be brought in: %s\n",
                        (unsigned long long)page_no, map->member->number, pgs_error_text(error));
    if (write(STDERR_FILENO, line, (size_t)size) < 0)
        return; /* there is nobody to tell */
}

/* EEXIST: the page has come meanwhile. */
static int install_zeros(struct pgs_map *map, uint64_t page_no)
{
    size_t size = map->store->page_size, done;
    int error = range_install(&map->range, page_no * size, map->zeros, size, false, &done);
    if (!error)
        atomic_fetch_or(&map->attached[page_no / 64], map_bit(page_no));
    return error == EEXIST ? PGS_OK : map_error_of(error);
}

struct failed_touch {
    struct pgs_map *map;
    bool writes;
    bool again; /* it was tried several times: the page is there, and cannot be touched */
};

/* Where it is in the list; void_count: nowhere. */
static uint32_t find_void(const struct map_failures *failures, uint64_t page_no)
{
    uint32_t i = 0;
    while (i < failures->void_count && failures->voids[i] != page_no)
        i++;
    return i;
}

static void forget_void(struct map_failures *failures, uint64_t page_no)
{
    pthread_mutex_lock(&failures->lock);
    uint32_t i = find_void(failures, page_no);
    if (i < failures->void_count) {
        failures->void_count--;
        memmove(failures->voids + i, failures->voids + i + 1,
                (failures->void_count - i) * sizeof *failures->voids);
    }
    pthread_mutex_unlock(&failures->lock);
}

/* Has the page, claimed, or for good without an entry, read as zeros as long as a guard is open.
 * Who ends the last one has the void in its list, and waits for the claim. */
static int show_zeros(struct pgs_map *map, uint64_t page_no)
{
    struct map_failures *failures = &map->failures;
    pthread_mutex_lock(&failures->lock);
    bool known = find_void(failures, page_no) < failures->void_count;
    int error = PGS_OK;
    if (failures->guards == 0)
        error = PGS_E_INVALID;
    else if (!known && failures->void_count == VOIDS_MAX)
        error = PGS_E_FULL;
    else
        error = install_zeros(map, page_no);
    if (!error && !known)
        failures->voids[failures->void_count++] = page_no;
    pthread_mutex_unlock(&failures->lock);
    return error;
}

/* The page, claimed: where it can be touched by now it is to be; a write that cannot be had has the
 * page leave for where no map shows it. */
static int make_way(const struct job *job, const struct failed_touch *touch)
{
    struct pgs_map *map = touch->map;
    uint64_t word = page_load(job->page);
    size_t size = job->store->page_size;
    bool home = (word & PAGE_HOT) && page_is_home(job);
    if (home && !touch->again && (!touch->writes || !page_is_shared(job)))
        return PGS_OK;
    if (home && (word & PAGE_PINS_MASK))
        return PGS_E_PINNED;
    if (home)
        page_leave_home(job);
    else
        home_drop(map->range.home, (size_t)job->member_page * size, size); /* a void from before */
    return show_zeros(map, job->member_page);
}

/* Shows a page that nobody has ever had, and so has no entry to be claimed, as zeros, or no more.
 * It cannot get one meanwhile. */
static int show_nothing(const struct job *job, struct pgs_map *map, bool zeros)
{
    struct job now = *job;
    size_t size = job->store->page_size;
    int error = PAGE_MOVED;
    mapping_begin(job);
    if (!job_select(&now, job->member_page)) {
        error = PGS_OK;
        if (zeros) {
            error = show_zeros(map, job->member_page);
        } else {
            forget_void(&map->failures, job->member_page);
            atomic_fetch_and(&map->attached[job->member_page / 64], ~map_bit(job->member_page));
            home_drop(map->range.home, (size_t)job->member_page * size, size);
        }
    }
    mapping_end(job);
    return error;
}

static int make_void_page(const struct job *job, void *ctx)
{
    const struct failed_touch *touch = ctx;
    if (!job->page)
        return show_nothing(job, touch->map, true);
    /* In an atomic section as well: the touch that is promised has failed. */
    int error = job_claim(job);
    if (error)
        return error;
    error = make_way(job, touch);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

/* Has the touch come to its end, or be tried again. PGS_E_FULL: too many pages read as zeros. */
static int make_void(struct pgs_map *map, uint64_t page_no, bool writes, bool again)
{
    struct failed_touch touch = {.map = map, .writes = writes, .again = again};
    struct call call;
    int error = call_begin(&call, map->store, map->member->number, CALL_TENDS, 0, NULL);
    if (!error) {
        call_note(&call, 0, call_do(&call, page_no, LOOKS, make_void_page, &touch));
        error = call_end(&call);
    }
    if (!error)
        range_wake(&map->range, page_no * map->store->page_size, map->store->page_size);
    return error;
}

/* What reads as zeros for the time being faults again. If the page has come meanwhile it is
 * mapped again as it should be. */
static int drop_void(const struct job *job, void *ctx)
{
    struct pgs_map *map = ctx;
    size_t size = job->store->page_size, offset = (size_t)job->member_page * size;
    if (!job->page)
        return show_nothing(job, map, false);
    int error = page_claim_to_use(job);
    if (error)
        return error;
    forget_void(&map->failures, job->member_page);
    atomic_fetch_and(&map->attached[job->member_page / 64], ~map_bit(job->member_page));
    if ((page_load(job->page) & PAGE_HOT) && page_is_home(job))
        range_detach(&map->range, offset, size);
    else
        home_drop(map->range.home, offset, size);
    page_publish(job->store, job->page, 0, 0);
    return PGS_OK;
}

/* A page that cannot be had, or claimed, just now stays as it is until the next guard. In a
 * child process the bytes are the parent's, which may have dropped the voids since. */
static void drop_these(struct pgs_map *map, const uint64_t *page_nos, uint32_t count)
{
    struct call call;
    if (!count || section_may_be(map->store) == PGS_E_FORKED ||
        call_begin(&call, map->store, map->member->number, CALL_TENDS, 0, NULL))
        return;
    for (uint32_t i = 0; i < count; i++)
        call_do(&call, page_nos[i], LOOKS, drop_void, map);
    call_end(&call);
}

static void drop_voids(struct pgs_map *map)
{
    struct map_failures *failures = &map->failures;
    uint64_t voids[VOIDS_MAX];
    pthread_mutex_lock(&failures->lock);
    uint32_t count = failures->void_count;
    memcpy(voids, failures->voids, count * sizeof *voids);
    pthread_mutex_unlock(&failures->lock);
    drop_these(map, voids, count);
}

/* They take RAM that nobody has charged, so they are few: the oldest makes way, and fails
 * again when it is touched again. Where it cannot just now, the next oldest is next. */
static void drop_oldest(struct pgs_map *map)
{
    struct map_failures *failures = &map->failures;
    uint64_t *voids = failures->voids, oldest = NO_PAGE;
    pthread_mutex_lock(&failures->lock);
    uint32_t count = failures->void_count == VOIDS_MAX;
    if (count) {
        oldest = voids[0];
        memmove(voids, voids + 1, (VOIDS_MAX - 1) * sizeof *voids);
        voids[VOIDS_MAX - 1] = oldest;
    }
    pthread_mutex_unlock(&failures->lock);
    drop_these(map, &oldest, count);
}

/* How often the page failed in a row, of those that share its place. */
static unsigned note_repeat(struct map_failures *failures, uint64_t page_no)
{
    struct repeat *repeat = &failures->repeats[page_no % REPEATS];
    repeat->count = repeat->page_no == page_no ? repeat->count + 1 : 0;
    repeat->page_no = page_no;
    return repeat->count;
}

int map_fail(struct pgs_map *map, uint64_t page_no, bool writes, int error)
{
    struct map_failures *failures = &map->failures;
    pthread_mutex_lock(&failures->lock);
    if (failures->guards == 0 || !failures->error) {
        failures->page_no = page_no;
        failures->error = error;
    }
    failures->count++;
    bool again = note_repeat(failures, page_no) > REPEATS_MAX;
    bool guarded = failures->guards > 0;
    pthread_mutex_unlock(&failures->lock);
    int failed = guarded ? make_void(map, page_no, writes, again) : error;
    /* Others may take the room that is made. */
    for (unsigned tries = 0; failed == PGS_E_FULL && tries < VOIDS_MAX; tries++) {
        drop_oldest(map);
        failed = make_void(map, page_no, writes, again);
    }
    if (failed)
        say(map, page_no, error);
    return failed ? error : PGS_OK;
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
