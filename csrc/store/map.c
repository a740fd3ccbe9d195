/* SPDX-License-Identifier: MIT
 *
 * Maps are opened and closed under the object lock.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/map_internal.h"

void pgs_map_probe(struct pgs_map_support *support_ret)
{
    struct range_abilities has;
    range_probe(&has);
    *support_ret = (struct pgs_map_support){
        .system_error = has.error,
        .by_sigbus = has.by_sigbus,
        .by_sigbus_for_writes = has.by_sigbus_for_writes,
        .by_thread = has.by_thread,
        .in_system_calls = has.by_thread_in_system_calls,
        .notes_writes = has.notes_writes,
        .missing = has.missing,
    };
}

/* What is asked for, as far as this process can have it. */
static int choose(const struct pgs_map_params *params, bool forks, enum range_service *service,
                  enum range_writes *writes)
{
    struct range_abilities has;
    range_probe(&has);
    bool read_only = params->writes == PGS_MAP_READ_ONLY;
    bool by_sigbus = read_only ? has.by_sigbus : has.by_sigbus_for_writes;
    *service = params->service == PGS_MAP_THREAD || !by_sigbus ? RANGE_THREAD : RANGE_SIGBUS;
    if (has.error || has.missing || !has.by_thread ||
        (params->service == PGS_MAP_SIGBUS && !by_sigbus))
        return PGS_E_NO_FAULTS;
    /* A fork must have the next write of a page that is shared then to be a fault. */
    bool noted = has.notes_writes && !forks;
    if (params->writes == PGS_MAP_WRITES_NOTED && !noted)
        return PGS_E_NO_FAULTS;
    if (read_only)
        *writes = RANGE_READ_ONLY;
    else
        *writes = params->writes == PGS_MAP_WRITES_FAULT || !noted ? RANGE_WRITES_FAULT
                                                                   : RANGE_WRITES_NOTED;
    return PGS_OK;
}

static int check(const pgs_store *store, const struct pgs_map_params *params)
{
    if (params->struct_size != sizeof *params || params->service > PGS_MAP_THREAD ||
        params->writes > PGS_MAP_WRITES_NOTED || params->around > START_MAX ||
        store->page_size % (uint64_t)sysconf(_SC_PAGESIZE))
        return PGS_E_INVALID;
    return PGS_OK;
}

/* Claims each page of a member's, which is mapped as long as it is not opened for good: none may
 * be pinned. `leaves`: those that are in its home go to the arena. */
static int check_pages(pgs_store *store, struct member *member, bool leaves)
{
    struct job job = job_of(store, member);
    uint64_t pages = member_pages(member);
    int error = PGS_OK;
    for (uint64_t i = member_next(member, 0, pages); i < pages && !error;
         i = member_next(member, i + 1, pages)) {
        if (!job_select(&job, i))
            continue;
        page_claim(store, job.page);
        if (job_is_current(&job) && page_is_pinned_here(&job))
            error = PGS_E_PINNED;
        else if (leaves && (page_load(job.page) & PAGE_HOT) && page_is_home(&job))
            page_leave_home(&job);
        page_publish(store, job.page, 0, 0);
    }
    return error;
}

/* The member's home: as it was, if that is as large as the member still. */
static int provide_home(pgs_store *store, struct member *member)
{
    size_t size = (size_t)member_pages(member) * store->page_size;
    struct home *home = member->home;
    if (home && home->size == size)
        return PGS_OK;
    if (home) {
        int error = check_pages(store, member, true);
        if (error)
            return error;
        atomic_store_explicit(&member->home, NULL, memory_order_release);
        home_free(home);
    }
    if (home_open(size, &home))
        return PGS_E_NOMEM;
    if (!atomic_load(&store->has_homes)) {
        store->forks = home_forks();
        atomic_store(&store->has_homes, true);
    }
    atomic_store_explicit(&member->home, home, memory_order_release);
    return PGS_OK;
}

static uint64_t cost_of(const pgs_store *store, const struct member *member)
{
    return sizeof(struct pgs_map) + 2 * bitmap_words(member_pages(member)) * sizeof(uint64_t) +
           2 * (uint64_t)store->page_size + sizeof(struct home);
}

static void map_free(struct pgs_map *map)
{
    free((void *)map->attached);
    free((void *)map->noted);
    free(map->zeros);
    free(map->spare);
    pthread_mutex_destroy(&map->spare_lock);
    pthread_mutex_destroy(&map->failures.lock);
    pthread_mutex_destroy(&map->detach_lock);
    ahead_deinit(&map->ahead);
    free(map);
}

