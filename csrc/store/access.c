/* SPDX-License-Identifier: MIT
 *
 * Reads and writes.
 */
#include <stdlib.h>
#include <string.h>

#include "map/range.h"
#include "store/call.h"

enum { ENTRIES_AHEAD = 4 };

void page_note_use(const struct job *job)
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
    const struct family *family = job->object->family;
    if (page_level(word) == PGS_LEVEL_PINNED)
        return true;
    /* Zeros are had without one as quickly. */
    if (family && !(word & PAGE_COPY) &&
        page_is_as_origin(job->page, family->blank.origin_sum))
        return false;
    return budget_has(store, store->page_size + sizeof(struct frame)) ||
           page_is_ghost(store, word, clock_of(store));
}

/* Has a page, claimed, in a frame; a hit is noted. On error it is not claimed any more. */
static int make_hot(const struct job *job)
{
    if (page_load(job->page) & PAGE_HOT) {
        page_note_use(job);
        return PGS_OK;
    }
    int error = page_bring_in(job);
    if (error)
        page_publish(job->store, job->page, 0, 0);
    return error;
}

int page_claim_hot(const struct job *job)
{
    int error = page_claim_to_use(job);
    return error ? error : make_hot(job);
}

/* A page that is held by PAGE_READER, and is another by now, is let go. */
static int end_if_moved(const struct job *job)
{
    if (job_is_current(job))
        return PGS_OK;
    page_end_read(job->page);
    return PAGE_MOVED;
}

static int read_through(const struct job *job, uint64_t word, void *out)
{
    pgs_store *store = job->store;
    if (!job_is_current(job))
        return end_if_moved(job);
    /* The clock is shared: it is paid at the end of the call. */
    uint64_t clock = clock_of(store) + ++job->worker->ticks_owed;
    int error = page_may_fault(job);
    if (!error)
        error = page_fetch(job, word, out);
    end_fetch(job->page, stamp_of(store, clock));
    return error;
}

/* Compares a page in its frame with what it must be. */
static int compare(const struct job *job, const void *expected)
{
    const unsigned char *bytes = page_bytes(job);
    return memcmp(bytes, expected, job->store->page_size) ? PGS_E_CORRUPT : PGS_OK;
}

/* Has the page in a frame, to be read there: held by PAGE_READER where it was
 * hot, else claimed. */
static int begin_hot_read(const struct job *job, bool *claimed_ret)
{
    struct page *page = job->page;
    uint64_t word = page_load(page);
    int error = page_may_use(job, word);
    bump(&job->worker->counters.reads, 1);
    *claimed_ret = false;
    while (!error && (word & PAGE_HOT) && !(word & PAGE_BUSY))
        if (page_swap(page, &word, word + PAGE_READER)) {
            error = end_if_moved(job);
            if (!error)
                page_note_use(job);
            return error;
        }
    *claimed_ret = true;
    return error ? error : page_claim_hot(job);
}

static void end_hot_read(const struct job *job, bool claimed)
{
    if (claimed)
        page_publish(job->store, job->page, 0, 0);
    else
        page_end_read(job->page);
}

int page_compare(const struct job *job, void *expected)
{
    bool claimed;
    int error = begin_hot_read(job, &claimed);
    if (error)
        return error;
    error = compare(job, expected);
    end_hot_read(job, claimed);
    return error;
}

/* A page that has no entry: zeros, got as from anywhere else. */
static int read_nothing(const struct job *job, void *out, uint32_t size)
{
    const struct page *blank = &job->object->family->blank;
    struct counters *counters = &job->worker->counters;
    uint64_t word = page_load(blank);
    int error = page_may_use(job, word);
    if (!error)
        error = page_may_fault(job);
    bump(&counters->reads, 1);
    if (error)
        return error;
    memset(out, 0, size);
    job->worker->ticks_owed++;
    bump(&counters->faults[PGS_SOURCE_ZERO], 1);
    bump(&counters->level_faults[page_level(word)], 1);
    return PGS_OK;
}

