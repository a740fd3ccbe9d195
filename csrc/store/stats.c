/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "store/family.h"

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void add_worker(struct pgs_stats *stats, const struct counters *counters)
{
    stats->reads += load(&counters->reads);
    stats->writes += load(&counters->writes);
    stats->hits += load(&counters->hits);
    stats->page_outs += load(&counters->page_outs);
    stats->encodes += load(&counters->encodes);
    stats->encode_ns += load(&counters->encode_ns);
    stats->discards += load(&counters->discards);
    stats->writebacks += load(&counters->writebacks);
    stats->corrupt += load(&counters->corrupt);
    for (unsigned i = 0; i < PGS_SOURCE_COUNT; i++) {
        stats->faults[i] += load(&counters->faults[i]);
        stats->fault_ns[i] += load(&counters->fault_ns[i]);
        stats->fault_bytes[i] += load(&counters->fault_bytes[i]);
    }
    for (unsigned i = 0; i < PGS_LEVEL_COUNT; i++)
        stats->level_faults[i] += load(&counters->level_faults[i]);
}

/* Where a page is; `count` times, of which all but one have it from another. */
static void add_page(struct pgs_stats *stats, uint64_t word, uint32_t count)
{
    unsigned level = page_level(word);
    stats->page_count += count;
    stats->level_pages[level] += count;
    if (!(word & (PAGE_HOT | PAGE_COPY))) {
        stats->absent_pages += count;
    } else {
        stats->shared_pages += count - 1;
        if (word & PAGE_HOT) {
            stats->hot_pages++;
            stats->level_hot[level]++;
        } else if (page_coding(word) == CODING_SAME) {
            stats->same_pages++;
        } else {
            stats->compressed_pages++;
        }
    }
    if (word & PAGE_DIRTY)
        stats->dirty_pages++;
    if (page_is_held(word))
        stats->pinned_pages++;
}

/* Bytes of RAM that a page takes: its frame, and its copy in the pool. Nothing is waited
 * for: of a page that is on its way it is what its frame has. */
static uint64_t ram_of(const pgs_store *store, struct page *page)
{
    uint64_t word = page_load(page), bytes = 0;
    uint32_t size = 0;
    while (!(word & PAGE_BUSY) && !page_swap(page, &word, word + PAGE_READER))
        ;
    if (word & PAGE_HOT)
        bytes = store->page_size;
    if (word & PAGE_BUSY)
        return bytes;
    if ((word & PAGE_COPY) && page_coding(word) != CODING_SAME)
        pool_bytes(&store->pool, page->place, &size);
    page_end_read(page);
    return bytes + size;
}

/* A family's pages, each once, and what its members have not. */
static void add_family(pgs_store *store, struct pgs_stats *stats, struct family *family)
{
    uint64_t leaf_no = 0, before = stats->page_count, pages = 0;
    pthread_mutex_lock(&family->lock);
    for (const struct member *member = family->members; member; member = member->next)
        pages += member_pages(member);
    bool shared = family->members && family->members->refs;
    for (; table_next(&family->table, &leaf_no); leaf_no++)
        for (uint32_t i = 0; i < LEAF_PAGES; i++) {
            uint32_t slot = (uint32_t)(leaf_no * LEAF_PAGES + i), count = slot < pages;
            struct page *page = table_page(&family->table, slot);
            if (shared)
                count = atomic_load_explicit(&table_owner(&family->table, slot)->count,
                                             memory_order_relaxed);
            if (count)
                add_page(stats, page_load(page), count);
            if (count > 1)
                stats->shared_bytes += ram_of(store, page);
        }
    pthread_mutex_unlock(&family->lock);
    uint64_t others = pages - (stats->page_count - before);
    stats->page_count += others;
    stats->absent_pages += others;
    stats->level_pages[page_level(page_load(&family->blank))] += others;
}

static void add_object(pgs_store *store, struct pgs_stats *stats, const struct pgs_object *object)
{
    if (object->family)
        add_family(store, stats, object->family);
    else
        for (uint64_t i = 0; i < object->page_count; i++)
            add_page(stats, page_load(&object->pages[i]), 1);
}

int pgs_store_stats(pgs_store *store, struct pgs_stats *stats_ret)
{
    int error = section_may_wait(store);
    if (error)
        return error;
    struct pgs_stats *stats = stats_ret;
    memset(stats, 0, sizeof *stats);
    stats->budget_bytes = load(&store->budget_bytes);
    stats->used_bytes = load(&store->used_bytes);
    stats->used_bytes_max = load(&store->used_bytes_max);
    stats->pool_bytes = load(&store->pool.committed_bytes);
    stats->stored_bytes = load(&store->pool.stored_bytes);
    stats->metadata_bytes = load(&store->metadata_bytes);
    struct evict_audit audit = evict_audit_of(store->queue);
    stats->audited = audit.evictions;
    memcpy(stats->shortfalls, audit.shortfalls, sizeof stats->shortfalls);
    stats->held_victims = load(&store->held_victims);
    stats->fresh_victims = load(&store->fresh_victims);
    for (unsigned i = 0; i < MAX_WORKERS; i++)
        add_worker(stats, &store->workers[i].counters);
    add_worker(stats, &store->retired);
    pthread_mutex_lock(&store->object_lock);
    for (uint32_t i = 0; i < MAX_OBJECTS; i++) {
        const struct pgs_object *object = object_of(store, i);
        if (object)
            add_object(store, stats, object);
    }
    pthread_mutex_unlock(&store->object_lock);
    /* What is not shared is one object's own: the two are all there is. */
    uint64_t in_ram = stats->hot_pages * store->page_size + stats->stored_bytes;
    stats->private_bytes = in_ram > stats->shared_bytes ? in_ram - stats->shared_bytes : 0;
    stats->hot_bytes = (uint64_t)atomic_load_explicit(&store->frame_count, memory_order_relaxed) *
                       store->page_size;
    return PGS_OK;
}

static void add_slot(const struct job *job, struct pgs_object_stats *stats)
{
    uint64_t word = page_load(job->page);
    if (!(word & (PAGE_HOT | PAGE_COPY)))
        return;
    uint64_t bytes = ram_of(job->store, job->page);
    bool shared = page_is_shared(job);
    stats->absent_pages--;
    if (word & PAGE_HOT)
        stats->hot_pages++;
    else if (page_coding(word) == CODING_SAME)
        stats->same_pages++;
    else
        stats->compressed_pages++;
    stats->shared_pages += shared;
    *(shared ? &stats->shared_bytes : &stats->private_bytes) += bytes;
}

int pgs_object_stats(pgs_store *store, uint32_t number, struct pgs_object_stats *stats_ret)
{
    int error = section_may_wait(store);
    if (error)
        return error;
    struct pgs_object_stats *stats = stats_ret;
    memset(stats, 0, sizeof *stats);
    struct member *member = member_of(store, number);
    if (!member)
        return PGS_E_RANGE;
    struct family *family = member->object->family;
    struct job job = {.store = store, .member = member, .object = member->object};
    if (family)
        pthread_mutex_lock(&family->lock);
    uint64_t pages = member_pages(member);
    stats->page_count = stats->absent_pages = pages;
    for (uint64_t i = member_next(member, 0, pages); i < pages;
         i = member_next(member, i + 1, pages))
        if (job_select(&job, i))
            add_slot(&job, stats);
    for (const struct member *each = family ? family->members : NULL; each; each = each->next)
        stats->member_count++;
    if (family)
        pthread_mutex_unlock(&family->lock);
    else
        stats->member_count = 1;
    return PGS_OK;
}
