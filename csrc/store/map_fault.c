/* SPDX-License-Identifier: MIT
 *
 * A touch of a page that is not mapped, or is protected.
 *
 * Runs in the handler of SIGBUS of the thread that touched it, or in a map's own
 * thread. The bytes are put together in the worker's room and given to the kernel,
 * which takes a page for them and maps it in one step.
 */
#include <errno.h>
#include <string.h>

#include "store/map_internal.h"

enum { FRAMES_PER_AHEAD = 8, PAGE_SHARED = 2 /* and is to be written */ };

/* A page that this fault brings: claimed, with its frame, its bytes in the room. */
struct arrival {
    struct job job;
    uint32_t frame;
    bool ghost;
    bool protect;
};

struct arrivals {
    struct pgs_map *map;
    uint32_t count;
    uint32_t room; /* pages that the worker's room takes */
    bool down, writes;
    struct arrival each[AROUND_MAX]; /* as they came: the touched one first */
};

struct touch {
    struct pgs_map *map;
    bool writes;
};

static size_t offset_of(const struct job *job)
{
    return (size_t)job->member_page * job->store->page_size;
}

/* Around what maps pages of anonymous memory, so that a fork goes before it or comes
 * after. */
static void begin_mapping(const struct job *job)
{
    if (job->object->family)
        pthread_mutex_lock(&job->object->family->lock);
}

static void end_mapping(const struct job *job)
{
    if (job->object->family)
        pthread_mutex_unlock(&job->object->family->lock);
}

/* Whether the page's next write through a map must be known of: it is shared, or another tier
 * has its bytes. */
static bool write_counts(const struct job *job)
{
    uint64_t word = page_load(job->page);
    return !(word & PAGE_DIRTY) || (word & PAGE_COPY) || page_is_shared(job);
}

/* The page, claimed, is written through a map: its copy is not its bytes any more. */
static void now_written(const struct job *job)
{
    page_drop_copy(job);
    atomic_fetch_or_explicit(&job->page->word, PAGE_DIRTY, memory_order_relaxed);
}

static void now_attached(struct pgs_map *map, const struct job *job)
{
    _Atomic uint64_t *noted = &map->noted[job->member_page / 64];
    _Atomic uint64_t *attached = &map->attached[job->member_page / 64];
    atomic_fetch_or_explicit(noted, map_bit(job->member_page), memory_order_relaxed);
    atomic_fetch_or_explicit(attached, map_bit(job->member_page), memory_order_release);
}

static int error_of(int system_error)
{
    return system_error == 0 ? PGS_OK : system_error == ENOMEM ? PGS_E_NOMEM : PGS_E_IO;
}

/* Gives the kernel bytes for pages that it has none of. */
static int install_bytes(struct pgs_map *map, size_t offset, const void *bytes, size_t size,
                         bool protect)
{
    int error = range_install(&map->range, offset, bytes, size, protect);
    if (error == EEXIST) {
        /* What a guard has put there (map_guard.c) makes way. */
        home_drop(map->range.home, offset, size);
        error = range_install(&map->range, offset, bytes, size, protect);
    }
    return error;
}

/* Maps a page that is at home; where the kernel cannot protect it in the same step it
 * gets its bytes anew. Returns an errno. */
static int map_at_home(struct pgs_map *map, const struct job *job, bool protect)
{
    const struct range *range = &map->range;
    size_t offset = offset_of(job), size = job->store->page_size;
    if (!protect || range->marks_when_attached)
        return range_attach(range, offset, size, protect);
    unsigned char *room = job->worker->room;
    if (!room)
        return ENOMEM;
    memcpy(room, page_bytes(job), size);
    home_drop(range->home, offset, size);
    return install_bytes(map, offset, room, size, true);
}

/* Has the job's page, claimed, hot and at home, mapped. PAGE_SHARED: it must not, as long as it
 * is. */
static int attach(struct pgs_map *map, const struct job *job, bool writes)
{
    const struct range *range = &map->range;
    bool writable = range->writes != RANGE_READ_ONLY;
    map_note_writes(map, job, job->member_page);
    if (!range->marks_when_attached)
        worker_room(job->store, job->worker);
    if (writes && !page_is_shared(job) && write_counts(job)) {
        map_count(&map->write_faults, 1);
        now_written(job);
    }
    begin_mapping(job);
    if (writes && page_is_shared(job)) {
        end_mapping(job);
        return PAGE_SHARED;
    }
    bool protect = writable && write_counts(job);
    int error = map_at_home(map, job, protect);
    /* Mapped, by another thread since; or it is protected, and was written. */
    if (error == EEXIST)
        error = writable && !protect
                    ? range_unprotect(range, offset_of(job), job->store->page_size)
                    : 0;
    if (!error)
        now_attached(map, job);
    end_mapping(job);
    return error_of(error);
}

/* Few frames: what comes ahead would throw out what was just brought. */
static uint32_t most_around(const struct job *job, uint32_t room)
{
    uint32_t most = atomic_load_explicit(&job->store->frame_count, memory_order_relaxed) /
                    FRAMES_PER_AHEAD;
    if (room > AROUND_MAX)
        room = AROUND_MAX;
    return most < 1 ? 1 : most < room ? most : room;
}

/* Where the bytes of a page are put together, so that all are in order of their
 * addresses: pages that go downwards fill the room from its end. */
