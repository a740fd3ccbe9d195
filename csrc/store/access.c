/* SPDX-License-Identifier: MIT
 *
 * Reads, writes and explicit moves of pages. Each call takes a worker, then
 * works page by page.
 */
#include <string.h>

#include "store/store_internal.h"

enum { PREFETCH_LINES = 8, CACHE_LINE = 64 };

/* A call under way: the job's page changes from page to page. */
struct call {
    struct job job;
    int32_t *statuses; /* or NULL: stop at the first error */
    int first_error;
};

static int call_begin(struct call *call, pgs_store *store, uint32_t object, int32_t *statuses)
{
    struct worker *worker = worker_take(store);
    *call = (struct call){.job = {.store = store, .worker = worker, .object_no = object,
                                  .object = object_of(store, object)},
                          .statuses = statuses};
    int error = call->job.object ? worker_prepare(store, worker, call->job.object->codec)
                                 : PGS_E_RANGE;
    if (error)
        worker_give(worker);
    return error;
}

static bool call_select(struct call *call, uint64_t page_no)
{
    if (page_no >= call->job.object->page_count)
        return false;
    call->job.page_no = (uint32_t)page_no;
    call->job.page = &call->job.object->pages[page_no];
    return true;
}

/* Notes a page's outcome; false where the call is to stop. */
static bool call_note(struct call *call, size_t i, int error)
{
    if (call->statuses)
        call->statuses[i] = error;
    if (error && !call->first_error)
        call->first_error = error;
    return !error || call->statuses;
}

static int call_end(struct call *call)
{
    worker_give(call->job.worker);
    return call->first_error;
}

typedef int page_action(const struct job *job, void *bytes);

/* Does `action` for each page, with its bytes in a row of `bytes`. */
static int for_each(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                    int32_t *statuses, page_action *action, void *bytes)
{
    struct call call;
    int error = call_begin(&call, store, object, statuses);
    for (size_t i = 0; error && statuses && i < count; i++)
        statuses[i] = error;
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        void *at = bytes ? (unsigned char *)bytes + i * store->page_size : NULL;
        error = call_select(&call, page_nos[i]) ? action(&call.job, at) : PGS_E_RANGE;
        if (!call_note(&call, i, error))
            break;
    }
    return call_end(&call);
}

/* ---- reading ---- */

static void note_use(const struct job *job)
{
    evict_note(job->store->queue, job->page->frame, (uint32_t)clock_of(job->store));
    bump(&job->worker->counters.hits, 1);
}

/* Ends a read from outside the frames, and leaves the page's stamp. */
static void end_fetch(struct page *page, uint16_t stamp)
{
    uint64_t word = page_load(page);
    while (!page_swap(page, &word, page_with_stamp(word, stamp) - PAGE_READER))
        ;
}

/* A page read for the first time in a while is decoded straight to its
 * reader: it has to come back before it gets a frame, unless one is free. A
 * scan of the whole image thus leaves the frames as they are. */
static bool worth_a_frame(const struct job *job, uint64_t word)
{
    const pgs_store *store = job->store;
    return page_level(word) == PGS_LEVEL_PINNED || budget_has(store, store->page_size) ||
           page_is_ghost(store, word, clock_of(store));
}

/* Readies the page, claimed, in a frame; 0 where it is hot now, claimed. */
static int claim_hot(const struct job *job)
{
    page_claim(job->store, job->page);
    if (page_load(job->page) & PAGE_HOT)
        return PGS_OK;
    int error = page_bring_in(job);
    if (error)
        page_publish(job->store, job->page, 0, 0);
    return error;
}

static int read_through(const struct job *job, uint64_t word, void *out)
{
    pgs_store *store = job->store;
    uint64_t clock = atomic_fetch_add_explicit(&store->clock, 1, memory_order_relaxed) + 1;
    int error = page_fetch(job, word, out);
    end_fetch(job->page, stamp_of(store, clock));
    return error;
}

