/* SPDX-License-Identifier: MIT
 *
 * Reclaim in the compressed pool, and the leave it must ask of pages to move
 * them. The coldest is chosen among the next few of a sweep, by weighted idle
 * time, as approximated LRU by sampling does (Redis): no list is kept.
 */
#include "store/store_internal.h"

enum { SAMPLES = 8, PASSED_MAX = 64 };

static struct page *page_of(pgs_store *store, struct pool_key key)
{
    return &object_of(store, key.object)->pages[key.page_no];
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
    struct page *page = &object->pages[key.page_no];
    uint64_t word = page_load(page);
    if (!page_can_lose_copy(object, word))
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

/* Writes a dirty compressed page, claimed, to its backing. */
static int write_back_copy(pgs_store *store, const struct job *job)
{
    struct encoder *encoder = encoder_take(store, job->object->codec, FOR_WRITE_BACK);
    uint32_t size;
    int error = page_decode_copy(job, encoder->coder, encoder->page, &size);
    if (!error)
        error = page_write_back(job, encoder->page);
    encoder_give(encoder);
    return error;
}

/* Drops the claimed page's copy, and publishes the page. */
static bool drop(const struct job *job)
{
    uint64_t word = page_load(job->page);
    bool gone = page_can_lose_copy(job->object, word);
    if (gone && (word & PAGE_DIRTY))
        gone = write_back_copy(job->store, job) == PGS_OK;
    if (gone) {
        page_drop_copy(job);
        if (!(word & PAGE_HOT))
            bump(&job->worker->counters.discards, 1);
    }
    page_publish(job->store, job->page, 0, 0);
    return gone;
}

bool pool_make_room(pgs_store *store, struct worker *worker)
{
    struct sample sample = {.store = store, .now = stamp_of(store, clock_of(store))};
    if (atomic_load_explicit(&store->reclaimable, memory_order_relaxed) == 0)
        return false;
    pool_sweep(&store->pool, consider, &sample);
    if (!sample.page)
        return false;
    struct job job = {.store = store, .worker = worker, .page = sample.page,
                      .object = object_of(store, sample.key.object),
                      .object_no = sample.key.object, .page_no = sample.key.page_no};
    return drop(&job);
}
