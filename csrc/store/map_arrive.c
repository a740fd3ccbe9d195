/* SPDX-License-Identifier: MIT
 *
 * Pages that come to be mapped: claimed, fetched into a worker's room, and given to the
 * kernel, which takes pages for them and maps them in one step.
 */
#include <errno.h>

#include "store/map_internal.h"

enum { FRAMES_PER_AHEAD = 8 };

void mapping_begin(const struct job *job)
{
    if (job->object->family)
        pthread_mutex_lock(&job->object->family->lock);
}

void mapping_end(const struct job *job)
{
    if (job->object->family)
        pthread_mutex_unlock(&job->object->family->lock);
}

bool map_write_counts(const struct job *job)
{
    uint64_t word = page_load(job->page);
    return !(word & PAGE_DIRTY) || (word & PAGE_COPY) || page_is_shared(job);
}

void map_now_written(const struct job *job)
{
    page_drop_copy(job);
    atomic_fetch_or_explicit(&job->page->word, PAGE_DIRTY, memory_order_relaxed);
}

void map_now_attached(struct pgs_map *map, const struct job *job)
{
    _Atomic uint64_t *noted = &map->noted[job->member_page / 64];
    _Atomic uint64_t *attached = &map->attached[job->member_page / 64];
    atomic_fetch_or_explicit(noted, map_bit(job->member_page), memory_order_relaxed);
    atomic_fetch_or_explicit(attached, map_bit(job->member_page), memory_order_release);
}

int map_error_of(int system_error)
{
    return system_error == 0 ? PGS_OK : system_error == ENOMEM ? PGS_E_NOMEM : PGS_E_IO;
}

int map_install(struct pgs_map *map, size_t offset, const unsigned char *bytes, size_t size,
                bool protect, size_t *done_ret)
{
    size_t page = map->store->page_size, done = 0, part;
    int error;
    for (bool dropped = false;; dropped = true) {
        error = range_install(&map->range, offset + done, bytes + done, size - done, protect,
                              &part);
        done += part - part % page;
        /* What a guard has put there (map_guard.c) makes way. */
        if (error != EEXIST || (dropped && !part))
            break;
        home_drop(map->range.home, offset + done, page);
    }
    *done_ret = done;
    return error;
}

/* Pages that a worker's room takes. */
static uint32_t room_pages(const pgs_store *store)
{
    uint32_t pages = store->room_bytes / store->page_size;
    return pages < ARRIVALS_MAX ? pages : ARRIVALS_MAX;
}

/* Few frames: what comes ahead would throw out what was just brought. */
uint32_t arrivals_most(const pgs_store *store)
{
    uint32_t most = atomic_load_explicit(&store->frame_count, memory_order_relaxed) /
                    FRAMES_PER_AHEAD;
    uint32_t room = room_pages(store);
    return most < 1 ? 1 : most < room ? most : room;
}

/* Where the bytes of a page are put together, so that all are in order of their
 * addresses: pages that go downwards fill the room from its end. */
static unsigned char *room_for(const struct arrivals *arrivals, const struct job *job)
{
    uint64_t slot = arrivals->down ? arrivals->room - 1 - (arrivals->from - job->member_page)
                                   : job->member_page - arrivals->from;
    return job->worker->room + slot * job->store->page_size;
}

/* Fetches a claimed page, that is to go into this frame. */
static int fetch(struct arrivals *arrivals, const struct job *job, uint32_t frame)
{
    struct arrival *arrival = &arrivals->each[arrivals->count];
    uint64_t word = page_load(job->page), clock = clock_tick(job->store);
    *arrival = (struct arrival){
        .job = *job, .frame = frame, .ghost = page_is_ghost(job->store, word, clock)};
    int error = page_fetch(job, word, room_for(arrivals, job));
    if (error)
        frame_give(job->store, frame);
    else
        arrivals->count++;
    arrivals->failed = error;
    return error;
}

/* Where pages are dear they come one by one: a backing like that reads ahead itself, many at a
 * time, and nobody waits for it who touched another page, or wants one that is fetched already. */
static bool can_come_along(const struct job *job)
{
    uint64_t word = page_load(job->page);
    bool dear = job->object->backing.flags & PGS_BACKING_LEARN_LATE;
    return !(word & (PAGE_HOT | PAGE_GONE)) && (!dear || (word & PAGE_COPY));
}

/* Claims the job's page if nobody is waited for, and it can be brought along. */
static bool claim_beside(const struct job *job)
{
    if (!can_come_along(job) || !page_try_claim(job->page))
        return false;
    if (can_come_along(job) && job_is_current(job))
        return true;
    page_publish(job->store, job->page, 0, 0);
    return false;
}

