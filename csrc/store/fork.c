/* SPDX-License-Identifier: MIT
 *
 * A fork shares all pages of what it was forked from: references are copied, owners are
 * counted, no page is touched.
 */
#include <stdlib.h>

#include "store/backing.h"
#include "store/family.h"
#include "store/map_internal.h"

static uint64_t cost_of_refs(const struct member *member)
{
    return member_pages(member) * sizeof(slot_ref);
}

/* Refers to the page of each number as the slot of that number, and puts those slots on
 * the list that are no page's. Needs the lock. */
static void refer_to_same(struct family *family, struct member *member, slot_ref *refs)
{
    uint64_t pages = member_pages(member), leaf_no = 0;
    for (uint64_t i = 0; i < pages; i++)
        atomic_init(&refs[i], NO_SLOT);
    for (; table_next(&family->table, &leaf_no); leaf_no++)
        for (uint32_t i = LEAF_PAGES; i > 0; i--) {
            uint32_t slot = (uint32_t)(leaf_no * LEAF_PAGES + i - 1);
            struct owner *owner = table_owner(&family->table, slot);
            if (slot >= pages) {
                slot_put(family, slot);
                continue;
            }
            atomic_store_explicit(&owner->count, 1, memory_order_relaxed);
            atomic_store_explicit(&owner->pinner, member->number, memory_order_relaxed);
            atomic_store_explicit(&refs[slot], slot, memory_order_relaxed);
        }
    atomic_store_explicit(&member->refs, refs, memory_order_release);
}

/* Pages that have an entry, as their neighbours needed one, and nothing else, need no slot.
 * Those that are in use just now keep it. Needs the lock. */
static void drop_blank(pgs_store *store, struct family *family, struct member *member)
{
    uint64_t pages = member_pages(member);
    uint64_t blank = atomic_load_explicit(&family->blank.word, memory_order_relaxed);
    for (uint64_t i = member_next(member, 0, pages); i < pages;
         i = member_next(member, i + 1, pages)) {
        uint32_t slot = atomic_load_explicit(&member->refs[i], memory_order_relaxed);
        struct page *page = table_page(&family->table, slot);
        if ((page_load(page) & ~PAGE_STAMP_MASK) != blank || !page_try_claim(page))
            continue;
        bool free = (page_load(page) & ~(PAGE_STAMP_MASK | PAGE_BUSY | PAGE_WAITED)) == blank &&
                    page_is_as_origin(page, family->blank.origin_sum);
        if (free) {
            atomic_store_explicit(&member->refs[i], NO_SLOT, memory_order_release);
            atomic_store_explicit(&table_owner(&family->table, slot)->count, 0,
                                  memory_order_relaxed);
        }
        page_publish(store, page, free ? PAGE_STAMP_MASK : 0, 0);
        if (free)
            slot_put(family, slot);
    }
}

/* Needs the lock. */
static void copy_refs(struct family *family, const struct member *from, slot_ref *refs)
{
    uint64_t pages = member_pages(from);
    for (uint64_t i = 0; i < pages; i++) {
        uint32_t slot = atomic_load_explicit(&from->refs[i], memory_order_relaxed);
        atomic_init(&refs[i], slot);
        if (slot != NO_SLOT)
            atomic_fetch_add_explicit(&table_owner(&family->table, slot)->count, 1,
                                      memory_order_acq_rel);
    }
}

/* Pays for the references that are needed, and makes them. */
static int prepare(pgs_store *store, struct worker *worker, struct member *from,
                   slot_ref **own_ret, slot_ref **refs_ret)
{
    struct family *family = from->object->family;
    bool first = !from->refs;
    uint64_t bytes = cost_of_refs(from) * (first ? 2 : 1) + MEMBER_BYTES;
    int error = first ? owners_provide(store, worker, family) : PGS_OK;
    if (!error)
        error = metadata_charge(store, worker, bytes);
    if (error)
        return error;
    *own_ret = first ? malloc(cost_of_refs(from)) : NULL;
    *refs_ret = malloc(cost_of_refs(from));
    if (*refs_ret && (!first || *own_ret))
        return PGS_OK;
    free((void *)*own_ret);
    free((void *)*refs_ret);
    metadata_uncharge(store, bytes);
    return PGS_E_NOMEM;
}

static int fork_member(pgs_store *store, struct worker *worker, struct member *from,
                       uint32_t *object_ret)
{
    struct family *family = from->object->family;
    slot_ref *own, *refs;
    struct member *member;
    int error = member_new(store, from->object, from->object_no, member_pages(from), &member);
    if (error)
        return error;
    error = prepare(store, worker, from, &own, &refs);
    if (error) {
        member_free(store, member);
        return error;
    }
    pthread_mutex_lock(&family->lock);
    if (own) {
        refer_to_same(family, from, own);
        from->ref_limit = member_pages(from);
        from->refs_bytes = cost_of_refs(from);
        drop_blank(store, family, from);
    }
    /* From now on a write through a map is a fault, which waits for the lock. */
    if (from->map)
        map_detach_all(from->map);
    copy_refs(family, from, refs);
    atomic_init(&member->refs, refs);
    member->ref_limit = member_pages(from);
    member->refs_bytes = cost_of_refs(from);
    member_link(family, member);
    pthread_mutex_unlock(&family->lock);
    *object_ret = member->number;
    member_join(store, member);
    return PGS_OK;
}

int pgs_object_fork(pgs_store *store, uint32_t object, uint32_t *object_ret)
{
    struct worker *worker;
    int error = change_begin(store, &worker);
    if (error)
        return error;
    struct member *from = member_of(store, object);
    if (!from)
        error = PGS_E_RANGE;
    else if (!from->object->family)
        error = PGS_E_UNSUPPORTED;
    else
        error = fork_member(store, worker, from, object_ret);
    change_end(store, worker);
    return error;
}