int page_read_part(const struct job *job, void *bytes)
{
    const struct part *part = bytes;
    bool claimed;
    if (!job->page)
        return read_nothing(job, part->out, part->size);
    int error = begin_hot_read(job, &claimed);
    if (error)
        return error;
    memcpy(part->out, page_bytes(job) + part->offset, part->size);
    end_hot_read(job, claimed);
    return PGS_OK;
}

static int read_page(const struct job *job, void *out, bool into_frame)
{
    pgs_store *store = job->store;
    struct page *page = job->page;
    if (!page)
        return read_nothing(job, out, store->page_size);
    uint64_t word = page_load(page);
    bump(&job->worker->counters.reads, 1);
    for (;;) {
        int refused = job->section ? page_may_use(job, word) : PGS_OK;
        if (refused)
            return refused;
        if (word & PAGE_BUSY) {
            int late = page_await(store, page);
            if (late)
                return late;
            word = page_load(page);
        } else if (word & PAGE_HOT) {
            if (!page_swap(page, &word, word + PAGE_READER))
                continue;
            if (!job_is_current(job))
                return end_if_moved(job);
            memcpy(out, page_bytes(job), store->page_size);
            page_note_use(job);
            page_end_read(page);
            return PGS_OK;
        } else if (into_frame || worth_a_frame(job, word)) {
            int error = page_claim_hot(job);
            if (!error) {
                memcpy(out, page_bytes(job), store->page_size);
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

/* As call_do, which a hit would feel. */
static int read_selected(struct call *call, uint64_t page_no, void *out, bool into_frame)
{
    int error;
    do {
        error = call_select(call, page_no);
        if (!error && !call->job.page && into_frame)
            error = slot_provide(&call->job);
        if (!error)
            error = read_page(&call->job, out, into_frame);
    } while (error == PAGE_MOVED);
    return error;
}

/* Has a page's entry on its way. */
static void prefetch_entry(const struct job *job, uint64_t page_no)
{
    if (job->object->pages && page_no < job->object->page_count)
        __builtin_prefetch(&job->object->pages[page_no]);
}

/* Has the compressed bytes of a page that is read next on their way. */
static void prefetch_bytes(const struct job *job, uint64_t page_no)
{
    if (job->object->pages && page_no < job->object->page_count)
        page_prefetch(job->store, &job->object->pages[page_no]);
}

static int read_pages(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                      uint32_t flags, void *out, int32_t *statuses_ret)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_USES, count, statuses_ret);
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        if (i + ENTRIES_AHEAD < count)
            prefetch_entry(&call.job, page_nos[i + ENTRIES_AHEAD]);
        if (i + 1 < count)
            prefetch_bytes(&call.job, page_nos[i + 1]);
        error = read_selected(&call, page_nos[i], (unsigned char *)out + i * store->page_size,
                              flags & PGS_READ_INTO_FRAME);
        if (!call_note(&call, i, error))
            break;
    }
    return call_end(&call);
}

/* The page, claimed and hot, got other bytes. */
static void now_dirty(const struct job *job)
{
    page_drop_copy(job);
    bump(&job->worker->counters.writes, 1);
    page_publish(job->store, job->page, PAGE_GONE, PAGE_DIRTY);
}

static int write_page(const struct job *job, void *bytes)
{
    pgs_store *store = job->store;
    int error = page_claim_to_use(job);
    if (error)
        return error;
    if (page_is_shared(job))
        return page_break(job, bytes);
    uint64_t word = page_load(job->page);
    if (word & PAGE_HOT) {
        memcpy(page_bytes(job), bytes, store->page_size);
        page_note_use(job);
    } else {
        /* The old bytes are not needed: no page-in, only a frame. */
        uint32_t frame;
        uint64_t clock = clock_tick(store);
        error = page_may_fault(job);
        if (!error)
            error = frame_take(store, job->worker, &frame);
        if (error) {
            page_publish(store, job->page, 0, 0);
            return error;
        }
        memcpy(frame_place(job, frame), bytes, store->page_size);
        page_drop_copy(job);
        page_install(job, frame, page_is_ghost(store, word, clock));
    }
    now_dirty(job);
    return PGS_OK;
}

static int write_pages(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                       const void *in, int32_t *statuses_ret)
{
    return call_for_each(store, object, CALL_USES, page_nos, count, statuses_ret,
                         NEEDS_ENTRY, write_page, (void *)(uintptr_t)in);
}

/* To or from where bytes may be missing (map/range.h): nobody faults who has claimed a page, or
 * has a worker, so each page is a call of its own and comes here on its way. */
static int on_the_way(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                      uint32_t flags, unsigned char *out, const unsigned char *in,
                      int32_t *statuses_ret)
{
    size_t size = store->page_size;
    unsigned char *page = malloc(size);
    int first_error = PGS_OK;
    for (size_t i = 0; i < count && (statuses_ret || !first_error); i++) {
        uint64_t page_no = page_nos[i];
        int error = PGS_E_NOMEM;
        if (page && in)
            memcpy(page, in + i * size, size);
        if (page)
            error = in ? write_pages(store, object, &page_no, 1, page, NULL)
                       : read_pages(store, object, &page_no, 1, flags, page, NULL);
        if (out && !error)
            memcpy(out + i * size, page, size);
        if (statuses_ret)
            statuses_ret[i] = error;
        if (!first_error)
            first_error = error;
    }
    free(page);
    return first_error;
}

int pgs_read(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
             uint32_t flags, void *out, int32_t *statuses_ret)
{
    if (range_has_any(out, count * store->page_size))
        return on_the_way(store, object, page_nos, count, flags, out, NULL, statuses_ret);
    return read_pages(store, object, page_nos, count, flags, out, statuses_ret);
}

int pgs_read_page(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t flags, void *out)
{
    return pgs_read(store, object, &page_no, 1, flags, out, NULL);
}

int pgs_write(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
              const void *in, int32_t *statuses_ret)
{
    if (range_has_any(in, count * store->page_size))
        return on_the_way(store, object, page_nos, count, 0, NULL, in, statuses_ret);
    return write_pages(store, object, page_nos, count, in, statuses_ret);
}

int page_write_part(const struct job *job, void *bytes)
{
    const struct part *part = bytes;
    if (part->size == job->store->page_size)
        return write_page(job, (void *)(uintptr_t)part->in);
    int error = page_claim_to_use(job);
    if (error)
        return error;
    if (page_is_shared(job))
        return page_break(job, NULL);
    error = make_hot(job);
    if (error)
        return error;
    memcpy(page_bytes(job) + part->offset, part->in, part->size);
    now_dirty(job);
    return PGS_OK;
}

static int write_part(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t offset,
                      const void *in, uint32_t size)
{
    struct call call;
    int error = call_begin(&call, store, object, CALL_USES, 1, NULL);
    if (error)
        return error;
    struct part part = {.offset = offset, .size = size, .in = in};
    error = call_do(&call, page_no, NEEDS_ENTRY, page_write_part, &part);
    call_note(&call, 0, error);
    return call_end(&call);
}

int pgs_write_part(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t offset,
                   const void *in, uint32_t size)
{
    if (offset > store->page_size || size > store->page_size - offset)
        return PGS_E_INVALID;
    if (!range_has_any(in, size))
        return write_part(store, object, page_no, offset, in, size);
    void *bytes = malloc(size);
    if (!bytes)
        return PGS_E_NOMEM;
    memcpy(bytes, in, size);
    int error = write_part(store, object, page_no, offset, bytes, size);
    free(bytes);
    return error;
}
