/* SPDX-License-Identifier: MIT
 *
 * Reclaim in the compressed pool, and the leave it must ask of pages to move
 * them. The coldest is chosen among the next few of a sweep, by weighted idle
 * time, as approximated LRU by sampling does (Redis): no list is kept.
 */
#include <string.h>

#include "store/store_internal.h"

enum { SAMPLES = 8, PASSED_MAX = 64, SETTLE_SAVES = 8 };

static struct page *page_of(pgs_store *store, struct pool_key key)
{
    return page_entry(object_of(store, key.object), key.page_no);
}

/* Whether the page's copy may be coded anew; that is tried once. */
static bool can_settle(const struct pgs_object *object, uint64_t word)
{
    return page_effort(word) == PGS_EFFORT_SETTLING && object->codecs[PGS_EFFORT_BALANCED] &&
           page_coding(word) != CODING_CODED + PGS_EFFORT_BALANCED &&
           !(word & (PAGE_HOT | PAGE_SETTLED));
}

static bool claim(void *ctx, struct pool_key key)
{
    return page_try_claim(page_of(ctx, key));
}

static void release(void *ctx, struct pool_key key, pool_place place)
{
    struct page *page = page_of(ctx, key);
    __atomic_store_n(&page->place, place, __ATOMIC_RELAXED);
    page_publish(ctx, page, 0, 0);
}

static bool charge(void *ctx, size_t bytes)
{
    return budget_charge(ctx, bytes);
}

static void uncharge(void *ctx, size_t bytes)
{
    budget_uncharge(ctx, bytes);
}

struct pool_owner pool_owner_of(pgs_store *store)
{
    return (struct pool_owner){
        .ctx = store, .claim = claim, .release = release, .charge = charge, .uncharge = uncharge};
}

struct sample {
    pgs_store *store;
    uint16_t now;
    unsigned taken, passed;
    uint64_t most_idle;
    struct pool_key key;
    struct page *page; /* claimed, or NULL */
};

static uint64_t weighted_idle(const struct sample *sample, uint64_t word)
{
    /* The copy of a page that is in a frame as well is the cheapest to lose. */
    if (word & PAGE_HOT)
        return UINT64_MAX;
    return ((uint64_t)(uint16_t)(sample->now - page_stamp(word)) + 1) *
           evict_weights[page_level(word)];
}

/* The best so far is claimed at once: as long as the sweep goes on its copy is
 * in the pool, and so its object is there; afterwards nobody else moves it. */
static bool consider(void *ctx, struct pool_key key)
{
    struct sample *sample = ctx;
    struct pgs_object *object = object_of(sample->store, key.object);
    struct page *page = page_entry(object, key.page_no);
    uint64_t word = page_load(page);
    if (!page_can_lose_copy(object, key.page_no, word) && !can_settle(object, word))
        return sample->taken == 0 || ++sample->passed < PASSED_MAX;
    if (weighted_idle(sample, word) <= sample->most_idle)
        return ++sample->taken < SAMPLES;
    if (!page_try_claim(page))
        return true;
    if (sample->page)
        page_publish(sample->store, sample->page, 0, 0);
    sample->page = page;
    sample->key = key;
    sample->most_idle = weighted_idle(sample, page_load(page));
    return ++sample->taken < SAMPLES && sample->most_idle != UINT64_MAX;
}

/* Both of an object's encoders, in an order that is the same for all objects: another
 * may have the same codecs the other way round. */
static void take_both(pgs_store *store, const pgs_codec *const *codecs, struct encoder **fast,
                      struct encoder **balanced)
{
    const pgs_codec *one = codecs[PGS_EFFORT_FAST], *other = codecs[PGS_EFFORT_BALANCED];
    if ((uintptr_t)one < (uintptr_t)other)
        *fast = encoder_take(store, one, FOR_WRITE_BACK);
    *balanced = encoder_take(store, other, FOR_WRITE_BACK);
    if ((uintptr_t)one > (uintptr_t)other)
        *fast = encoder_take(store, one, FOR_WRITE_BACK);
}

/* Codes a claimed page's copy, which is raw or coded fast, anew, balanced, where that
 * saves an eighth or more. */
static bool settle(const struct job *job)
{
    pgs_store *store = job->store;
    struct encoder *fast = NULL, *balanced = NULL;
    take_both(store, job->object->codecs, &fast, &balanced);
    uint32_t old_size;
    size_t size = 0;
    int error = page_decode_copy(job, fast->coder, fast->page, &old_size);
    if (!error)
        error = pgs_encode(balanced->coder, fast->page,
                           address_of(store, job->object, job->page_no), balanced->coded,
                           old_size - old_size / SETTLE_SAVES, &size);
    if (!error && size) {
        uint32_t place = job->page->place;
        memcpy(pool_bytes(&store->pool, place, &old_size), balanced->coded, size);
        pool_trim(&store->pool, place, (uint32_t)size);
        job->page->copy_sum = pgs_checksum(balanced->coded, size);
        page_set_coding(job->page, (enum page_coding)(CODING_CODED + PGS_EFFORT_BALANCED));
        bump(&job->worker->counters.encodes, 1);
    }
    atomic_fetch_or_explicit(&job->page->word, PAGE_SETTLED, memory_order_relaxed);
    encoder_give(balanced);
    encoder_give(fast);
    return !error && size;
}

enum yield { NOTHING_YIELDED, TRY_ANOTHER, ROOM_YIELDED };

/* Makes the claimed page's copy smaller, or drops it, and publishes the page. */
static enum yield yield_room(const struct job *job)
{
    uint64_t word = page_load(job->page);
    bool tried = can_settle(job->object, word);
    if (tried && settle(job)) {
        page_publish(job->store, job->page, 0, 0);
        return ROOM_YIELDED;
    }
    bool gone = page_can_lose_copy(job->object, job->page_no, word);
    if (gone && (word & PAGE_DIRTY))
        gone = page_write_back_copy(job) == PGS_OK;
    if (gone) {
        page_drop_copy(job);
        if (!(word & PAGE_HOT))
            bump(&job->worker->counters.discards, 1);
    }
    page_publish(job->store, job->page, 0, 0);
    return gone ? ROOM_YIELDED : tried ? TRY_ANOTHER : NOTHING_YIELDED;
}

static enum yield make_room_once(pgs_store *store, struct worker *worker)
{
    struct sample sample = {.store = store, .now = stamp_of(store, clock_of(store))};
    if (atomic_load_explicit(&store->reclaimable, memory_order_relaxed) == 0 &&
        !atomic_load_explicit(&store->settles, memory_order_relaxed))
        return NOTHING_YIELDED;
    pool_sweep(&store->pool, consider, &sample);
    if (!sample.page)
        return NOTHING_YIELDED;
    struct job job = {.store = store, .worker = worker, .page = sample.page,
                      .object = object_of(store, sample.key.object),
                      .object_no = sample.key.object, .page_no = sample.key.page_no};
    return yield_room(&job);
}

bool pool_make_room(pgs_store *store, struct worker *worker)
{
    enum yield yielded;
    /* What did not shrink is not tried again: this ends. */
    do
        yielded = make_room_once(store, worker);
    while (yielded == TRY_ANOTHER);
    return yielded == ROOM_YIELDED;
}