/* The page after this one is likely to be next. */
static void prefetch_beside(const struct arrivals *arrivals, const struct job *job)
{
    struct job next = *job;
    uint64_t page_no = page_behind(job->member_page, 1, arrivals->down);
    if (page_no < arrivals->map->page_count && job_select(&next, page_no))
        page_prefetch(job->store, next.page);
}

bool arrivals_fetch_beside(struct arrivals *arrivals, const struct job *like)
{
    struct job job = *like;
    uint64_t page_no = page_behind(arrivals->from, arrivals->count, arrivals->down);
    if (page_no >= arrivals->map->page_count || /* below page 0 as well */
        !job_select(&job, page_no) || !claim_beside(&job))
        return false;
    prefetch_beside(arrivals, &job);
    uint32_t frame;
    bool fetched = (frame_take_free(job.store, &frame) ||
                    evict_one(job.store, job.worker, &frame)) &&
                   fetch(arrivals, &job, frame) == PGS_OK;
    if (!fetched)
        page_publish(job.store, job.page, 0, 0);
    return fetched;
}

void arrivals_fetch_ahead(struct arrivals *arrivals, const struct job *like, uint32_t count)
{
    while (count > 0 && arrivals->from < arrivals->map->page_count && !arrivals->failed &&
           !arrivals_fetch_beside(arrivals, like)) {
        arrivals->from = page_behind(arrivals->from, 1, arrivals->down);
        count--;
    }
    while (arrivals->count > 0 && arrivals->count < count && arrivals_fetch_beside(arrivals, like))
        ;
}

/* In order of their addresses. */
static struct arrival *arrival_at(struct arrivals *arrivals, uint32_t i)
{
    return &arrivals->each[arrivals->down ? arrivals->count - 1 - i : i];
}

/* Gives the kernel a run of pages that are protected alike. */
static int install_run(struct arrivals *arrivals, uint32_t from, uint32_t to)
{
    struct arrival *first = arrival_at(arrivals, from);
    for (uint32_t i = from; i < to; i++)
        frame_place(&arrival_at(arrivals, i)->job, arrival_at(arrivals, i)->frame);
    size_t page = first->job.store->page_size, done;
    int error = map_install(arrivals->map, map_offset_of(&first->job),
                            room_for(arrivals, &first->job), (to - from) * page, first->protect,
                            &done);
    for (uint32_t i = from; i < from + done / page; i++) {
        arrival_at(arrivals, i)->installed = true;
        map_now_attached(arrivals->map, &arrival_at(arrivals, i)->job);
    }
    return map_error_of(error);
}

static int install(struct arrivals *arrivals, bool writes)
{
    int error = PGS_OK;
    for (uint32_t i = 0; i < arrivals->count; i++) {
        struct arrival *arrival = &arrivals->each[i];
        bool written = writes && i == 0 && !page_is_shared(&arrival->job);
        arrival->protect = !written && map_write_counts(&arrival->job);
    }
    for (uint32_t from = 0, to; from < arrivals->count && !error; from = to) {
        bool protect = arrival_at(arrivals, from)->protect;
        for (to = from + 1; to < arrivals->count; to++)
            if (arrival_at(arrivals, to)->protect != protect)
                break;
        error = install_run(arrivals, from, to);
    }
    return error;
}

int arrivals_settle(struct arrivals *arrivals, uint64_t touched, bool writes)
{
    const struct arrival *first = &arrivals->each[0];
    mapping_begin(&first->job);
    int error = install(arrivals, writes);
    mapping_end(&first->job);
    if (first->installed && !first->protect && writes)
        map_now_written(&first->job);
    for (uint32_t i = 0; i < arrivals->count; i++) {
        struct arrival *arrival = &arrivals->each[i];
        struct job *job = &arrival->job;
        /* What is mapped may have been written by now. */
        if (arrival->installed)
            page_install(job, arrival->frame, arrival->ghost);
        else
            frame_give(job->store, arrival->frame);
        if (job->member_page != touched)
            page_publish(job->store, job->page, 0, 0);
    }
    return first->installed ? PGS_OK : error;
}

void arrivals_begin(struct arrivals *arrivals, struct pgs_map *map, uint64_t from, bool down)
{
    arrivals->map = map;
    arrivals->from = from;
    arrivals->room = room_pages(map->store);
    arrivals->down = down;
    arrivals->count = 0;
    arrivals->failed = false;
}

int arrivals_fetch(struct arrivals *arrivals, const struct job *job)
{
    uint32_t frame;
    int error = page_may_fault(job);
    if (!error)
        error = frame_take(job->store, job->worker, &frame);
    return error ? error : fetch(arrivals, job, frame);
}

