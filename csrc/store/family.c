/* SPDX-License-Identifier: MIT */
#include "store/family.h"

#include <stdlib.h>
#include <string.h>

#include "store/backing.h"

int family_new(pgs_store *store, uint64_t blank_word, struct family **family_ret)
{
    struct family *family = calloc(1, sizeof *family);
    unsigned char *zeros = calloc(1, store->page_size);
    if (!family || !zeros) {
        free(family);
        free(zeros);
        return PGS_E_NOMEM;
    }
    pthread_mutex_init(&family->lock, NULL);
    family->free_slot = NO_SLOT;
    /* Clean means all zeros. */
    atomic_init(&family->blank.word, blank_word);
    atomic_init(&family->blank.origin_sum, pgs_checksum(zeros, store->page_size));
    free(zeros);
    *family_ret = family;
    return PGS_OK;
}

void family_free(struct family *family)
{
    if (!family)
        return;
    table_deinit(&family->table);
    pthread_mutex_destroy(&family->lock);
    free(family);
}

uint64_t member_next(const struct member *member, uint64_t page_no, uint64_t end)
{
    const slot_ref *refs = atomic_load_explicit(&member->refs, memory_order_acquire);
    if (refs) {
        while (page_no < end &&
               atomic_load_explicit(&refs[page_no], memory_order_relaxed) == NO_SLOT)
            page_no++;
    } else if (member->object->family) {
        uint64_t leaf_no = page_no / LEAF_PAGES;
        if (!table_next(&member->object->family->table, &leaf_no))
            return end;
        if (leaf_no * LEAF_PAGES > page_no)
            page_no = leaf_no * LEAF_PAGES;
    }
    return page_no < end ? page_no : end;
}

/* Adds a leaf to the table. Of a family that was forked its slots are free; of another, as long
 * as `for_pages`, its member, has no references, they are those of the pages with the same
 * numbers. */
static int leaf_add(pgs_store *store, struct worker *worker, struct family *family,
                    uint64_t leaf_no, const struct member *for_pages)
{
    for (;;) {
        pthread_mutex_lock(&family->lock);
        bool wanted = !for_pages || !for_pages->refs;
        uint64_t bytes = wanted ? table_cost(&family->table, leaf_no, family->owned) : 0;
        pthread_mutex_unlock(&family->lock);
        if (!bytes)
            return PGS_OK;
        int error = metadata_charge(store, worker, bytes);
        if (error)
            return error;
        pthread_mutex_lock(&family->lock);
        wanted = !for_pages || !for_pages->refs;
        bool same = wanted && bytes == table_cost(&family->table, leaf_no, family->owned);
        bool added = same && table_add(&family->table, leaf_no, family->owned, &family->blank);
        if (added)
            family->table_bytes += bytes;
        for (uint32_t i = LEAF_PAGES; added && !for_pages && i > 0; i--)
            slot_put(family, (uint32_t)(leaf_no * LEAF_PAGES + i - 1));
        pthread_mutex_unlock(&family->lock);
        if (added)
            return PGS_OK;
        metadata_uncharge(store, bytes);
        if (same)
            return PGS_E_NOMEM;
    }
}

void slot_put(struct family *family, uint32_t slot)
{
    if (slot == NO_SLOT)
        return;
    table_page(&family->table, slot)->frame = family->free_slot;
    family->free_slot = slot;
}

static bool pop_slot(struct family *family, uint32_t *slot_ret)
{
    if (family->free_slot == NO_SLOT)
        return false;
    *slot_ret = family->free_slot;
    family->free_slot = table_page(&family->table, *slot_ret)->frame;
    return true;
}

static uint64_t vacant_leaf(struct family *family)
{
    const struct leaf *leaf;
    while ((leaf = table_leaf(&family->table, family->next_leaf)) && leaf->pages)
        family->next_leaf++;
    return family->next_leaf;
}

int slot_take(const struct job *job, uint32_t *slot_ret)
{
    struct family *family = job->object->family;
    for (;;) {
        pthread_mutex_lock(&family->lock);
        bool found = pop_slot(family, slot_ret);
        uint64_t leaf_no = found ? 0 : vacant_leaf(family);
        pthread_mutex_unlock(&family->lock);
        if (found)
            return PGS_OK;
        if (leaf_no > (NO_SLOT - LEAF_PAGES) / LEAF_PAGES)
            return PGS_E_BUDGET;
        int error = leaf_add(job->store, job->worker, family, leaf_no, NULL);
        if (error)
            return error;
    }
}

int slot_provide(const struct job *job)
{
    struct family *family = job->object->family;
    struct member *member = job->member;
    int error = page_may_use(job, atomic_load_explicit(&family->blank.word, memory_order_relaxed));
    if (!error)
        error = page_may_fault(job);
    if (error)
        return error;
    slot_ref *refs = atomic_load_explicit(&member->refs, memory_order_acquire);
    if (!refs) {
        error = leaf_add(job->store, job->worker, family, job->member_page / LEAF_PAGES, member);
        return error ? error : PAGE_MOVED;
    }
    uint32_t slot;
    error = slot_take(job, &slot);
    if (error)
        return error;
    pthread_mutex_lock(&family->lock);
    refs = member->refs; /* it may have grown */
    if (job->member_page < member_pages(member) && refs[job->member_page] == NO_SLOT) {
        atomic_store_explicit(&table_owner(&family->table, slot)->count, 1, memory_order_release);
        atomic_store_explicit(&refs[job->member_page], slot, memory_order_release);
    } else {
        slot_put(family, slot);
    }
    pthread_mutex_unlock(&family->lock);
    return PAGE_MOVED;
}

void slot_clear(const struct job *job)
{
    struct page *page = job->page;
    const struct pgs_backing *backing = &job->object->backing;
    const struct page *blank = &job->object->family->blank;
    page_empty(job);
    uint64_t zeros = atomic_load_explicit(&blank->origin_sum, memory_order_relaxed);
    if (atomic_exchange_explicit(&page->origin_sum, zeros, memory_order_relaxed) != zeros)
        backing_discard(job->store, backing, job->page_no);
}

void slot_publish(const struct job *job)
{
    const struct page *blank = &job->object->family->blank;
    page_publish(job->store, job->page, UINT64_MAX,
                 atomic_load_explicit(&blank->word, memory_order_relaxed));
}

int owners_provide(pgs_store *store, struct worker *worker, struct family *family)
{
    int error = PGS_OK;
    uint64_t leaf_no = 0;
    pthread_mutex_lock(&family->lock);
    family->owned = true;
    pthread_mutex_unlock(&family->lock);
    /* Leaves that come now have them. */
    for (; !error && table_next(&family->table, &leaf_no); leaf_no++)
        error = leaf_add(store, worker, family, leaf_no, family->members);
    return error;
}