static struct pgs_map *map_new(pgs_store *store, struct member *member, uint32_t around)
{
    struct pgs_map *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    uint64_t words = bitmap_words(member_pages(member));
    map->store = store;
    map->member = member;
    map->page_count = member_pages(member);
    map->attached = calloc(words, sizeof *map->attached);
    map->noted = calloc(words, sizeof *map->noted);
    map->zeros = calloc(1, store->page_size);
    map->spare = calloc(1, store->page_size);
    pthread_mutex_init(&map->spare_lock, NULL);
    pthread_mutex_init(&map->failures.lock, NULL);
    pthread_mutex_init(&map->detach_lock, NULL);
    ahead_init(&map->ahead, around ? around : AROUND_DEFAULT);
    if (map->attached && map->noted && map->zeros && map->spare)
        return map;
    map_free(map);
    return NULL;
}

static int open_range(struct pgs_map *map, const struct pgs_map_params *params)
{
    struct range_owner owner = {.ctx = map, .fault = map_fault};
    enum range_service service;
    enum range_writes writes;
    int error = choose(params, map->member->object->family, &service, &writes);
    if (!error)
        error = provide_home(map->store, map->member);
    if (!error && range_open(&map->range, map->member->home, service, writes, &owner))
        error = PGS_E_NO_FAULTS;
    if (error)
        return error;
    error = reader_start(map);
    if (error)
        range_close(&map->range);
    return error;
}

/* What was written is known, and nobody looks at the map any more: whoever had found it has
 * claimed a page for that long. (Who claims one looks for the map afterwards: no processor has
 * that load pass the claim, an atomic exchange: x86 locks it, ARMv8 has it release, and the load
 * acquire.) */
static void settle_all(struct pgs_map *map)
{
    struct job job = job_of(map->store, map->member);
    struct member *member = map->member;
    uint64_t pages = map->page_count;
    atomic_thread_fence(memory_order_seq_cst);
    for (uint64_t i = member_next(member, 0, pages); i < pages;
         i = member_next(member, i + 1, pages)) {
        if (!job_select(&job, i) || !(page_load(job.page) & (PAGE_HOT | PAGE_BUSY)))
            continue;
        page_claim(map->store, job.page);
        if (job_is_current(&job) && (page_load(job.page) & PAGE_HOT) && page_is_home(&job))
            map_settle_in(map, &job, (uint32_t)i);
        page_publish(map->store, job.page, 0, 0);
    }
}

/* The member has no map any more. */
static void take_away(struct pgs_map *map)
{
    reader_end(&map->reader);
    atomic_store(&map->member->map, NULL);
    settle_all(map);
    range_close(&map->range);
}

/* Pins go home from now on; one that came before is where the range does not show it. */
static int publish_map(struct pgs_map *map)
{
    atomic_store(&map->member->map, map);
    int error = check_pages(map->store, map->member, false);
    if (!error)
        return PGS_OK;
    take_away(map);
    return error;
}

static int open_map(pgs_store *store, struct worker *worker, struct member *member,
                    const struct pgs_map_params *params, pgs_map **map_ret)
{
    int error = member->map ? PGS_E_MAPPED : check_pages(store, member, false);
    if (!error)
        error = metadata_charge(store, worker, cost_of(store, member));
    if (error)
        return error;
    struct pgs_map *map = map_new(store, member, params->around);
    error = map ? open_range(map, params) : PGS_E_NOMEM;
    if (!error)
        error = publish_map(map);
    if (error) {
        if (map)
            map_free(map);
        metadata_uncharge(store, cost_of(store, member));
        return error;
    }
    pthread_mutex_lock(&store->maps.lock);
    map->next = store->maps.first;
    store->maps.first = map;
    pthread_mutex_unlock(&store->maps.lock);
    *map_ret = map;
    return PGS_OK;
}

int pgs_map_open(pgs_store *store, uint32_t object, const struct pgs_map_params *params,
                 pgs_map **map_ret)
{
    *map_ret = NULL;
    struct worker *worker;
    int error = check(store, params);
    if (!error)
        error = change_begin(store, &worker);
    if (error)
        return error;
    struct member *member = member_of(store, object);
    error = member ? open_map(store, worker, member, params, map_ret) : PGS_E_RANGE;
    change_end(store, worker);
    return error;
}

