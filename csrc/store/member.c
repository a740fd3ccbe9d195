/* SPDX-License-Identifier: MIT
 *
 * Numbers of objects, and what they stand for.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "store/family.h"

/* What is not used of it takes no RAM; a member pays for its own place. */
static const size_t table_bytes = MAX_MEMBERS * sizeof(struct member *);

int members_init(pgs_store *store)
{
    void *members = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (members == MAP_FAILED)
        return PGS_E_NOMEM;
    store->members = members;
    return PGS_OK;
}

void members_deinit(pgs_store *store)
{
    if (store->members)
        munmap((void *)store->members, table_bytes);
}

int member_new(pgs_store *store, struct pgs_object *object, uint32_t object_no,
               uint64_t page_count, struct member **member_ret)
{
    uint32_t number = store->member_hint;
    while (number < MAX_MEMBERS && member_of(store, number))
        number++;
    if (number == MAX_MEMBERS)
        return PGS_E_INVALID;
    struct member *member = calloc(1, sizeof *member);
    if (!member)
        return PGS_E_NOMEM;
    member->object = object;
    member->object_no = object_no;
    member->number = number;
    atomic_init(&member->page_count, page_count);
    store->member_hint = number + 1;
    if (store->member_end < number + 1)
        store->member_end = number + 1;
    *member_ret = member;
    return PGS_OK;
}

void member_free(pgs_store *store, struct member *member)
{
    if (member->number < store->member_hint)
        store->member_hint = member->number;
    while (member->old_refs) {
        struct old_refs *old = member->old_refs;
        member->old_refs = old->next;
        free((void *)old->refs);
        free(old);
    }
    home_free(member->home);
    free((void *)member->refs);
    free(member);
}

void member_link(struct family *family, struct member *member)
{
    member->next = family->members;
    family->members = member;
}

void member_join(pgs_store *store, struct member *member)
{
    atomic_store_explicit(&store->members[member->number], member, memory_order_release);
}

bool member_leave(pgs_store *store, struct member *member)
{
    struct family *family = member->object->family;
    bool last = true;
    if (family) {
        pthread_mutex_lock(&family->lock);
        struct member **at = &family->members;
        while (*at != member)
            at = &(*at)->next;
        *at = member->next;
        last = !family->members;
        pthread_mutex_unlock(&family->lock);
    }
    atomic_store_explicit(&store->members[member->number], NULL, memory_order_release);
    /* An object's first member is paid for with the object. */
    metadata_uncharge(store, member->refs_bytes + (last ? 0 : MEMBER_BYTES));
    member_free(store, member);
    return last;
}

/* Room for more references. Those that look at the old ones find each as it was, or that
 * they must look again. */
static int grow_refs(pgs_store *store, struct worker *worker, struct member *member,
                     uint64_t limit)
{
    struct family *family = member->object->family;
    uint64_t bytes = limit * sizeof(slot_ref) + sizeof(struct old_refs);
    int error = metadata_charge(store, worker, bytes);
    if (error)
        return error;
    slot_ref *refs = malloc(limit * sizeof *refs);
    struct old_refs *old = malloc(sizeof *old);
    if (!refs || !old) {
        free((void *)refs);
        free(old);
        metadata_uncharge(store, bytes);
        return PGS_E_NOMEM;
    }
    pthread_mutex_lock(&family->lock);
    *old = (struct old_refs){.refs = member->refs, .next = member->old_refs};
    for (uint64_t i = 0; i < limit; i++)
        atomic_init(&refs[i], i < member->ref_limit ? old->refs[i] : NO_SLOT);
    member->old_refs = old;
    member->ref_limit = limit;
    member->refs_bytes += bytes;
    atomic_store_explicit(&member->refs, refs, memory_order_release);
    pthread_mutex_unlock(&family->lock);
    return PGS_OK;
}

int member_grow(pgs_store *store, struct worker *worker, struct member *member,
                uint64_t page_count)
{
    uint64_t limit = member->ref_limit + member->ref_limit / 2;
    if (!member->refs || page_count <= member->ref_limit)
        return PGS_OK;
    return grow_refs(store, worker, member, page_count > limit ? page_count : limit);
}

void member_set_pages(struct member *member, uint64_t page_count)
{
    struct family *family = member->object->family;
    pthread_mutex_lock(&family->lock);
    atomic_store_explicit(&member->page_count, page_count, memory_order_release);
    pthread_mutex_unlock(&family->lock);
}
