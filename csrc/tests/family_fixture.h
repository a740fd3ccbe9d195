/* SPDX-License-Identifier: MIT
 *
 * A family looked at from inside: what must hold of slots, owners and references
 * whenever nobody is at work.
 */
#ifndef PGS_FAMILY_FIXTURE_H
#define PGS_FAMILY_FIXTURE_H

#include "store/family.h"
#include "store_fixture.h"

static inline uint32_t family_slot(pgs_store *store, uint32_t object, uint32_t page_no)
{
    return member_slot(member_of(store, object), page_no);
}


static inline void family_check_slot(const struct family *family, uint32_t slot,
                                     const uint32_t *referrers, const unsigned char *is_free)
{
    const struct page *page = table_page(&family->table, slot);
    CHECK_EQ(table_owner(&family->table, slot)->count, referrers[slot]);
    CHECK_EQ(is_free[slot], referrers[slot] == 0);
    /* The thread of a map lets the toucher go on before it is done with the page itself. */
    for (int i = 0; i < 10000 && (page->word & PAGE_BUSY); i++)
        usleep(100);
    if (is_free[slot])
        CHECK_EQ(page->word & ~PAGE_WAITED, family->blank.word);
    CHECK(!(page->word & (PAGE_BUSY | PAGE_READERS_MASK)));
}

/* Counts are what the references say; what has no owner is on the free list, once, and has
 * nothing. `slot_limit` is above all slots. */
static inline void family_check(pgs_store *store, uint32_t object, uint32_t slot_limit)
{
    struct family *family = member_of(store, object)->object->family;
    uint32_t *referrers = calloc(slot_limit, sizeof *referrers);
    unsigned char *is_free = calloc(slot_limit, 1);
    uint64_t leaf_no = 0;
    if (!family->members->refs) { /* never forked */
        free(referrers);
        free(is_free);
        return;
    }
    pthread_mutex_lock(&family->lock);
    for (uint32_t slot = family->free_slot; slot != NO_SLOT;
         slot = table_page(&family->table, slot)->frame) {
        CHECK(slot < slot_limit);
        CHECK(!is_free[slot]);
        is_free[slot] = 1;
    }
    for (const struct member *each = family->members; each; each = each->next)
        for (uint64_t i = 0; i < member_pages(each); i++)
            if (each->refs[i] != NO_SLOT) {
                CHECK(each->refs[i] < slot_limit);
                referrers[each->refs[i]]++;
            }
    for (; table_next(&family->table, &leaf_no); leaf_no++)
        for (uint32_t i = 0; i < LEAF_PAGES; i++)
            family_check_slot(family, (uint32_t)(leaf_no * LEAF_PAGES + i), referrers, is_free);
    pthread_mutex_unlock(&family->lock);
    free(referrers);
    free(is_free);
}

/* Everything was closed: nothing of it is left. */
static inline void family_check_gone(const struct fixture *fixture, uint64_t metadata_bytes)
{
    struct pgs_stats stats = fixture_stats(fixture);
    CHECK_EQ(stats.page_count, 0);
    CHECK_EQ(stats.hot_pages, 0);
    CHECK_EQ(stats.stored_bytes, 0);
    CHECK_EQ(stats.pinned_pages, 0);
    /* What is left beside the store's own: coders that workers took, rows of frames. */
    CHECK(stats.metadata_bytes >= metadata_bytes);
    CHECK_EQ(stats.used_bytes, stats.hot_bytes + stats.pool_bytes + stats.metadata_bytes);
}

#endif
