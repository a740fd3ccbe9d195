/* SPDX-License-Identifier: MIT
 *
 * Page-out: same-filled, else coded, else raw; clean pages of eager levels,
 * and clean pages for which there is no room, are dropped.
 */
#include <string.h>

#include "store/backing.h"
#include "store/store_internal.h"

enum { STAYS_MAX = 64 }; /* dirty pages without room that are tried for one frame */

/* Whether the page's bytes are those its backing gives. Knows by checksum, and
 * takes DIRTY back where the page was changed back. Without a backing a page
 * of zeros is clean: it reads as zeros when absent. */
bool page_is_clean(const struct job *job, const void *bytes)
{
    struct page *page = job->page;
    if (!(page_load(page) & PAGE_DIRTY))
        return true;
    if (!page_is_as_origin(page, pgs_checksum(bytes, job->store->page_size)))
        return false;
    atomic_fetch_and_explicit(&page->word, ~PAGE_DIRTY, memory_order_relaxed);
    return true;
}

static void set_copy(struct page *page, enum page_coding coding)
{
    atomic_fetch_and_explicit(&page->word, ~PAGE_CODING_MASK, memory_order_relaxed);
    atomic_fetch_or_explicit(&page->word, PAGE_COPY | (uint64_t)coding << PAGE_CODING_SHIFT,
                             memory_order_relaxed);
}

void page_drop_copy(const struct job *job)
{
    uint64_t word = page_load(job->page);
    if (!(word & PAGE_COPY))
        return;
    atomic_fetch_and_explicit(&job->page->word, ~PAGE_COPY, memory_order_relaxed);
    if (page_coding(word) == CODING_SAME)
        return;
    if (page_can_lose_copy(job->object, word))
        atomic_fetch_sub_explicit(&job->store->reclaimable, 1, memory_order_relaxed);
    pool_free(&job->store->pool, job->page->place);
    if (pool_is_loose(&job->store->pool))
        pool_compact(&job->store->pool, 2);
}

static struct pool_key key_of(const struct job *job)
{
    return (struct pool_key){.page_no = job->page_no, .object = (uint16_t)job->object_no};
}

/* Pays for the pool's growth with the RAM of the frame that the page leaves. */
static bool trade_frame(const struct job *job, uint32_t size, uint32_t *frame,
                        pool_place *place_ret)
{
    pgs_store *store = job->store;
    struct pool_growth growth = {.allowed = true, .credit = store->page_size};
    if (size + POOL_HEADER_BYTES > store->page_size || !frame_part(store, *frame))
        return false;
    if (pool_alloc(&store->pool, key_of(job), size, &growth, place_ret)) {
        frame_keep(store);
        return false;
    }
    frame_parted(store, *frame, growth.credit);
    *frame = NO_FRAME;
    return true;
}

/* Finds room in the pool: what is there or free in the budget; then the RAM of
 * the frame that the page leaves (it is NO_FRAME afterwards), as long as the
 * pool is below its share; then a colder compressed page's. `keep`: no other
 * tier takes these bytes; they may have the frame's RAM whatever the share. */
static int find_place(const struct job *job, uint32_t size, bool keep, uint32_t *frame,
                      pool_place *place_ret)
{
    pgs_store *store = job->store;
    for (;;) {
        bool below = pool_over_share(store, size) == 0;
        struct pool_growth growth = {.allowed = below || keep};
        if (!pool_alloc(&store->pool, key_of(job), size, &growth, place_ret) ||
            (below && trade_frame(job, size, frame, place_ret)))
            return PGS_OK;
        if (!pool_make_room(store, job->worker))
            return keep && trade_frame(job, size, frame, place_ret) ? PGS_OK : PGS_E_BUDGET;
    }
}

/* Makes the page's compressed copy from `bytes`; the page has none. *frame:
 * see find_place; NO_FRAME where it is in none. */
