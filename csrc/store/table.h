/* SPDX-License-Identifier: MIT
 *
 * The table of anonymous memory's page entries: it takes RAM as pages come to have
 * a state. A leaf has 128 entries, which is a page of the system; a node leads to 64
 * leaves; nodes are found through segments of 1, 2, 4, ... pointers, so that the
 * table can grow to 2^32 entries without anything in it ever moving.
 *
 * What is there stays until the table goes, and is found without a lock; to add to it
 * needs the family's lock.
 */
#ifndef PGS_TABLE_H
#define PGS_TABLE_H

#include <stddef.h>

#include "store/page.h"

enum { LEAF_PAGES = 128, NODE_LEAVES = 64, TABLE_SEGMENTS = 20 };

/* Who has a page. */
struct owner {
    _Atomic uint32_t count;  /* of members that refer to it */
    _Atomic uint32_t pinner; /* while it is pinned: the number of the member that pins it */
};

struct leaf {
    struct page *_Atomic pages;   /* LEAF_PAGES of them */
    struct owner *_Atomic owners; /* as many; NULL as long as nothing was forked */
};

struct node {
    struct leaf leaves[NODE_LEAVES];
};

struct table {
    struct node *_Atomic *_Atomic segments[TABLE_SEGMENTS];
};

static inline struct node *_Atomic *table_node(const struct table *table, uint64_t leaf_no)
{
    uint64_t at = leaf_no / NODE_LEAVES + 1;
    unsigned segment = 63 - (unsigned)__builtin_clzll(at);
    struct node *_Atomic *nodes =
        atomic_load_explicit(&table->segments[segment], memory_order_acquire);
    return nodes ? &nodes[at - ((uint64_t)1 << segment)] : NULL;
}

/* The leaf's place, or NULL where it was never needed. */
static inline struct leaf *table_leaf(const struct table *table, uint64_t leaf_no)
{
    struct node *_Atomic *place = table_node(table, leaf_no);
    struct node *node = place ? atomic_load_explicit(place, memory_order_acquire) : NULL;
    return node ? &node->leaves[leaf_no % NODE_LEAVES] : NULL;
}

/* A slot's entry, or NULL where it has none yet: the page was never written. */
static inline struct page *table_page(const struct table *table, uint32_t slot)
{
    struct leaf *leaf = table_leaf(table, slot / LEAF_PAGES);
    struct page *pages = leaf ? atomic_load_explicit(&leaf->pages, memory_order_acquire) : NULL;
    return pages ? &pages[slot % LEAF_PAGES] : NULL;
}

/* Who has the page of a slot that has an entry; NULL as long as nothing was forked. */
static inline struct owner *table_owner(const struct table *table, uint32_t slot)
{
    struct leaf *leaf = table_leaf(table, slot / LEAF_PAGES);
    struct owner *owners =
        leaf ? atomic_load_explicit(&leaf->owners, memory_order_acquire) : NULL;
    return owners ? &owners[slot % LEAF_PAGES] : NULL;
}

/* Bytes that a leaf takes which is to be added, with its owners where `owned`; 0 where
 * it is complete. */
uint64_t table_cost(const struct table *table, uint64_t leaf_no, bool owned);

/* Adds what table_cost counts; every new entry becomes `blank`. False: no memory. */
bool table_add(struct table *table, uint64_t leaf_no, bool owned, const struct page *blank);

/* The first leaf at `leaf_no` or behind it that has entries; false where there is none. */
bool table_next(const struct table *table, uint64_t *leaf_no);

void table_deinit(struct table *table);

#endif