static int read_page(const struct job *job, void *out, bool into_frame)
{
    pgs_store *store = job->store;
    struct page *page = job->page;
    uint64_t word = page_load(page);
    for (;;) {
        if (word & PAGE_BUSY) {
            page_await(store, page);
            word = page_load(page);
        } else if (word & PAGE_HOT) {
            if (!page_swap(page, &word, word + PAGE_READER))
                continue;
            memcpy(out, frame_bytes(store, page->frame), store->page_size);
            note_use(job);
            page_end_read(page);
            return PGS_OK;
        } else if (into_frame || worth_a_frame(job, word)) {
            int error = claim_hot(job);
            if (!error) {
                memcpy(out, frame_bytes(store, page->frame), store->page_size);
                page_publish(store, page, 0, 0);
            } else if (error == PGS_E_BUDGET && !into_frame) {
                /* No frame can be had: the page can be read all the same. */
                if (page_swap(page, &word, word + PAGE_READER))
                    return read_through(job, word, out);
                word = page_load(page);
                continue;
            }
            return error;
        } else if (page_swap(page, &word, word + PAGE_READER)) {
            return read_through(job, word, out);
        }
    }
}

static int read_any(const struct job *job, void *out)
{
    bump(&job->worker->counters.reads, 1);
    return read_page(job, out, false);
}

static int read_into_frame(const struct job *job, void *out)
{
    bump(&job->worker->counters.reads, 1);
    return read_page(job, out, true);
}

/* Has the compressed bytes of a page that is read soon on their way. */
static void prefetch(const struct call *call, uint64_t page_no)
{
    const pgs_store *store = call->job.store;
    if (page_no >= call->job.object->page_count)
        return;
    const struct page *page = &call->job.object->pages[page_no];
    uint64_t word = atomic_load_explicit(&page->word, memory_order_relaxed);
    if ((word & (PAGE_HOT | PAGE_COPY)) != PAGE_COPY || page_coding(word) == CODING_SAME)
        return;
    uint64_t place = __atomic_load_n(&page->place, __ATOMIC_RELAXED);
    const unsigned char *bytes = store->pool.base + place * POOL_UNIT;
    for (unsigned line = 0; line < PREFETCH_LINES; line++)
        __builtin_prefetch(bytes + line * CACHE_LINE);
}

int pgs_read(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
             uint32_t flags, void *out, int32_t *statuses_ret)
{
    page_action *action = flags & PGS_READ_INTO_FRAME ? read_into_frame : read_any;
    struct call call;
    int error = call_begin(&call, store, object, statuses_ret);
    for (size_t i = 0; error && statuses_ret && i < count; i++)
        statuses_ret[i] = error;
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        if (i + 1 < count)
            prefetch(&call, page_nos[i + 1]);
        void *at = (unsigned char *)out + i * store->page_size;
        error = call_select(&call, page_nos[i]) ? action(&call.job, at) : PGS_E_RANGE;
        if (!call_note(&call, i, error))
            break;
    }
    return call_end(&call);
}

int pgs_read_page(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t flags, void *out)
{
    return pgs_read(store, object, &page_no, 1, flags, out, NULL);
}

/* ---- writing ---- */

/* The page, claimed and hot, got other bytes. */
static void now_dirty(const struct job *job)
{
    page_drop_copy(job);
    bump(&job->worker->counters.writes, 1);
    page_publish(job->store, job->page, 0, PAGE_DIRTY);
}

static int write_page(const struct job *job, void *bytes)
{
    pgs_store *store = job->store;
    page_claim(store, job->page);
    uint64_t word = page_load(job->page);
    if (word & PAGE_HOT) {
        memcpy(frame_bytes(store, job->page->frame), bytes, store->page_size);
        note_use(job);
    } else {
        /* The old bytes are not needed: no page-in, only a frame. */
        uint32_t frame;
        uint64_t clock = atomic_fetch_add_explicit(&store->clock, 1, memory_order_relaxed) + 1;
        int error = frame_take(store, job->worker, &frame);
        if (error) {
            page_publish(store, job->page, 0, 0);
            return error;
        }
        memcpy(frame_bytes(store, frame), bytes, store->page_size);
        page_drop_copy(job);
        page_install(job, frame, page_is_ghost(store, word, clock));
    }
    now_dirty(job);
    return PGS_OK;
}

int pgs_write(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
              const void *in, int32_t *statuses_ret)
{
    return for_each(store, object, page_nos, count, statuses_ret, write_page, (void *)(uintptr_t)in);
}

