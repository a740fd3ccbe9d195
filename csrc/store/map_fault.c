/* SPDX-License-Identifier: MIT
 *
 * A touch of a page that is not mapped, or is protected. It is served in the handler of SIGBUS
 * of the thread that touched it, or in the range's own thread.
 */
#include <errno.h>
#include <string.h>

#include "store/map_internal.h"

struct touch {
    struct pgs_map *map;
    bool writes;
};

/* Maps a page that is at home; where the kernel cannot protect it in the same step it
 * gets its bytes anew. Returns an errno. */
static int map_at_home(struct pgs_map *map, const struct job *job, bool protect)
{
    const struct range *range = &map->range;
    size_t offset = map_offset_of(job), size = job->store->page_size, done;
    if (!protect || range->marks_when_attached)
        return range_attach(range, offset, size, protect);
    pthread_mutex_lock(&map->spare_lock);
    memcpy(map->spare, page_bytes(job), size);
    home_drop(range->home, offset, size);
    int error = map_install(map, offset, map->spare, size, true, &done);
    if (error)
        memcpy(page_bytes(job), map->spare, size);
    pthread_mutex_unlock(&map->spare_lock);
    return error;
}

/* Has the job's page, claimed, hot and at home, mapped. PAGE_SHARED: it must not, as long as it
 * is. */
static int attach(struct pgs_map *map, const struct job *job, bool writes)
{
    const struct range *range = &map->range;
    bool writable = range->writes != RANGE_READ_ONLY;
    map_note_writes(map, job, job->member_page);
    if (writes && !page_is_shared(job) && map_write_counts(job)) {
        map_count(&map->write_faults, 1);
        map_now_written(job);
    }
    mapping_begin(job);
    if (writes && page_is_shared(job)) {
        mapping_end(job);
        return PAGE_SHARED;
    }
    bool protect = writable && map_write_counts(job);
    if (protect && !range->marks_when_attached && (page_load(job->page) & PAGE_PINS_MASK)) {
        /* Others look at it where it is, so it cannot get its bytes anew. */
        if (page_is_shared(job)) {
            mapping_end(job);
            return PAGE_SHARED;
        }
        map_now_written(job);
        protect = false;
    }
    int error = map_at_home(map, job, protect);
    /* Mapped, by another thread since; or it is protected, and was written. */
    if (error == EEXIST)
        error = writable && !protect
                    ? range_unprotect(range, map_offset_of(job), job->store->page_size)
                    : 0;
    if (!error)
        map_now_attached(map, job);
    mapping_end(job);
    return map_error_of(error);
}

static bool is_attached(struct pgs_map *map, uint64_t page_no)
{
    return page_no < map->page_count &&
           (atomic_load(&map->attached[page_no / 64]) & map_bit(page_no));
}

static struct plan plan_for(struct pgs_map *map, uint64_t page_no, uint32_t reader_brings)
{
    struct touched touched = {.page_no = page_no, .have = reader_brings,
                              .most = arrivals_most(map->store),
                              .below = is_attached(map, page_no - 1),
                              .above = is_attached(map, page_no + 1)};
    return ahead_plan(&map->ahead, &touched);
}

/* Brings the touched page, claimed, and some beside it. */
static int bring(struct pgs_map *map, const struct job *job, bool writes)
{
    if (writes && page_is_shared(job))
        return PAGE_SHARED;
    map_count(&map->faults, 1);
    if (!worker_room(job->store, job->worker)) {
        int error = page_bring_in(job);
        return error ? error : attach(map, job, writes);
    }
    uint64_t page_no = job->member_page;
    struct plan plan = plan_for(map, page_no, 0);
    reader_ask(&map->reader, plan.wanted);
    struct arrivals arrivals;
    arrivals_begin(&arrivals, map, page_no, plan.down);
    int error = arrivals_fetch(&arrivals, job);
    if (error)
        return error;
    while (arrivals.count < plan.count && arrivals_fetch_beside(&arrivals, job))
        ;
    map_count(&map->pages_ahead, arrivals.count - 1);
    if (plan.wanted)
        turn_begin(&map->reader);
    error = arrivals_settle(&arrivals, page_no, writes);
    if (plan.wanted)
        turn_end(&map->reader);
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
    page_prefetch(job->store, job->page);
    if (!(word & PAGE_HOT)) {
        error = bring(what->map, job, what->writes);
    } else if (!page_is_home(job) && (word & PAGE_PINS_MASK)) {
        /* Others have it, who look at it where it is. */
        error = page_is_shared(job) ? PAGE_SHARED : PGS_E_PINNED;
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

/* A touch of a page that the reader brings just now. True: it is served. */
static bool come_behind(struct pgs_map *map, uint64_t page_no, bool writes)
{
    /* Who has promised something here does what the touch needs, and no more. */
    if (section_may_be(map->store) || section_promises(section_find(map->store)))
        return false;
    uint32_t brings = reader_brings(&map->reader, page_no);
    if (!brings)
        return false;
    struct plan plan = plan_for(map, page_no, brings);
    reader_ask(&map->reader, plan.wanted);
    reader_help(map, page_no);
    if (writes || !is_attached(map, page_no))
        return false;
    map_count(&map->faults, 1);
    return true;
}

int map_fault(void *ctx, size_t offset, bool writes)
{
    struct pgs_map *map = ctx;
    uint64_t page_no = offset / map->store->page_size;
    if (come_behind(map, page_no, writes))
        return PGS_OK;
    int error = map_serve(map, page_no, writes);
    return error ? map_fail(map, page_no, writes, error) : PGS_OK;
}