static void unlink_map(struct pgs_map *map)
{
    struct map_list *maps = &map->store->maps;
    pthread_mutex_lock(&maps->lock);
    if (maps->first == map) {
        maps->first = map->next;
    } else {
        struct pgs_map *before = maps->first;
        while (before->next != map)
            before = before->next;
        before->next = map->next;
    }
    maps->hand = NULL;
    pthread_mutex_unlock(&maps->lock);
}

static void close_map(struct pgs_map *map)
{
    pgs_store *store = map->store;
    uint64_t bytes = cost_of(store, map->member);
    unlink_map(map);
    take_away(map);
    map_free(map);
    metadata_uncharge(store, bytes);
}

void pgs_map_close(pgs_map *map)
{
    if (!map)
        return;
    /* In a child process the pages are the parent's, and so are locks that may be held there for
     * ever: only what the process has of its own goes. */
    if (!home_is_here(map->range.forks)) {
        range_close(&map->range);
        return;
    }
    pgs_store *store = map->store;
    pthread_mutex_lock(&store->object_lock);
    close_map(map);
    pthread_mutex_unlock(&store->object_lock);
}

void maps_close(pgs_store *store)
{
    while (store->maps.first && home_is_here(store->maps.first->range.forks))
        close_map(store->maps.first);
    /* In a child process a map keeps its memory: who has it may close it yet. */
    for (struct pgs_map *map = store->maps.first; map; map = map->next)
        range_close(&map->range);
}

void *pgs_map_address(const pgs_map *map)
{
    return map->range.base;
}

/* Frames of the object's pages: each once, although two mappings may show it. */
static uint64_t resident_bytes(struct pgs_map *map)
{
    struct job job = job_of(map->store, map->member);
    uint64_t bytes = 0;
    for (uint64_t i = member_next(map->member, 0, map->page_count); i < map->page_count;
         i = member_next(map->member, i + 1, map->page_count))
        if (job_select(&job, i) && (page_load(job.page) & PAGE_HOT))
            bytes += map->store->page_size;
    return bytes;
}

void pgs_map_stats(pgs_map *map, struct pgs_map_stats *stats_ret)
{
    const struct range *range = &map->range;
    *stats_ret = (struct pgs_map_stats){
        .service = range->service == RANGE_SIGBUS ? PGS_MAP_SIGBUS : PGS_MAP_THREAD,
        .writes = range->writes == RANGE_READ_ONLY      ? PGS_MAP_READ_ONLY
                  : range->writes == RANGE_WRITES_FAULT ? PGS_MAP_WRITES_FAULT
                                                        : PGS_MAP_WRITES_NOTED,
        .in_system_calls = range->system_calls,
        .faults = map->faults,
        .attaches = map->attaches,
        .write_faults = map->write_faults,
        .pages_ahead = map->pages_ahead,
        .detaches = map->detaches,
        .ranges_dropped = map->ranges_dropped,
        .resident_bytes = resident_bytes(map),
    };
    if (!home_is_here(range->forks))
        return;
    stats_ret->around = ahead_start(&map->ahead);
    pthread_mutex_lock(&map->failures.lock);
    stats_ret->failures = map->failures.count;
    pthread_mutex_unlock(&map->failures.lock);
}

static int prefetch_page(struct pgs_map *map, uint64_t page_no, bool writes)
{
    /* Who takes mappings away is done with this one, or sees that it is pinned. Its bit may say
     * more than is so: a touch that came meanwhile may have set it. */
    pthread_mutex_lock(&map->detach_lock);
    int error = map_serve(map, page_no, writes);
    pthread_mutex_unlock(&map->detach_lock);
    return error;
}

int pgs_map_prefetch(pgs_map *map, uint64_t first_page_no, uint64_t page_count, uint32_t writes,
                     uint64_t *page_no_ret)
{
    uint64_t page_no = first_page_no;
    /* Who holds the detach lock may wait for a page-in. */
    int error = section_may_page(map->store);
    if (!error && (page_no > map->page_count || page_count > map->page_count - page_no))
        error = PGS_E_RANGE;
    if (!error && writes && map->range.writes == RANGE_READ_ONLY)
        error = PGS_E_INVALID;
    while (!error && page_no < first_page_no + page_count) {
        error = prefetch_page(map, page_no, writes);
        page_no += !error;
    }
    if (error && page_no_ret)
        *page_no_ret = page_no;
    return error;
}