int pgs_write_part(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t offset,
                   const void *in, uint32_t size)
{
    struct call call;
    if (offset > store->page_size || size > store->page_size - offset)
        return PGS_E_INVALID;
    int error = call_begin(&call, store, object, NULL);
    if (error)
        return error;
    error = call_select(&call, page_no) ? claim_hot(&call.job) : PGS_E_RANGE;
    if (!error) {
        memcpy(frame_bytes(store, call.job.page->frame) + offset, in, size);
        now_dirty(&call.job);
    }
    call_note(&call, 0, error);
    return call_end(&call);
}

/* ---- explicit moves ---- */

static int page_in_page(const struct job *job, void *unused)
{
    (void)unused;
    int error = claim_hot(job);
    if (!error)
        page_publish(job->store, job->page, 0, 0);
    return error;
}

int pgs_page_in(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                int32_t *statuses_ret)
{
    return for_each(store, object, page_nos, count, statuses_ret, page_in_page, NULL);
}

static bool page_is_held(uint64_t word)
{
    return (word & PAGE_PINS_MASK) || page_level(word) == PGS_LEVEL_PINNED;
}

/* Who asks for a page to be compressed wants it kept so: frames make room
 * for it, other compressed pages only when there are few frames left. */
static void make_room_from_frames(const struct job *job)
{
    pgs_store *store = job->store;
    uint32_t frame;
    while (!budget_has(store, store->page_size + store->pool.os_page) &&
           frames_can_shrink(store) &&
           (frame_take_ready(store, &frame) || evict_one(store, job->worker, &frame)))
        if (!frame_release(store, frame)) {
            frame_give(store, frame);
            return;
        }
}

/* Compresses a page, claimed, that has no frame and no copy. */
static int compress_absent(const struct job *job)
{
    struct encoder *encoder = encoder_take(job->store, job->object->codec, FOR_PAGE_OUT);
    uint32_t no_frame = NO_FRAME;
    int error = page_fetch(job, page_load(job->page), encoder->page);
    if (!error)
        error = page_store_copy(job, encoder, encoder->page, false, &no_frame);
    encoder_give(encoder);
    return error;
}

/* Has a page, claimed and hot, leave its frame; publishes it. */
static int leave_frame(const struct job *job)
{
    uint32_t frame = job->page->frame;
    evict_remove(job->store->queue, frame);
    frame_in_hand(job->store);
    int error = page_leave(job, &frame);
    if (error) {
        evict_insert(job->store->queue, frame, (uint32_t)clock_of(job->store), false);
        frame_off_hand(job->store);
        page_publish(job->store, job->page, 0, 0);
    } else if (frame != NO_FRAME) {
        frame_give(job->store, frame);
    }
    return error == PGS_E_DIRTY ? PGS_E_BUDGET : error;
}

static int page_out_page(const struct job *job, void *unused)
{
    (void)unused;
    page_claim(job->store, job->page);
    uint64_t word = page_load(job->page);
    int error = page_is_held(word) ? PGS_E_PINNED : PGS_OK;
    if (!error && !(word & PAGE_COPY))
        make_room_from_frames(job);
    if (!error && (word & PAGE_HOT))
        return leave_frame(job);
    if (!error && !(word & PAGE_COPY))
        error = compress_absent(job);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

int pgs_page_out(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                 int32_t *statuses_ret)
{
    return for_each(store, object, page_nos, count, statuses_ret, page_out_page, NULL);
}

static int discard_page(const struct job *job, void *unused)
{
    (void)unused;
    pgs_store *store = job->store;
    page_claim(store, job->page);
    uint64_t word = page_load(job->page);
    int error = page_is_held(word) ? PGS_E_PINNED : PGS_OK;
    if (!error && (word & PAGE_HOT)) {
        uint32_t frame = job->page->frame;
        if (!page_is_clean(job, frame_bytes(store, frame))) {
            error = PGS_E_DIRTY;
        } else {
            evict_remove(store->queue, frame);
            frame_in_hand(store);
            frame_give(store, frame);
        }
    } else if (!error && (word & PAGE_DIRTY)) {
        error = PGS_E_DIRTY;
    }
    if (!error && (word & (PAGE_HOT | PAGE_COPY))) {
        page_drop_copy(job);
        bump(&job->worker->counters.discards, 1);
    }
    page_publish(store, job->page, error ? 0 : PAGE_HOT, 0);
    return error;
}

int pgs_discard(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                int32_t *statuses_ret)
{
    return for_each(store, object, page_nos, count, statuses_ret, discard_page, NULL);
}
