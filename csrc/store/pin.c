/* SPDX-License-Identifier: MIT
 *
 * Pins, and pages of level PINNED: what is held in its frame. held_frames
 * counts them, so that MIN_FRAMES always remain for the others.
 */
#include <stdlib.h>

#include "store/call.h"

static void release_one(pgs_store *store)
{
    atomic_fetch_sub_explicit(&store->held_frames, 1, memory_order_relaxed);
}

/* Counts one more frame as held, and sees that enough remain beside it. */
static bool hold_one(const struct job *job)
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
    release_one(store);
    return false;
}

/* Makes a claimed page hot. */
static int ensure_hot(const struct job *job)
{
    return page_load(job->page) & PAGE_HOT ? PGS_OK : page_bring_in(job);
}

/* Whether a claimed page may get one more pin; counts its frame as held. */
static int hold_page(const struct job *job, uint64_t word)
{
    if ((word & PAGE_PINS_MASK) == PAGE_PINS_MASK)
        return PGS_E_INVALID;
    if (page_is_held(word))
        return PGS_OK;
    if (section_is(job->section, PGS_SECTION_PAGER))
        return PGS_E_PAGER;
    return hold_one(job) ? PGS_OK : PGS_E_BUDGET;
}

static int pin_page(const struct job *job)
{
    page_claim(job->store, job->page);
    uint64_t word = page_load(job->page);
    int error = hold_page(job, word);
    if (!error) {
        error = ensure_hot(job);
        if (error && !page_is_held(word))
            release_one(job->store);
    }
    if (!error)
        atomic_fetch_add_explicit(&job->page->word, PAGE_PIN, memory_order_relaxed);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

static int unpin_page(const struct job *job)
{
    page_claim(job->store, job->page);
    uint64_t word = page_load(job->page);
    bool pinned = word & PAGE_PINS_MASK;
    if (pinned)
        atomic_fetch_sub_explicit(&job->page->word, PAGE_PIN, memory_order_relaxed);
    if ((word & PAGE_PINS_MASK) == PAGE_PIN && page_level(word) != PGS_LEVEL_PINNED)
        release_one(job->store);
    page_publish(job->store, job->page, 0, 0);
    return pinned ? PGS_OK : PGS_E_INVALID;
}

static bool all_exist(const struct job *job, const uint64_t *page_nos, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (page_nos[i] >= job->object->page_count)
            return false;
    return true;
}

int pgs_pin(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_MOVES, 0, NULL);
    if (error)
        return error;
    size_t done = 0;
    if (!all_exist(&call.job, page_nos, count))
        error = PGS_E_RANGE;
    for (; done < count && !error; done++) {
        call_select(&call, page_nos[done]);
        error = pin_page(&call.job);
    }
    if (error && done > 0)
        for (done--; done > 0; done--) {
            call_select(&call, page_nos[done - 1]);
            unpin_page(&call.job);
        }
    call_note(&call, 0, error);
    return call_end(&call);
}

int pgs_unpin(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_USES, 0, NULL);
    if (error)
        return error;
    if (!all_exist(&call.job, page_nos, count))
        error = PGS_E_RANGE;
    for (size_t i = 0; i < count && !error; i++) {
        call_select(&call, page_nos[i]);
        error = unpin_page(&call.job);
    }
    if (!section_is(call.job.section, PGS_SECTION_ATOMIC))
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
    error = call_select(&call, page_no);
    /* One more pin on a page that is held waits for nothing. */
    if (!error && section_is(call.job.section, PGS_SECTION_ATOMIC) &&
        !page_is_held(page_load(call.job.page)))
        error = PGS_E_ATOMIC;
    if (!error)
        error = pin_page(&call.job);
    if (!error)
        *page_ret = frame_bytes(store, call.job.page->frame);
    call_note(&call, 0, error);
    return call_end(&call);
}

/* Gives a claimed page its level, and the queue's or the held count's place
 * that goes with it. */
static int set_level(const struct job *job, unsigned level)
{
    pgs_store *store = job->store;
    uint64_t word = page_load(job->page);
    unsigned old = page_level(word);
    bool pinned = word & PAGE_PINS_MASK;
    if (old == level)
        return PGS_OK;
    if (level == PGS_LEVEL_PINNED && !pinned && !hold_one(job))
        return PGS_E_BUDGET;
    int error = level == PGS_LEVEL_PINNED ? ensure_hot(job) : PGS_OK;
    if (error) {
        if (!pinned)
            release_one(store);
        return error;
    }
    bool hot = page_load(job->page) & PAGE_HOT;
    uint32_t frame = job->page->frame;
    if (hot && old != PGS_LEVEL_PINNED)
        evict_remove(store->queue, frame);
    atomic_fetch_and_explicit(&job->page->word, ~PAGE_LEVEL_MASK, memory_order_relaxed);
    atomic_fetch_or_explicit(&job->page->word, (uint64_t)level << PAGE_LEVEL_SHIFT,
                             memory_order_relaxed);
    if (hot) {
        store->frames[frame].level = (uint8_t)level;
        if (level != PGS_LEVEL_PINNED)
            evict_insert(store->queue, frame, (uint32_t)clock_of(store), false);
    }
    if (old == PGS_LEVEL_PINNED && !pinned)
        release_one(store);
    return PGS_OK;
}

static int claim_and_set_level(struct call *call, uint64_t page_no, unsigned level,
                               uint8_t *old_level_ret)
{
    const struct job *job = &call->job;
    call_select(call, page_no);
    page_claim(job->store, job->page);
    *old_level_ret = (uint8_t)page_level(page_load(job->page));
    int error = set_level(job, level);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

/* All or none: what was changed before an error is changed back. */
static int set_levels(struct call *call, uint64_t first, uint64_t count, unsigned level)
{
    uint8_t *old_levels = malloc(count + 1);
    int error = old_levels ? PGS_OK : PGS_E_NOMEM;
    uint64_t done = 0;
    for (; !error && done < count; done++)
        error = claim_and_set_level(call, first + done, level, &old_levels[done]);
    if (error && done > 0)
        for (done--; done > 0; done--) {
            uint8_t unused;
            claim_and_set_level(call, first + done - 1, old_levels[done - 1], &unused);
        }
    free(old_levels);
    return error;
}

int pgs_set_level(pgs_store *store, uint32_t object, uint64_t first_page_no, uint64_t page_count,
                  uint32_t level)
{
    struct call call;
    if (level >= PGS_LEVEL_COUNT)
        return PGS_E_INVALID;
    int error = call_begin(&call, store, object, CALL_MOVES, 0, NULL);
    if (error)
        return error;
    uint64_t pages = call.job.object->page_count;
    if (first_page_no > pages || page_count > pages - first_page_no)
        error = PGS_E_RANGE;
    else
        error = set_levels(&call, first_page_no, page_count, level);
    call_note(&call, 0, error);
    return call_end(&call);
}
