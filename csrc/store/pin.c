/* SPDX-License-Identifier: MIT
 *
 * Pins, and pages of level PINNED: what is held in its frame. held_frames
 * counts them, so that MIN_FRAMES always remain for the others.
 */
#include "store/call.h"

void page_release(pgs_store *store)
{
    atomic_fetch_sub_explicit(&store->held_frames, 1, memory_order_relaxed);
}

bool hold_one(const struct job *job)
{
    pgs_store *store = job->store;
    uint64_t room = budget_for_pages(store);
    uint32_t held = atomic_load_explicit(&store->held_frames, memory_order_relaxed);
    do {
        if ((uint64_t)(held + 1 + MIN_FRAMES) * store->page_size > room)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&store->held_frames, &held, held + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    if (frames_reserve(store, job->worker) == PGS_OK)
        return true;
    page_release(store);
    return false;
}

int page_hold(const struct job *job)
{
    uint64_t word = page_load(job->page);
    if (page_is_held(word))
        return PGS_OK;
    if (section_is(job->section, PGS_SECTION_PAGER))
        return PGS_E_PAGER;
    if (!hold_one(job))
        return PGS_E_BUDGET;
    int error = word & PAGE_HOT ? PGS_OK : page_bring_in(job);
    if (error)
        page_release(job->store);
    return error;
}

/* Adds a pin to a page that is claimed and held. */
static void add_pin(const struct job *job)
{
    if (!(page_load(job->page) & PAGE_PINS_MASK))
        page_go_home(job); /* from now on it stays where it is */
    page_note_pinner(job);
    atomic_fetch_add_explicit(&job->page->word, PAGE_PIN, memory_order_relaxed);
}

/* A pin is there for an address, which must show what is written: whose page others have
 * as well gets its own first. */
static int pin_page(const struct job *job, void *unused)
{
    (void)unused;
    int moved = job_claim(job);
    if (moved)
        return moved;
    if (page_is_shared(job) && !page_is_pinned_here(job))
        return page_break(job, NULL);
    bool full = (page_load(job->page) & PAGE_PINS_MASK) == PAGE_PINS_MASK;
    int error = full ? PGS_E_INVALID : page_hold(job);
    if (!error)
        add_pin(job);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

/* One more pin on a page that is held waits for nothing; any other would. */
static int pin_held_page(const struct job *job, void *unused)
{
    (void)unused;
    if (!job->page || !page_is_held(page_load(job->page)))
        return PGS_E_ATOMIC;
    int error = page_claim_to_use(job);
    if (error)
        return error;
    uint64_t word = page_load(job->page);
    if (!page_is_held(word) || (page_is_shared(job) && !page_is_pinned_here(job)))
        error = PGS_E_ATOMIC;
    else if ((word & PAGE_PINS_MASK) == PAGE_PINS_MASK)
        error = PGS_E_INVALID;
    else
        add_pin(job);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

static int has_pin(const struct job *job, void *unused)
{
    (void)unused;
    return job->page && page_is_pinned_here(job) ? PGS_OK : PGS_E_INVALID;
}

static int unpin_page(const struct job *job, void *unused)
{
    (void)unused;
    int moved = job_claim(job);
    if (moved)
        return moved;
    uint64_t word = page_load(job->page);
    bool pinned = page_is_pinned_here(job);
    if (pinned)
        atomic_fetch_sub_explicit(&job->page->word, PAGE_PIN, memory_order_relaxed);
    if (pinned && (word & PAGE_PINS_MASK) == PAGE_PIN && page_level(word) != PGS_LEVEL_PINNED)
        page_release(job->store);
    page_publish(job->store, job->page, 0, 0);
    return pinned ? PGS_OK : PGS_E_INVALID;
}

int pgs_pin(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_MOVES, 0, NULL);
    if (error)
        return error;
    size_t done = 0;
    if (!call_has(&call, page_nos, count))
        error = PGS_E_RANGE;
    for (; done < count && !error; done++)
        error = call_do(&call, page_nos[done], NEEDS_ENTRY, pin_page, NULL);
    if (error && done > 0)
        for (done--; done > 0; done--)
            call_do(&call, page_nos[done - 1], NEEDS_ENTRY, unpin_page, NULL);
    call_note(&call, 0, error);
    return call_end(&call);
}

int pgs_unpin(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_TENDS, 0, NULL);
    if (error)
        return error;
    if (!call_has(&call, page_nos, count))
        error = PGS_E_RANGE;
    for (size_t i = 0; i < count && !error; i++)
        error = call_do(&call, page_nos[i], LOOKS, has_pin, NULL);
    for (size_t i = 0; i < count && !error; i++)
        error = call_do(&call, page_nos[i], LOOKS, unpin_page, NULL);
    if (!section_promises(call.job.section))
        verify_evict(store, call.job.worker);
    call_note(&call, 0, error);
    return call_end(&call);
}

int pgs_view(pgs_store *store, uint32_t object, uint64_t page_no, const void **page_ret)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_USES, 0, NULL);
    if (error)
        return error;
    bool atomic = section_is(call.job.section, PGS_SECTION_ATOMIC);
    error = call_do(&call, page_no, atomic ? LOOKS : NEEDS_ENTRY,
                    atomic ? pin_held_page : pin_page, NULL);
    if (!error)
        *page_ret = page_bytes(&call.job);
    call_note(&call, 0, error);
    return call_end(&call);
}
