/* SPDX-License-Identifier: MIT */
#include "store/table.h"

#include <stdlib.h>
#include <string.h>

enum { LINE = 64 };

static const uint64_t leaf_limit = ((uint64_t)1 << 32) / LEAF_PAGES;

static unsigned segment_of(uint64_t leaf_no)
{
    return 63 - (unsigned)__builtin_clzll(leaf_no / NODE_LEAVES + 1);
}

uint64_t table_cost(const struct table *table, uint64_t leaf_no, bool owned)
{
    unsigned segment = segment_of(leaf_no);
    struct node *_Atomic *place = table_node(table, leaf_no);
    struct leaf *leaf = table_leaf(table, leaf_no);
    uint64_t bytes = place ? 0 : sizeof(struct node *) << segment;
    if (!leaf)
        bytes += sizeof(struct node);
    if (!leaf || !atomic_load_explicit(&leaf->pages, memory_order_relaxed))
        bytes += LEAF_PAGES * sizeof(struct page);
    if (owned && (!leaf || !atomic_load_explicit(&leaf->owners, memory_order_relaxed)))
        bytes += LEAF_PAGES * sizeof(struct owner);
    return bytes;
}

static struct leaf *add_leaf(struct table *table, uint64_t leaf_no)
{
    struct node *_Atomic *place = table_node(table, leaf_no);
    if (!place) {
        unsigned segment = segment_of(leaf_no);
        struct node *_Atomic *nodes = calloc((size_t)1 << segment, sizeof *nodes);
        if (!nodes)
            return NULL;
        atomic_store_explicit(&table->segments[segment], nodes, memory_order_release);
        place = table_node(table, leaf_no);
    }
    if (!atomic_load_explicit(place, memory_order_relaxed)) {
        struct node *node = calloc(1, sizeof *node);
        if (!node)
            return NULL;
        atomic_store_explicit(place, node, memory_order_release);
    }
    return table_leaf(table, leaf_no);
}

bool table_add(struct table *table, uint64_t leaf_no, bool owned, const struct page *blank)
{
    struct leaf *leaf = add_leaf(table, leaf_no);
    if (!leaf)
        return false;
    if (owned && !atomic_load_explicit(&leaf->owners, memory_order_relaxed)) {
        struct owner *owners = calloc(LEAF_PAGES, sizeof *owners);
        if (!owners)
            return false;
        atomic_store_explicit(&leaf->owners, owners, memory_order_release);
    }
    if (!atomic_load_explicit(&leaf->pages, memory_order_relaxed)) {
        struct page *pages = aligned_alloc(LINE, LEAF_PAGES * sizeof *pages);
        if (!pages)
            return false;
        for (unsigned i = 0; i < LEAF_PAGES; i++)
            memcpy(&pages[i], blank, sizeof *blank);
        atomic_store_explicit(&leaf->pages, pages, memory_order_release);
    }
    return true;
}

bool table_next(const struct table *table, uint64_t *leaf_no)
{
    while (*leaf_no < leaf_limit) {
        struct node *_Atomic *place = table_node(table, *leaf_no);
        struct leaf *leaf = table_leaf(table, *leaf_no);
        if (leaf && atomic_load_explicit(&leaf->pages, memory_order_acquire))
            return true;
        if (!place) /* the whole segment is not there */
            *leaf_no = (((uint64_t)2 << segment_of(*leaf_no)) - 1) * NODE_LEAVES;
        else if (!leaf)
            *leaf_no = (*leaf_no / NODE_LEAVES + 1) * NODE_LEAVES;
        else
            ++*leaf_no;
    }
    return false;
}

static void free_node(struct node *node)
{
    for (unsigned i = 0; node && i < NODE_LEAVES; i++) {
        free(atomic_load_explicit(&node->leaves[i].pages, memory_order_relaxed));
        free(atomic_load_explicit(&node->leaves[i].owners, memory_order_relaxed));
    }
    free(node);
}

void table_deinit(struct table *table)
{
    for (unsigned i = 0; i < TABLE_SEGMENTS; i++) {
        struct node *_Atomic *nodes = table->segments[i];
        for (uint64_t k = 0; nodes && k < (uint64_t)1 << i; k++)
            free_node(nodes[k]);
        free(nodes);
    }
}
