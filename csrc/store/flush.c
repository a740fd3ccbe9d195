/* SPDX-License-Identifier: MIT
 *
 * Dirty pages to their backing, without leaving where they are.
 */
#include "store/backing.h"
#include "store/call.h"

static int flush_page(const struct job *job, void *written_ret)
{
    pgs_store *store = job->store;
    uint64_t *written = written_ret;
    /* What was written through a map shows only then. */
    bool mapped = atomic_load_explicit(&job->member->map, memory_order_acquire);
    if (!job->page || !(mapped || (page_load(job->page) & PAGE_DIRTY)))
        return PGS_OK;
    int error = job_claim(job);
    if (error)
        return error;
    uint64_t word = page_load(job->page);
    const unsigned char *frame = NULL;
    if (word & PAGE_HOT) {
        map_settle(job);
        word = page_load(job->page);
        frame = page_bytes(job);
    }
    bool dirty = word & PAGE_DIRTY && !(frame && page_is_clean(job, frame));
    if (dirty && !page_has_backing(job->object, job->page_no))
        error = PGS_E_FULL;
    else if (dirty)
        error = frame ? page_write_back(job, frame, NULL) : page_write_back_copy(job);
    /* A device may be writing to what is held, and mapped, without a fault. */
    bool again = dirty && !error && mapped && (word & PAGE_PINS_MASK) && !(word & PAGE_COPY);
    page_publish(store, job->page, 0, again ? PAGE_DIRTY : 0);
    *written += dirty && !error;
    return error;
}

int pgs_flush(pgs_store *store, uint32_t object, uint64_t *written_ret, uint64_t *failed_ret)
{
    struct call call;
    *written_ret = 0;
    *failed_ret = UINT64_MAX;
    int error = call_begin(&call, store, object, CALL_MOVES, 0, NULL);
    if (error)
        return error;
    const struct pgs_backing *backing = &call.job.object->backing;
    const struct member *member = call.job.member;
    uint64_t pages = backing->page_out ? member_pages(member) : 0;
    if (!backing->page_out)
        call_note(&call, 0, PGS_E_UNSUPPORTED);
    for (uint64_t i = member_next(member, 0, pages); i < pages;
         i = member_next(member, i + 1, pages)) {
        error = call_do(&call, i, LOOKS, flush_page, written_ret);
        if (error == PGS_E_RANGE) /* it was made smaller meanwhile */
            break;
        if (error && *failed_ret == UINT64_MAX)
            *failed_ret = i;
        call_note(&call, 0, error);
    }
    if (backing->page_out)
        call_note(&call, 0, backing_flush(store, backing));
    return call_end(&call);
}
