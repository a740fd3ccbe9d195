/* SPDX-License-Identifier: MIT */
#include "store/call.h"

static int begin(struct call *call, pgs_store *store, uint32_t object, enum call_kind kind,
                 int32_t *statuses)
{
    struct member *member = member_of(store, object);
    *call = (struct call){.job = {.store = store, .member = member,
                                  .section = section_find(store)},
                          .statuses = statuses};
    struct section *section = call->job.section;
    int error = section_may_be(store);
    if (error)
        return error;
    if (!member)
        return PGS_E_RANGE;
    call->job.object = member->object;
    call->job.object_no = member->object_no;
    if (section_is(section, PGS_SECTION_ATOMIC)) {
        /* What it may use is in frames, and needs no decoder. */
        call->job.worker = section->worker;
        return kind == CALL_MOVES ? PGS_E_ATOMIC : PGS_OK;
    }
    error = kind == CALL_MOVES && section ? lock_may_fault(section) : PGS_OK;
    if (error)
        return error;
    call->job.worker = worker_take(store);
    if (kind != CALL_TENDS)
        error = worker_prepare(store, call->job.worker, call->job.object);
    if (error)
        worker_give(call->job.worker);
    return error;
}

int call_begin(struct call *call, pgs_store *store, uint32_t object, enum call_kind kind,
               size_t count, int32_t *statuses)
{
    int error = begin(call, store, object, kind, statuses);
    if (error)
        call_refuse(call, count, error);
    return error;
}

void call_refuse(struct call *call, size_t count, int error)
{
    call->first_error = error;
    for (size_t i = 0; call->statuses && i < count; i++)
        call->statuses[i] = error;
}

bool call_has(const struct call *call, const uint64_t *page_nos, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (page_nos[i] >= member_pages(call->job.member))
            return false;
    return true;
}

int call_select(struct call *call, uint64_t page_no)
{
    if (page_no >= member_pages(call->job.member))
        return PGS_E_RANGE;
    job_select(&call->job, page_no);
    return PGS_OK;
}

int call_do(struct call *call, uint64_t page_no, enum page_need need, page_action *action,
            void *bytes)
{
    int error;
    do {
        error = call_select(call, page_no);
        if (!error && !call->job.page && need == NEEDS_ENTRY)
            error = slot_provide(&call->job);
        if (!error)
            error = action(&call->job, bytes);
    } while (error == PAGE_MOVED);
    return error;
}

bool call_note(struct call *call, size_t i, int error)
{
    if (call->statuses)
        call->statuses[i] = error;
    if (error && !call->first_error)
        call->first_error = error;
    return !error || call->statuses;
}

int call_end(struct call *call)
{
    struct worker *worker = call->job.worker;
    if (worker->ticks_owed) {
        atomic_fetch_add_explicit(&call->job.store->clock, worker->ticks_owed,
                                  memory_order_relaxed);
        worker->ticks_owed = 0;
    }
    if (!section_is(call->job.section, PGS_SECTION_ATOMIC))
        worker_give(worker);
    return call->first_error;
}

void call_run(struct call *call, const uint64_t *page_nos, size_t count, enum page_need need,
              page_action *action, void *bytes)
{
    for (size_t i = 0; i < count; i++) {
        void *at = bytes ? (unsigned char *)bytes + i * call->job.store->page_size : NULL;
        int error = call_do(call, page_nos[i], need, action, at);
        if (!call_note(call, i, error))
            break;
    }
}

int call_for_each(pgs_store *store, uint32_t object, enum call_kind kind,
                  const uint64_t *page_nos, size_t count, int32_t *statuses, enum page_need need,
                  page_action *action, void *bytes)
{
    struct call call;
    int error = call_begin(&call, store, object, kind, count, statuses);
    if (error)
        return error;
    call_run(&call, page_nos, count, need, action, bytes);
    return call_end(&call);
}
