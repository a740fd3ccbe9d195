/* SPDX-License-Identifier: MIT
 *
 * Copy on write: a member that writes to a page which others have too gets one of its
 * own. Two pages are held then, and none is waited for: the new one is nobody's yet.
 *
 * Who pins a page has its frame for good, so there it is the others who get the new page,
 * and its own writes go on showing through a view.
 */
#include "store/family.h"

#include <string.h>

static const uint64_t treatment_mask = PAGE_LEVEL_MASK | PAGE_EFFORT_MASK | PAGE_STAYS;

bool page_is_pinned_here(const struct job *job)
{
    if (!(page_load(job->page) & PAGE_PINS_MASK))
        return false;
    if (!job->object->family || !atomic_load_explicit(&job->member->refs, memory_order_acquire))
        return true;
    const struct owner *owner = table_owner(&job->object->family->table, job->page_no);
    return atomic_load_explicit(&owner->pinner, memory_order_relaxed) == job->member->number;
}

void page_note_pinner(const struct job *job)
{
    if (job->object->family && atomic_load_explicit(&job->member->refs, memory_order_acquire))
        atomic_store_explicit(&table_owner(&job->object->family->table, job->page_no)->pinner,
                              job->member->number, memory_order_relaxed);
}

/* A frame for a page of a given level. */
static int take_frame(const struct job *job, bool held, uint32_t *frame_ret)
{
    if (held && !hold_one(job))
        return PGS_E_BUDGET;
    int error = frame_take(job->store, job->worker, frame_ret);
    if (error && held)
        page_release(job->store);
    return error;
}

/* Gives a new page, claimed, a frame with the bytes given, or else with those of the job's
 * page; whose place in the home of its member, if it is there, the new one gets. */
static int fill(const struct job *job, const struct job *fresh, const void *bytes)
{
    pgs_store *store = job->store;
    uint64_t word = page_load(job->page);
    bool held = page_level(word) == PGS_LEVEL_PINNED;
    uint32_t frame;
    int error = page_may_fault(job);
    if (!error && section_is(job->section, PGS_SECTION_PAGER))
        error = PGS_E_PAGER;
    if (!error)
        error = take_frame(job, held, &frame);
    if (error)
        return error;
    clock_tick(store);
    if (fresh->member && (word & PAGE_HOT) && page_is_home(job))
        page_leave_home(job);
    void *to = frame_place(fresh, frame);
    if (bytes)
        memcpy(to, bytes, store->page_size);
    else if (word & PAGE_HOT)
        memcpy(to, page_bytes(job), store->page_size);
    else
        error = page_fetch(job, word, to);
    if (error) {
        frame_give(store, frame);
        if (held)
            page_release(store);
        return error;
    }
    uint64_t fresh_word = page_load(fresh->page);
    while (!page_swap(fresh->page, &fresh_word,
                      (fresh_word & ~treatment_mask) | (word & treatment_mask)))
        ;
    page_install(fresh, frame, false);
    return PGS_OK;
}

/* Has members refer to the slot `to` instead of the job's; needs the lock. Returns how many. */
static uint32_t refer(const struct job *job, bool others, uint32_t to)
{
    uint32_t moved = 0;
    for (struct member *each = job->object->family->members; each; each = each->next) {
        if ((each != job->member) != others || job->member_page >= each->page_count ||
            each->refs[job->member_page] != job->page_no)
            continue;
        atomic_store_explicit(&each->refs[job->member_page], to, memory_order_release);
        moved++;
    }
    return moved;
}

static void put_slot(struct family *family, uint32_t slot)
{
    pthread_mutex_lock(&family->lock);
    slot_put(family, slot);
    pthread_mutex_unlock(&family->lock);
}

int page_break(const struct job *job, const void *bytes)
{
    struct family *family = job->object->family;
    pgs_store *store = job->store;
    bool others = page_is_pinned_here(job);
    struct job fresh = *job;
    int error = slot_take(job, &fresh.page_no);
    if (error) {
        page_publish(store, job->page, 0, 0);
        return error;
    }
    fresh.page = table_page(&family->table, fresh.page_no);
    page_claim(store, fresh.page);
    if (others)
        fresh.member = NULL; /* several, as a rule */
    error = fill(job, &fresh, others ? NULL : bytes);
    if (error) {
        slot_clear(&fresh);
        slot_publish(&fresh);
        put_slot(family, fresh.page_no);
        page_publish(store, job->page, 0, 0);
        return error;
    }
    struct owner *owner = table_owner(&family->table, job->page_no);
    pthread_mutex_lock(&family->lock);
    /* It is shared still: no owner goes while the page is claimed. */
    uint32_t moved = refer(job, others, fresh.page_no);
    atomic_store_explicit(&table_owner(&family->table, fresh.page_no)->count, moved,
                          memory_order_release);
    atomic_fetch_sub_explicit(&owner->count, moved, memory_order_acq_rel);
    pthread_mutex_unlock(&family->lock);
    page_publish(store, fresh.page, 0, PAGE_DIRTY);
    page_publish(store, job->page, 0, 0);
    if (others || !bytes)
        return PAGE_MOVED;
    bump(&job->worker->counters.writes, 1);
    return PGS_OK;
}

/* Its place in its member's home is free before the member has another page there. */
void page_give_up(const struct job *job)
{
    struct family *family = job->object->family;
    bool shared = page_is_shared(job);
    if (!shared)
        slot_clear(job);
    else if ((page_load(job->page) & PAGE_HOT) && page_is_home(job))
        page_leave_home(job);
    uint32_t left = 0;
    pthread_mutex_lock(&family->lock);
    slot_ref *refs = job->member->refs;
    if (refs) {
        struct owner *owner = table_owner(&family->table, job->page_no);
        atomic_store_explicit(&refs[job->member_page], NO_SLOT, memory_order_release);
        left = atomic_fetch_sub_explicit(&owner->count, 1, memory_order_acq_rel) - 1;
    }
    pthread_mutex_unlock(&family->lock);
    /* A fork that came meanwhile shares the page blank: it came after. */
    if (shared)
        page_publish(job->store, job->page, 0, 0);
    else
        slot_publish(job);
    if (refs && !left)
        put_slot(family, job->page_no);
}
