/* SPDX-License-Identifier: MIT
 *
 * How pages are treated: level, codec, lowest tier.
 */
#include <stdlib.h>

#include "store/call.h"

static uint8_t treatment_of(uint64_t word)
{
    return (uint8_t)(page_level(word) + page_effort(word) * PGS_TREAT_EFFORT +
                     (word & PAGE_STAYS ? PGS_TREAT_STAYS : 0));
}

static unsigned effort_of(uint8_t treatment)
{
    return treatment / PGS_TREAT_EFFORT & 3;
}

bool is_treatment(uint8_t treatment)
{
    return treatment < PGS_TREAT_END && effort_of(treatment) < PGS_EFFORT_COUNT &&
           (treatment & PGS_TREAT_LEVEL_MASK) < PGS_LEVEL_COUNT;
}

uint64_t treatment_bits(uint8_t treatment)
{
    uint64_t level = treatment & PGS_TREAT_LEVEL_MASK;
    uint64_t effort = effort_of(treatment);
    return level << PAGE_LEVEL_SHIFT | effort << PAGE_EFFORT_SHIFT |
           (treatment & PGS_TREAT_STAYS ? PAGE_STAYS : 0);
}

/* A page with a copy in the pool may have become one that reclaim can drop, or none. */
static void recount(const struct job *job, uint64_t before, uint64_t after)
{
    bool was = page_can_lose_copy(job->object, job->page_no, before);
    bool is = page_can_lose_copy(job->object, job->page_no, after);
    if (!(after & PAGE_COPY) || page_coding(after) == CODING_SAME || was == is)
        return;
    if (is)
        atomic_fetch_add_explicit(&job->store->reclaimable, 1, memory_order_relaxed);
    else
        atomic_fetch_sub_explicit(&job->store->reclaimable, 1, memory_order_relaxed);
}

static void set_bits(const struct job *job, uint8_t treatment)
{
    const uint64_t mask = PAGE_LEVEL_MASK | PAGE_EFFORT_MASK | PAGE_STAYS;
    struct page *page = job->page;
    uint64_t before = page_load(page), after;
    do
        after = (before & ~mask) | treatment_bits(treatment);
    while (!page_swap(page, &before, after));
    recount(job, before, after);
}

/* Gives a claimed page its treatment, and the queue's or the held count's place
 * that goes with its level. */
static int treat(const struct job *job, uint8_t treatment)
{
    pgs_store *store = job->store;
    unsigned level = treatment & PGS_TREAT_LEVEL_MASK;
    uint64_t word = page_load(job->page);
    unsigned old = page_level(word);
    bool pinned = word & PAGE_PINS_MASK;
    if (level == PGS_LEVEL_PINNED && old != level) {
        int error = page_hold(job);
        if (error)
            return error;
    }
    bool hot = page_load(job->page) & PAGE_HOT;
    uint32_t frame = job->page->frame;
    bool moves = hot && old != level;
    if (moves && old != PGS_LEVEL_PINNED)
        evict_remove(store->queue, frame);
    set_bits(job, treatment);
    if (moves) {
        store->frames[frame].level = (uint8_t)level;
        if (level != PGS_LEVEL_PINNED)
            evict_insert(store->queue, frame, (uint32_t)clock_of(store), false);
    }
    if (old == PGS_LEVEL_PINNED && level != old && !pinned)
        page_release(store);
    return PGS_OK;
}

struct change {
    uint8_t from, to;
};

/* A page that others have as well is treated for all of them. */
static int claim_and_treat(const struct job *job, void *changed)
{
    struct change *change = changed;
    int error = job_claim(job);
    if (error)
        return error;
    change->from = treatment_of(page_load(job->page));
    error = treat(job, change->to);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

static int treat_one(struct call *call, uint64_t page_no, uint8_t treatment, uint8_t *old_ret)
{
    struct change change = {.to = treatment};
    int error = call_do(call, page_no, NEEDS_ENTRY, claim_and_treat, &change);
    *old_ret = change.from;
    return error;
}

static bool pins(uint8_t treatment)
{
    return (treatment & PGS_TREAT_LEVEL_MASK) == PGS_LEVEL_PINNED;
}

/* All or none. Pages that are to be held come first: only they can be refused, and
 * nothing was let go by then that would have to be had back. */
static int treat_all(struct call *call, const uint64_t *page_nos, const uint8_t *treatments,
                     size_t count)
{
    uint8_t *old = malloc(count + 1), unused;
    int error = old ? PGS_OK : PGS_E_NOMEM;
    size_t done = 0;
    if (!error && !call_has(call, page_nos, count))
        error = PGS_E_RANGE;
    for (; !error && done < count; done++)
        if (pins(treatments[done]))
            error = treat_one(call, page_nos[done], treatments[done], &old[done]);
    if (error && done > 0)
        for (done--; done > 0; done--)
            if (pins(treatments[done - 1]))
                treat_one(call, page_nos[done - 1], old[done - 1], &unused);
    for (size_t i = 0; !error && i < count; i++)
        if (!pins(treatments[i]))
            error = treat_one(call, page_nos[i], treatments[i], &unused);
    free(old);
    return error;
}

int pgs_treat(pgs_store *store, uint32_t object, const uint64_t *page_nos,
              const uint8_t *treatments, size_t count)
{
    struct call call;
    for (size_t i = 0; i < count; i++)
        if (!is_treatment(treatments[i]))
            return PGS_E_INVALID;
    int error = call_begin(&call, store, object, CALL_MOVES, 0, NULL);
    if (error)
        return error;
    call_note(&call, 0, treat_all(&call, page_nos, treatments, count));
    return call_end(&call);
}
