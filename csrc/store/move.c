/* SPDX-License-Identifier: MIT
 *
 * Moves of pages between the tiers that a caller asks for by name.
 */
#include "store/call.h"

static int page_in_page(const struct job *job, void *unused)
{
    (void)unused;
    int error = page_claim_hot(job);
    if (!error)
        page_publish(job->store, job->page, 0, 0);
    return error;
}

int pgs_page_in(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                int32_t *statuses_ret)
{
    return call_for_each(store, object, CALL_USES, page_nos, count, statuses_ret,
                         NEEDS_ENTRY, page_in_page, NULL);
}

/* Who asks for a page to be compressed wants it kept so: frames make room
 * for it, other compressed pages only when there are few frames left. */
static void make_room_from_frames(const struct job *job)
{
    pgs_store *store = job->store;
    while (!budget_has(store, store->page_size + store->pool.os_page) &&
           frames_shrink(store, job->worker))
        ;
}

/* Compresses a page, claimed, that has no frame and no copy. */
static int compress_absent(const struct job *job)
{
    struct encoder *encoder = job->packer;
    if (!encoder)
        encoder = encoder_for(job);
    uint32_t no_frame = NO_FRAME;
    int error = page_fetch(job, page_load(job->page), encoder->page);
    if (!error)
        error = page_store_copy(job, encoder, encoder->page, true, &no_frame);
    if (!job->packer)
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
    int error = job->page ? job_claim(job) : PGS_OK;
    if (error || !job->page)
        return error;
    uint64_t word = page_load(job->page);
    error = page_is_held(word) ? PGS_E_PINNED : PGS_OK;
    if (!error && !(word & PAGE_COPY))
        make_room_from_frames(job);
    if (!error && (word & PAGE_HOT))
        return leave_frame(job);
    if (!error && !(word & (PAGE_COPY | PAGE_GONE)))
        error = section_is(job->section, PGS_SECTION_PAGER) ? PGS_E_PAGER : compress_absent(job);
    page_publish(job->store, job->page, 0, 0);
    return error;
}

int pgs_page_out(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                 int32_t *statuses_ret)
{
    return call_for_each(store, object, CALL_MOVES, page_nos, count, statuses_ret,
                         LOOKS, page_out_page, NULL);
}

/* An encoder of a level of its own, paid for. */
static int open_packer(const struct job *job, int32_t level, pgs_codec **codec_ret,
                       struct encoder *encoder)
{
    pgs_store *store = job->store;
    *codec_ret = NULL;
    if (!job->object->codecs[PGS_EFFORT_FAST])
        return PGS_E_UNSUPPORTED;
    int error = pgs_codec_open_like(job->object->codecs[PGS_EFFORT_FAST], level, codec_ret);
    if (error)
        return error;
    error = metadata_charge(store, job->worker, pgs_codec_memory_bytes(*codec_ret));
    if (!error) {
        error = encoder_open(store, job->worker, *codec_ret, encoder);
        if (error)
            metadata_uncharge(store, pgs_codec_memory_bytes(*codec_ret));
    }
    if (error)
        pgs_codec_close(*codec_ret);
    return error;
}

static void close_packer(const struct job *job, pgs_codec *codec, struct encoder *encoder)
{
    encoder_close(job->store, encoder);
    metadata_uncharge(job->store, pgs_codec_memory_bytes(codec));
    pgs_codec_close(codec);
}

int pgs_pack(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
             int32_t level, int32_t *statuses_ret)
{
    struct call call;
    struct encoder encoder;
    pgs_codec *codec;
    int error = call_begin(&call, store, object, CALL_MOVES, count, statuses_ret);
    if (error)
        return error;
    error = open_packer(&call.job, level, &codec, &encoder);
    if (error) {
        call_refuse(&call, count, error);
        return call_end(&call);
    }
    call.job.packer = &encoder;
    call_run(&call, page_nos, count, LOOKS, page_out_page, NULL);
    close_packer(&call.job, codec, &encoder);
    return call_end(&call);
}

/* Takes frame and copy from a page, claimed and without pins, whatever it
 * holds. It is to be published without PAGE_HOT. */
