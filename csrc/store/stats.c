/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "store/store_internal.h"

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

static void add_page(struct pgs_stats *stats, uint64_t word)
{
    unsigned level = page_level(word);
    stats->page_count++;
    stats->level_pages[level]++;
    if (word & PAGE_HOT) {
        stats->hot_pages++;
        stats->level_hot[level]++;
    } else if (!(word & PAGE_COPY)) {
        stats->absent_pages++;
    } else if (page_coding(word) == CODING_SAME) {
        stats->same_pages++;
    } else {
        stats->compressed_pages++;
    }
    if (word & PAGE_DIRTY)
        stats->dirty_pages++;
    if (page_is_held(word))
        stats->pinned_pages++;
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
        for (uint64_t k = 0; object && k < object->page_count; k++)
            add_page(stats, page_load(&object->pages[k]));
    }
    pthread_mutex_unlock(&store->object_lock);
    stats->hot_bytes = (uint64_t)atomic_load_explicit(&store->frame_count, memory_order_relaxed) *
                       store->page_size;
    return PGS_OK;
}
