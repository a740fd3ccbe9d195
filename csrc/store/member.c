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

static uint64_t refs_bytes(const struct member *member)
{
    return member->refs ? member_pages(member) * sizeof(slot_ref) : 0;
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
    metadata_uncharge(store, refs_bytes(member) + (last ? 0 : MEMBER_BYTES));
    member_free(store, member);
    return last;
}

/* Nobody uses the member; other members' breaks look at its references, under the lock. */
int member_set_pages(pgs_store *store, struct worker *worker, struct member *member,
                     uint64_t page_count)
{
    struct family *family = member->object->family;
    uint64_t before = refs_bytes(member), pages = member_pages(member);
    uint64_t bytes = member->refs ? page_count * sizeof(slot_ref) : 0;
    int error = bytes > before ? metadata_charge(store, worker, bytes - before) : PGS_OK;
    if (error)
        return error;
    pthread_mutex_lock(&family->lock);
    slot_ref *refs = bytes ? realloc((void *)member->refs, bytes) : NULL;
    if (bytes && !refs) {
        pthread_mutex_unlock(&family->lock);
        if (bytes > before)
            metadata_uncharge(store, bytes - before);
        return PGS_E_NOMEM;
    }
    for (uint64_t i = pages; refs && i < page_count; i++)
        atomic_init(&refs[i], NO_SLOT);
    atomic_store_explicit(&member->refs, refs, memory_order_release);
    atomic_store_explicit(&member->page_count, page_count, memory_order_release);
    pthread_mutex_unlock(&family->lock);
    if (bytes < before)
        metadata_uncharge(store, before - bytes);
    return PGS_OK;
}
