/* SPDX-License-Identifier: MIT
 *
 * Which pages of maps are used: the processor does not tell, so their mapping is
 * taken away, range by range, and the fault of the next touch, which finds the page
 * still in RAM, is a use. That is paced by evictions: between two looks at a page
 * about as many pages leave as are mapped. Of a range that is not touched again no mapping is
 * left, and on kernels that free emptied page tables (x86-64, Linux 6.14) none of these either.
 */
#include "store/map_internal.h"

enum { AGE_PAUSE_MIN = 16 };

/* Takes the mapping of up to AGED_PAGES pages away, first to end - 1; that of pinned ones stays,
 * for their users rely on it. Returns of how many. */
static uint32_t detach_some(struct pgs_map *map, uint64_t first, uint64_t end)
{
    struct job job = job_of(map->store, map->member);
    uint64_t size = map->store->page_size;
    uint32_t detached = 0;
    for (uint64_t page_no = first; page_no < end; page_no++) {
        _Atomic uint64_t *word = &map->attached[page_no / 64];
        if (!(atomic_load_explicit(word, memory_order_relaxed) & map_bit(page_no)))
            continue;
        if (!job_select(&job, page_no) || !(page_load(job.page) & PAGE_PINS_MASK)) {
            detached += (atomic_fetch_and(word, ~map_bit(page_no)) & map_bit(page_no)) != 0;
            continue;
        }
        if (page_no > first)
            range_detach(&map->range, first * size, (page_no - first) * size);
        first = page_no + 1;
    }
    if (detached && end > first)
        range_detach(&map->range, first * size, (end - first) * size);
    return detached;
}

/* With the map's detach lock. Who settles a page meanwhile must not rely on its bit. */
static uint32_t detach_run(struct pgs_map *map, uint64_t first, uint64_t end)
{
    uint32_t detached = 0;
    for (uint64_t next; first < end; first = next) {
        next = end - first > AGED_PAGES ? first + AGED_PAGES : end;
        atomic_store(&map->detaching, first << 32 | (next - first));
        uint32_t some = detach_some(map, first, next);
        map_count(&map->ranges_dropped, some > 0);
        detached += some;
    }
    atomic_store(&map->detaching, 0);
    map_count(&map->detaches, detached);
    return detached;
}

/* Whether somebody takes the page's mapping away just now, and may not have done so yet. */
static bool is_detaching(struct pgs_map *map, uint32_t member_page)
{
    uint64_t run = atomic_load(&map->detaching), first = run >> 32;
    return (member_page >= first && member_page - first < (uint32_t)run) ||
           atomic_load(&map->detaches_all);
}

static uint64_t pages_before(const struct pgs_map *map, uint64_t word)
{
    return word * 64 < map->page_count ? word * 64 : map->page_count;
}

static bool any_attached(const struct pgs_map *map, uint64_t word, uint64_t end)
{
    for (; word < end; word++)
        if (atomic_load_explicit(&map->attached[word], memory_order_relaxed))
            return true;
    return false;
}

/* Looks at the next range of a map that has pages mapped; at none where the hand has come to
 * the end. */
static uint32_t look_once(struct pgs_map *map)
{
    uint64_t words = bitmap_words(map->page_count);
    while (map->age_hand < words) {
        uint64_t word = map->age_hand, end = word + AGED_WORDS < words ? word + AGED_WORDS : words;
        map->age_hand = end;
        if (!any_attached(map, word, end))
            continue;
        /* Who holds the lock may be this very thread, that prefetches. */
        if (pthread_mutex_trylock(&map->detach_lock))
            return 0;
        uint32_t detached = detach_run(map, word * 64, pages_before(map, end));
        pthread_mutex_unlock(&map->detach_lock);
        return detached;
    }
    map->age_hand = 0;
    return 0;
}

/* One hand goes over all maps. */
static uint32_t look(struct map_list *maps)
{
    struct pgs_map *begin = maps->hand ? maps->hand : maps->first, *map = begin;
    uint32_t detached = 0;
    while (map && !(detached = look_once(map))) {
        map = map->next ? map->next : maps->first;
        if (map == begin)
            break;
    }
    maps->hand = map;
    return detached;
}