int page_store_copy(const struct job *job, struct encoder *encoder, const void *bytes, bool keep,
                    uint32_t *frame)
{
    pgs_store *store = job->store;
    struct page *page = job->page;
    struct counters *counters = &job->worker->counters;
    uint64_t fill;
    if (pgs_same_filled(bytes, store->page_size, &fill)) {
        page->fill = fill;
        set_copy(page, CODING_SAME);
        return PGS_OK;
    }
    uint64_t start = nanoseconds(store);
    const void *data = bytes;
    size_t size = 0;
    pool_place place = 0;
    int error = PGS_OK;
    if (encoder->coder)
        error = pgs_encode(encoder->coder, bytes, address_of(store, job->object, job->page_no),
                           encoder->coded, store->page_size - POOL_HEADER_BYTES, &size);
    if (size)
        data = encoder->coded;
    if (!error)
        error = find_place(job, size ? (uint32_t)size : store->page_size, keep, frame, &place);
    if (!error) {
        uint32_t stored_size;
        unsigned char *to = pool_bytes(&store->pool, place, &stored_size);
        memcpy(to, data, stored_size);
        page->copy_sum = pgs_checksum(to, stored_size);
        __atomic_store_n(&page->place, place, __ATOMIC_RELAXED);
        set_copy(page, size ? CODING_CODED : CODING_RAW);
        if (page_can_lose_copy(job->object, page_load(page)))
            atomic_fetch_add_explicit(&store->reclaimable, 1, memory_order_relaxed);
    }
    bump(&counters->encodes, 1);
    if (start)
        bump(&counters->encode_ns, nanoseconds(store) - start);
    return error;
}

static int store_copy(const struct job *job, const void *bytes, bool keep, uint32_t *frame)
{
    if (job->packer)
        return page_store_copy(job, job->packer, bytes, keep, frame);
    struct encoder *encoder = encoder_take(job->store, job->object->codec, FOR_PAGE_OUT);
    int error = page_store_copy(job, encoder, bytes, keep, frame);
    encoder_give(encoder);
    return error;
}

int page_write_back(const struct job *job, const void *bytes)
{
    const struct pgs_backing *backing = &job->object->backing;
    if (!backing->page_out)
        return PGS_E_DIRTY;
    int error = backing_page_out(job->store, backing, job->page_no, bytes);
    uint64_t sum = pgs_checksum(bytes, job->store->page_size);
    /* After an error the backing may hold a mixture: no bytes are equal to it. */
    atomic_store_explicit(&job->page->origin_sum, error ? ~sum : sum, memory_order_relaxed);
    if (error)
        return error;
    atomic_fetch_and_explicit(&job->page->word, ~PAGE_DIRTY, memory_order_relaxed);
    bump(&job->worker->counters.writebacks, 1);
    return PGS_OK;
}

/* Gets a claimed hot page, no longer queued, out of its frame, and publishes
 * it. *frame is NO_FRAME afterwards where its RAM went to the pool. An error:
 * the page stays as it was, claimed. */
int page_leave(const struct job *job, uint32_t *frame)
{
    pgs_store *store = job->store;
    const unsigned char *bytes = frame_bytes(store, *frame);
    bool clean = page_is_clean(job, bytes);
    uint64_t word = page_load(job->page);
    bool dropped = false;
    if (!(word & PAGE_COPY)) {
        uint64_t fill;
        bool unwanted = page_level(word) >= PGS_LEVEL_EAGER || budget_pool_share(store) == 0;
        dropped = clean && unwanted && !pgs_same_filled(bytes, store->page_size, &fill);
        bool keep = !clean && !job->object->backing.page_out;
        if (!dropped && store_copy(job, bytes, keep, frame)) {
            int error = clean ? PGS_OK : page_write_back(job, bytes);
            if (error)
                return error;
            dropped = true;
        }
    }
    bump(&job->worker->counters.page_outs, 1);
    if (dropped)
        bump(&job->worker->counters.discards, 1);
    uint64_t stamp = (uint64_t)stamp_of(store, clock_of(store)) << PAGE_STAMP_SHIFT;
    page_publish(store, job->page, PAGE_HOT | PAGE_STAMP_MASK, stamp);
    return PGS_OK;
}