void page_empty(const struct job *job)
{
    pgs_store *store = job->store;
    uint64_t word = page_load(job->page);
    if (word & PAGE_HOT) {
        uint32_t frame = job->page->frame;
        if (page_level(word) != PGS_LEVEL_PINNED)
            evict_remove(store->queue, frame);
        else
            atomic_fetch_sub_explicit(&store->held_frames, 1, memory_order_relaxed);
        frame_in_hand(store);
        frame_give(store, frame);
    }
    page_drop_copy(job);
}

static int discard_page(const struct job *job, void *unused)
{
    (void)unused;
    pgs_store *store = job->store;
    int error = job->page ? job_claim(job) : PGS_OK;
    if (error || !job->page)
        return error;
    uint64_t word = page_load(job->page);
    error = page_is_held(word) ? PGS_E_PINNED : PGS_OK;
    if (!error && (word & PAGE_HOT))
        map_settle(job);
    bool clean = word & PAGE_HOT ? !error && page_is_clean(job, page_bytes(job))
                                 : !(word & PAGE_DIRTY);
    if (!error && !clean)
        error = PGS_E_DIRTY;
    if (!error && (word & (PAGE_HOT | PAGE_COPY))) {
        page_empty(job);
        bump(&job->worker->counters.discards, 1);
    }
    page_publish(store, job->page, error ? 0 : PAGE_HOT, 0);
    return error;
}

int pgs_discard(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                int32_t *statuses_ret)
{
    return call_for_each(store, object, CALL_MOVES, page_nos, count, statuses_ret,
                         LOOKS, discard_page, NULL);
}

/* Anonymous memory: of a page that others have as well only this member's is given up. */
static int forget_anonymous(const struct job *job)
{
    uint64_t word = page_load(job->page);
    bool held = page_level(word) == PGS_LEVEL_PINNED || page_is_pinned_here(job);
    if (held) {
        page_publish(job->store, job->page, 0, 0);
        return PGS_E_PINNED;
    }
    if (word & (PAGE_HOT | PAGE_COPY))
        bump(&job->worker->counters.discards, 1);
    page_give_up(job);
    return PGS_OK;
}

/* Anonymous memory reads as zeros again; of what has an image behind it the bytes are not to
 * be had back: they may have been written since. */
static int forget_page(const struct job *job, void *counted)
{
    uint64_t *forgotten = counted;
    int error = job->page ? job_claim(job) : PGS_OK;
    if (error)
        return error;
    if (job->object->family) {
        error = job->page ? forget_anonymous(job) : PGS_OK;
        *forgotten += !error;
        return error;
    }
    uint64_t word = page_load(job->page);
    bool held = page_is_held(word);
    *forgotten += !held && !(word & PAGE_GONE);
    if (!held) {
        page_empty(job);
        if (word & (PAGE_HOT | PAGE_COPY))
            bump(&job->worker->counters.discards, 1);
    }
    page_publish(job->store, job->page, held ? 0 : PAGE_HOT | PAGE_DIRTY,
                 held ? 0 : PAGE_GONE);
    return held ? PGS_E_PINNED : PGS_OK;
}

int pgs_forget(pgs_store *store, uint32_t object, uint64_t first_page_no, uint64_t page_count,
               uint64_t *forgotten_ret)
{
    struct call call;
    *forgotten_ret = 0;
    int error = call_begin(&call, store, object, CALL_MOVES, 0, NULL);
    if (error)
        return error;
    const struct member *member = call.job.member;
    uint64_t pages = member_pages(member), end = first_page_no + page_count;
    if (first_page_no > pages || page_count > pages - first_page_no)
        error = PGS_E_RANGE;
    call_note(&call, 0, error);
    uint64_t page_no = first_page_no, next;
    for (; !error && page_no < end; page_no = next + 1) {
        /* Those before it were never written: that is soon done. */
        next = member_next(member, page_no, end);
        *forgotten_ret += next - page_no;
        if (next < end)
            call_note(&call, 0, call_do(&call, next, LOOKS, forget_page, forgotten_ret));
    }
    return call_end(&call);
}
