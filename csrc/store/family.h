/* SPDX-License-Identifier: MIT
 *
 * A family is an anonymous object with all its forks, its members. Their pages have
 * their entries in one table, by slot; a member refers to slots by page number. As long
 * as nothing was forked page n is slot n, and there is neither an array of references nor
 * a count of owners.
 *
 * What is relied upon without a lock:
 * - A reference to a slot changes, and its count of owners falls, only while the slot is
 *   claimed, and under the family's lock. So who has claimed a slot, or counts as its reader, and
 *   then finds the reference as it was (job_is_current), has that page until the end.
 * - A count rises under the lock alone, by a fork. Who has claimed a slot and then sees one
 *   owner writes in place: a fork that comes now is one that this write went before.
 * - A break ends under the lock, and a fork holds it throughout. So no write that had to
 *   break is done before the fork is, and a fork is one moment, whatever others write.
 */
#ifndef PGS_FAMILY_H
#define PGS_FAMILY_H

#include "store/store_internal.h"
#include "store/table.h"

/* No slot: the page reads as zeros. */
#define NO_SLOT UINT32_MAX

/* Internal outcomes of what is done to a page. */
enum {
    PAGE_MOVED = 1, /* it is elsewhere by now, to be looked up again */
    PAGE_SHARED     /* and is to be written */
};

typedef _Atomic uint32_t slot_ref;

/* What the number of an object stands for outside. */
struct member {
    struct pgs_object *object;
    uint32_t object_no; /* of the table, by which rows and keys know it */
    uint32_t number;    /* its own */
    _Atomic uint64_t page_count;
    slot_ref *_Atomic refs; /* by page number; NULL: page n is slot n */
    uint64_t ref_limit;     /* how many there is room for */
    struct old_refs {       /* outgrown; somebody may still look at them */
        slot_ref *refs;
        struct old_refs *next;
    } *old_refs;
    uint64_t refs_bytes;    /* of all that */
    struct member *next;    /* of its family */
    struct home *_Atomic home;   /* NULL: it was never mapped */
    struct pgs_map *_Atomic map; /* NULL: it is not mapped just now */
};

/* What a member costs, with its place among the numbers. */
enum { MEMBER_BYTES = sizeof(struct member) + sizeof(struct member *) };

struct family {
    pthread_mutex_t lock; /* under it nobody waits for a page, or looks for RAM */
    struct table table;
    struct member *members;
    struct page blank;    /* the entry of a page that was never written */
    uint32_t free_slot;   /* a list, through page.frame; of a family that was forked */
    uint64_t next_leaf;   /* those before it are in the table */
    uint64_t table_bytes;
    bool owned;           /* leaves get owners: a fork has begun */
};

static inline uint64_t member_pages(const struct member *member)
{
    return atomic_load_explicit(&member->page_count, memory_order_acquire);
}

static inline uint32_t member_slot(const struct member *member, uint32_t page_no)
{
    const slot_ref *refs = atomic_load_explicit(&member->refs, memory_order_acquire);
    return refs ? atomic_load_explicit(&refs[page_no], memory_order_acquire) : page_no;
}

/* Makes page_no, which its member has, the job's page. False: it has no entry yet. */
static inline bool job_select(struct job *job, uint64_t page_no)
{
    job->page_no = job->member_page = (uint32_t)page_no;
    if (job->object->pages) {
        job->page = &job->object->pages[page_no];
        return true;
    }
    job->page_no = member_slot(job->member, job->member_page);
    job->page = job->page_no == NO_SLOT ? NULL
                                        : table_page(&job->object->family->table, job->page_no);
    return job->page;
}

/* Whether the job's page, which is claimed or read-held, is still its member's. */
static inline bool job_is_current(const struct job *job)
{
    return !job->object->family ||
           (job->member_page < member_pages(job->member) &&
            member_slot(job->member, job->member_page) == job->page_no);
}