struct departure {
    pgs_store *store;
    uint32_t guarded; /* a page is safe for so many faults of its thread */
};

static struct page *page_in_frame(pgs_store *store, uint32_t frame)
{
    const struct frame *row = &store->frames[frame];
    return &object_of(store, row->object)->pages[row->page_no];
}

static bool claim_victim(void *ctx, uint32_t frame)
{
    const struct departure *departure = ctx;
    pgs_store *store = departure->store;
    const struct frame *row = &store->frames[frame];
    uint32_t seq = atomic_load_explicit(&store->workers[row->guard_worker].fault_seq,
                                        memory_order_relaxed);
    return seq - row->guard_seq >= departure->guarded &&
           page_try_claim(page_in_frame(store, frame));
}

/* Holds a victim against what must never leave: what is held, and what this
 * thread has just faulted in. */
static void audit(const struct job *job, const struct frame *row)
{
    uint32_t seq = atomic_load_explicit(&job->worker->fault_seq, memory_order_relaxed);
    bool just_came = row->guard_worker == job->worker->index && row->guard_seq == seq;
    if (page_is_held(page_load(job->page)) || just_came)
        atomic_fetch_add_explicit(&job->store->breaches, 1, memory_order_relaxed);
}

/* Has the policy's choice leave. 1: *frame_ret is free; 0: its RAM went to
 * the pool; an error: it stays, as it is dirty and there is no room for it. */
static int evict_frame(pgs_store *store, struct worker *worker, uint32_t frame,
                       uint32_t *frame_ret)
{
    const struct frame *row = &store->frames[frame];
    struct job job = {.store = store, .worker = worker, .object = object_of(store, row->object),
                      .page = page_in_frame(store, frame), .object_no = row->object,
                      .page_no = row->page_no};
    *frame_ret = frame;
    /* The verifier evicts what has just come on purpose. */
    if ((store->flags & (PGS_STORE_AUDIT | PGS_STORE_VERIFY)) == PGS_STORE_AUDIT)
        audit(&job, row);
    frame_in_hand(store);
    int error = page_leave(&job, frame_ret);
    if (error) {
        evict_insert(store->queue, frame, (uint32_t)clock_of(store), true);
        frame_off_hand(store);
        page_publish(store, job.page, 0, 0);
        return error;
    }
    return *frame_ret != NO_FRAME;
}

enum { NO_VICTIM = 2 };

/* Has the policy's choice leave among the pages that came at least so many faults of
 * their thread ago: as evict_frame, or NO_VICTIM. */
static int evict_unguarded(pgs_store *store, struct worker *worker, uint32_t guarded,
                           uint32_t *frame_ret)
{
    struct departure departure = {.store = store, .guarded = guarded};
    uint32_t frame = evict_victim(store->queue, (uint32_t)clock_of(store), claim_victim,
                                  &departure);
    return frame == NO_FRAME ? NO_VICTIM : evict_frame(store, worker, frame, frame_ret);
}

bool evict_one(pgs_store *store, struct worker *worker, uint32_t *frame_ret)
{
    /* At first no page that a thread has just faulted in goes; then none but
     * the last; then the last of threads that fault no more as well. */
    const uint32_t guards[] = {GUARDED_FAULTS, 1, 0};
    uint32_t stays = 0;
    for (unsigned i = 0; i < sizeof guards / sizeof *guards; i++) {
        int left;
        while ((left = evict_unguarded(store, worker, guards[i], frame_ret)) != NO_VICTIM) {
            if (left > 0)
                return true;
            stays += left < 0;
            if (stays == STAYS_MAX)
                return false;
        }
    }
    return false;
}

bool evict_any(pgs_store *store, struct worker *worker, uint32_t *frame_ret)
{
    int left = evict_unguarded(store, worker, 0, frame_ret);
    return left == 0 || left == 1;
}