static unsigned char *room_for(const struct arrivals *arrivals, const struct job *job)
{
    const struct job *first = &arrivals->each[0].job;
    uint32_t slot = arrivals->down ? arrivals->room - 1 - (first->member_page - job->member_page)
                                   : job->member_page - first->member_page;
    return job->worker->room + (size_t)slot * job->store->page_size;
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
    return error;
}

/* Claims the job's page if nobody is waited for, and it can be brought along. */
static bool claim_beside(const struct job *job)
{
    const uint64_t unwanted = PAGE_HOT | PAGE_GONE;
    if ((page_load(job->page) & unwanted) || !page_try_claim(job->page))
        return false;
    if (!(page_load(job->page) & unwanted) && job_is_current(job))
        return true;
    page_publish(job->store, job->page, 0, 0);
    return false;
}

/* One more page, beside those so far. */
static bool fetch_beside(struct arrivals *arrivals)
{
    struct job job = arrivals->each[0].job;
    uint64_t page_no = arrivals->down ? (uint64_t)job.member_page - arrivals->count
                                      : (uint64_t)job.member_page + arrivals->count;
    if (page_no >= arrivals->map->page_count || /* below page 0 as well */
        !job_select(&job, page_no) || !claim_beside(&job))
        return false;
    uint32_t frame;
    bool fetched = (frame_take_free(job.store, &frame) ||
                    evict_one(job.store, job.worker, &frame)) &&
                   fetch(arrivals, &job, frame) == PGS_OK;
    if (!fetched)
        page_publish(job.store, job.page, 0, 0);
    return fetched;
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
    int error = install_bytes(arrivals->map, offset_of(&first->job),
                              room_for(arrivals, &first->job),
                              (size_t)(to - from) * first->job.store->page_size, first->protect);
    for (uint32_t i = from; i < to && !error; i++)
        now_attached(arrivals->map, &arrival_at(arrivals, i)->job);
    return error_of(error);
}

static int install(struct arrivals *arrivals)
{
    int error = PGS_OK;
    for (uint32_t i = 0; i < arrivals->count; i++) {
        struct arrival *arrival = &arrivals->each[i];
        arrival->protect = write_counts(&arrival->job);
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

/* Publishes the pages: hot, or as they were where the kernel took them not. The
 * touched one is its caller's to publish. */
static void settle(struct arrivals *arrivals, int error)
{
    for (uint32_t i = 0; i < arrivals->count; i++) {
        struct arrival *arrival = &arrivals->each[i];
        struct job *job = &arrival->job;
        if (error)
            frame_give(job->store, arrival->frame);
        else
            page_install(job, arrival->frame, arrival->ghost);
        if (i > 0)
            page_publish(job->store, job->page, 0, 0);
    }
}

/* Fetches the page, claimed, and some beside it, into the room. */
static int fetch_all(struct arrivals *arrivals, const struct job *job, uint32_t count)
{
    uint32_t frame;
    arrivals->each[0].job = *job;
    int error = page_may_fault(job);
    if (!error)
        error = frame_take(job->store, job->worker, &frame);
    if (!error)
        error = fetch(arrivals, job, frame);
    while (!error && arrivals->count < count && fetch_beside(arrivals))
        ;
    return error;
}

/* Brings the page, claimed, and some beside it. */
static int bring(struct pgs_map *map, const struct job *job, bool writes)
{
    map_count(&map->faults, 1);
    if (!worker_room(job->store, job->worker)) {
        int error = page_bring_in(job);
        return error ? error : attach(map, job, writes);
    }
    struct arrivals arrivals = {
        .map = map, .room = ROOM_BYTES / job->store->page_size, .writes = writes};
    struct window window =
        ahead_choose(&map->ahead, job->member_page, most_around(job, arrivals.room));
    arrivals.down = window.down;
    int error = fetch_all(&arrivals, job, window.count);
    if (error)
        return error;
    if (writes && !page_is_shared(job))
        now_written(job);
    begin_mapping(job);
    error = install(&arrivals);
    end_mapping(job);
    settle(&arrivals, error);
    window.count = arrivals.count;
    ahead_note(&map->ahead, job->member_page, window);
    map_count(&map->pages_ahead, arrivals.count - 1);
    return error;
}

/* A touch that is served; an action of a call's (store/call.h). */
static int serve(const struct job *job, void *touch)
{
    const struct touch *what = touch;
    int error = page_claim_to_use(job);
    if (error)
        return error;
    uint64_t word = page_load(job->page);
    if (!(word & PAGE_HOT)) {
        error = bring(what->map, job, what->writes);
    } else if (!page_is_home(job) && (word & PAGE_PINS_MASK)) {
        return page_break(job, NULL); /* others have it, who look at it where it is */
    } else {
        map_count(&what->map->attaches, 1);
        page_note_use(job);
        page_go_home(job);
        error = attach(what->map, job, what->writes);
    }
    if (error == PAGE_SHARED)
        return page_break(job, NULL);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

int map_serve(struct pgs_map *map, uint64_t page_no, bool writes)
{
    struct touch touch = {.map = map, .writes = writes};
    struct call call;
    int error = call_begin(&call, map->store, map->member->number, CALL_USES, 0, NULL);
    if (error)
        return error;
    call_note(&call, 0, call_do(&call, page_no, NEEDS_ENTRY, serve, &touch));
    return call_end(&call);
}

int map_fault(void *ctx, size_t offset, bool writes)
{
    struct pgs_map *map = ctx;
    uint64_t page_no = offset / map->store->page_size;
    int error = map_serve(map, page_no, writes);
    return error ? map_fail(map, page_no, error) : PGS_OK;
}