/* Whether others have the job's page, which is claimed, as well. */
static inline bool page_is_shared(const struct job *job)
{
    if (!job->object->family || !atomic_load_explicit(&job->member->refs, memory_order_acquire))
        return false;
    const struct owner *owner = table_owner(&job->object->family->table, job->page_no);
    return atomic_load_explicit(&owner->count, memory_order_acquire) > 1;
}

static inline struct member *member_of(pgs_store *store, uint32_t number)
{
    return number < MAX_MEMBERS
               ? atomic_load_explicit(&store->members[number], memory_order_acquire)
               : NULL;
}

/* The home in which a frame's page lies. */
static inline const struct home *home_of_frame(pgs_store *store, const struct frame *row)
{
    return atomic_load_explicit(&member_of(store, row->home_member)->home, memory_order_acquire);
}

/* The bytes of the job's page, which is hot, and claimed or read. */
static inline unsigned char *page_bytes(const struct job *job)
{
    pgs_store *store = job->store;
    const struct frame *row = &store->frames[job->page->frame];
    if (row->place & FRAME_HOMED)
        return home_of_frame(store, row)->bytes + (uint64_t)row->home_page * store->page_size;
    return frame_bytes(store, job->page->frame);
}

/* homed.c: the job's page is claimed and hot. Whether it lies in the home of the job's member. */
bool page_is_home(const struct job *job);
/* Sees that it does; it is not pinned. */
void page_go_home(const struct job *job);
/* Sees that it does not. */
void page_leave_home(const struct job *job);

/* Whether the job's page is pinned, and by its member. */
bool page_is_pinned_here(const struct job *job);
/* Says so; before the pin is counted. */
void page_note_pinner(const struct job *job);

/* A job of a member's; its page is still to be selected. */
static inline struct job job_of(pgs_store *store, struct member *member)
{
    return (struct job){.store = store, .member = member, .object = member->object,
                        .object_no = member->object_no};
}

/* object.c: PGS_E_PINNED where the job's member pins a page from `first` up to before `end` */
int check_unpinned(struct job *job, uint64_t first, uint64_t end);

/* The first page at `page_no` or behind it that may have an entry; `end` where there is
 * none before that. */
uint64_t member_next(const struct member *member, uint64_t page_no, uint64_t end);

/* family.c */
int family_new(pgs_store *store, uint64_t blank_word, struct family **family_ret);
void family_free(struct family *family);

/* Gives the job's page, which has none, an entry. PAGE_MOVED: it has one now. */
int slot_provide(const struct job *job);
/* A free slot; blank, and nobody's. */
int slot_take(const struct job *job, uint32_t *slot_ret);
/* Takes all that a slot's page, claimed, has: it is blank as soon as it is published by
 * slot_publish. */
void slot_clear(const struct job *job);
void slot_publish(const struct job *job);
void slot_put(struct family *family, uint32_t slot); /* needs the lock */
/* Sees that every leaf has owners; from then on new ones do. */
int owners_provide(pgs_store *store, struct worker *worker, struct family *family);

/* break.c */
/* The job's page, claimed, is shared and is to be written: has the job's member get a page of
 * its own, and publishes it. `bytes`: what is written, all of it; that is done then.
 * NULL: PAGE_MOVED, the bytes are the same as before. */
int page_break(const struct job *job, const void *bytes);
/* The job's member has its page, claimed, no more: it reads as zeros. Publishes it. */
void page_give_up(const struct job *job);

/* member.c */
int member_new(pgs_store *store, struct pgs_object *object, uint32_t object_no,
               uint64_t page_count, struct member **member_ret);
void member_free(pgs_store *store, struct member *member);
/* One of the family from now on; needs the lock. */
void member_link(struct family *family, struct member *member);
/* From now on its number stands for it. */
void member_join(pgs_store *store, struct member *member);
/* It is no more, its pages having been given up. True: it was the last of its object. */
bool member_leave(pgs_store *store, struct member *member);
/* Sees that it has room to refer to so many pages; they are zeros. */
int member_grow(pgs_store *store, struct worker *worker, struct member *member,
                uint64_t page_count);
void member_set_pages(struct member *member, uint64_t page_count);
int members_init(pgs_store *store);
void members_deinit(pgs_store *store);

#endif