void maps_age(pgs_store *store)
{
    struct map_list *maps = &store->maps;
    if (!atomic_load_explicit(&maps->first, memory_order_relaxed) ||
        atomic_fetch_sub_explicit(&maps->due, 1, memory_order_relaxed) > 1 ||
        pthread_mutex_trylock(&maps->lock))
        return;
    uint32_t detached = look(maps);
    atomic_store_explicit(&maps->due, detached > AGE_PAUSE_MIN ? detached : AGE_PAUSE_MIN,
                          memory_order_relaxed);
    pthread_mutex_unlock(&maps->lock);
}

int pgs_map_detach(pgs_map *map, uint64_t first_page_no, uint64_t page_count)
{
    if (first_page_no > map->page_count || page_count > map->page_count - first_page_no)
        return PGS_E_RANGE;
    /* Who holds the lock may prefetch, and so wait for a page-in. */
    int error = section_may_page(map->store);
    if (error)
        return error;
    pthread_mutex_lock(&map->detach_lock);
    detach_run(map, first_page_no, first_page_no + page_count);
    pthread_mutex_unlock(&map->detach_lock);
    return PGS_OK;
}

void map_detach_all(struct pgs_map *map)
{
    uint64_t words = bitmap_words(map->page_count);
    atomic_store(&map->detaches_all, true);
    /* Whose bits others have cleared may still be mapped: so the range goes whole. */
    for (uint64_t word = 0; word < words; word++)
        if (atomic_load_explicit(&map->attached[word], memory_order_relaxed))
            atomic_store(&map->attached[word], 0);
    range_detach(&map->range, 0, map->page_count * map->store->page_size);
    atomic_store(&map->detaches_all, false);
    map_count(&map->ranges_dropped, 1);
}

void map_note_writes(struct pgs_map *map, const struct job *job, uint32_t member_page)
{
    uint64_t bit = map_bit(member_page), word = page_load(job->page);
    size_t size = job->store->page_size;
    if (map->range.writes != RANGE_WRITES_NOTED ||
        !(atomic_fetch_and(&map->noted[member_page / 64], ~bit) & bit))
        return;
    if ((!(word & PAGE_DIRTY) || (word & PAGE_COPY)) &&
        range_written(&map->range, (size_t)member_page * size, size)) {
        page_drop_copy(job);
        atomic_fetch_or_explicit(&job->page->word, PAGE_DIRTY, memory_order_relaxed);
    }
}

void map_settle_in(struct pgs_map *map, const struct job *job, uint32_t member_page)
{
    if (map->range.writes == RANGE_READ_ONLY)
        return;
    size_t size = job->store->page_size;
    uint64_t bit = map_bit(member_page);
    bool attached = atomic_fetch_and(&map->attached[member_page / 64], ~bit) & bit;
    if (attached || is_detaching(map, member_page))
        range_detach(&map->range, (size_t)member_page * size, size);
    map_note_writes(map, job, member_page);
}

void map_settle(const struct job *job)
{
    const struct frame *row = &job->store->frames[job->page->frame];
    if (!(row->place & FRAME_HOMED))
        return;
    const struct member *member = member_of(job->store, row->home_member);
    struct pgs_map *map = atomic_load_explicit(&member->map, memory_order_acquire);
    if (map)
        map_settle_in(map, job, row->home_page);
}

void map_clear_place(const struct member *member, uint32_t member_page)
{
    struct pgs_map *map = atomic_load_explicit(&member->map, memory_order_acquire);
    uint64_t bit = map_bit(member_page);
    size_t size = map ? map->store->page_size : 0;
    if (map && (atomic_fetch_and(&map->attached[member_page / 64], ~bit) & bit))
        home_drop(map->range.home, (size_t)member_page * size, size);
}

void map_forget_place(const struct member *member, uint32_t member_page)
{
    struct pgs_map *map = atomic_load_explicit(&member->map, memory_order_acquire);
    uint64_t bit = map_bit(member_page);
    if (!map)
        return;
    atomic_fetch_and(&map->attached[member_page / 64], ~bit);
    atomic_fetch_and(&map->noted[member_page / 64], ~bit);
}
