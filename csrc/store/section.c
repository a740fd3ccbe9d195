/* SPDX-License-Identifier: MIT
 *
 * A thread is in few sections at once, of hardly more than one store: a list
 * does. A thread without any pays for one load.
 */
#include "store/section.h"

#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

static _Thread_local struct section *sections;
static _Thread_local const struct backing_call *backing_calls;

struct section *section_find(const pgs_store *store)
{
    struct section *section = sections;
    while (section && section->store != store)
        section = section->outer;
    return section;
}

bool section_in_backing(const pgs_store *store)
{
    const struct backing_call *call = backing_calls;
    while (call && call->store != store)
        call = call->outer;
    return call != NULL;
}

void backing_call_begin(struct backing_call *call, const pgs_store *store)
{
    *call = (struct backing_call){.store = store, .outer = backing_calls};
    backing_calls = call;
}

void backing_call_end(const struct backing_call *call)
{
    backing_calls = call->outer;
}

bool section_in_page_in(const struct section *section, const pgs_store *store)
{
    return section_is(section, PGS_SECTION_PAGER) || section_in_backing(store);
}

int section_may_be(const pgs_store *store)
{
    if (section_in_backing(store))
        return PGS_E_REENTRY;
    /* Pages in homes are not there in a child process. */
    if (atomic_load_explicit(&store->has_homes, memory_order_acquire) &&
        !home_is_here(store->forks))
        return PGS_E_FORKED;
    return PGS_OK;
}

int section_may_wait(const pgs_store *store)
{
    int error = section_may_be(store);
    if (error)
        return error;
    return section_is(section_find(store), PGS_SECTION_ATOMIC) ? PGS_E_ATOMIC : PGS_OK;
}

int section_may_page(const pgs_store *store)
{
    const struct section *section = section_find(store);
    int error = section_may_wait(store);
    return error || !section ? error : lock_may_fault(section);
}

int section_open(pgs_store *store, struct section **section_ret)
{
    struct section *section = section_find(store);
    if (!section) {
        section = calloc(1, sizeof *section);
        if (!section)
            return PGS_E_NOMEM;
        section->store = store;
        section->outer = sections;
        sections = section;
    }
    *section_ret = section;
    return PGS_OK;
}

void section_close(struct section *section)
{
    for (unsigned kind = 0; kind < PGS_SECTION_KIND_COUNT; kind++)
        if (section->depth[kind])
            return;
    if (section->held_count)
        return;
    struct section **at = &sections;
    while (*at != section)
        at = &(*at)->outer;
    *at = section->outer;
    free(section);
}

int pgs_section_begin(pgs_store *store, uint32_t kind)
{
    struct section *section;
    if (kind >= PGS_SECTION_KIND_COUNT)
        return PGS_E_INVALID;
    int error = section_may_be(store);
    if (!error)
        error = section_open(store, &section);
    if (error)
        return error;
    if (kind == PGS_SECTION_ATOMIC && !section->worker) {
        if (!section_promises(section))
            verify_evict(store, NULL);
        /* Of its own: those of the store may all be out, and there waiting is over. */
        section->worker = aligned_alloc(CACHE_LINE, sizeof *section->worker);
        if (!section->worker) {
            section_close(section);
            return PGS_E_NOMEM;
        }
        memset(section->worker, 0, sizeof *section->worker);
    }
    section->depth[kind]++;
    return PGS_OK;
}

int pgs_section_end(pgs_store *store, uint32_t kind)
{
    struct section *section = section_find(store);
    if (kind >= PGS_SECTION_KIND_COUNT || !section_is(section, (enum pgs_section_kind)kind))
        return PGS_E_INVALID;
    section->depth[kind]--;
    if (kind == PGS_SECTION_ATOMIC && section->depth[kind] == 0) {
        worker_retire(store, section->worker);
        section->worker = NULL;
    }
    section_close(section);
    return PGS_OK;
}
