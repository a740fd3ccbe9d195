/* SPDX-License-Identifier: MIT
 *
 * Where the bytes of a page in a frame lie: in the arena, at the frame's own place, or,
 * while their object is mapped, in its home, at the page's. A frame is a charge of RAM in
 * either case. A page is in a member's home only as long as that member has it.
 */
#include <string.h>
#include <sys/mman.h>

#include "store/family.h"
#include "store/map_internal.h"

static unsigned char *home_place(const struct job *job, const struct home *home)
{
    return home->bytes + (uint64_t)job->member_page * job->store->page_size;
}

/* The home of the job's member, where that is mapped. */
static const struct home *home_for(const struct job *job)
{
    const struct member *member = job->member;
    return member && atomic_load_explicit(&member->map, memory_order_acquire)
               ? atomic_load_explicit(&member->home, memory_order_acquire)
               : NULL;
}

/* The frame's place in the arena is not needed. */
static void leave_arena(pgs_store *store, uint32_t frame)
{
    struct frame *row = &store->frames[frame];
    if (!(row->place & FRAME_BARE))
        madvise(frame_bytes(store, frame), store->page_size, MADV_DONTNEED);
    row->place |= FRAME_BARE;
}

static void be_home(const struct job *job, struct frame *row)
{
    row->place |= FRAME_HOMED;
    row->home_member = (uint16_t)job->member->number;
    row->home_page = job->member_page;
}

unsigned char *frame_place(const struct job *job, uint32_t frame)
{
    pgs_store *store = job->store;
    struct frame *row = &store->frames[frame];
    const struct home *home = home_for(job);
    row->page_no = job->page_no;
    row->object = (uint16_t)job->object_no;
    if (!home) {
        row->place = 0;
        return frame_bytes(store, frame);
    }
    leave_arena(store, frame);
    be_home(job, row);
    map_clear_place(job->member, job->member_page);
    return home_place(job, home);
}

void frame_vacate(pgs_store *store, uint32_t frame)
{
    struct frame *row = &store->frames[frame];
    if (!(row->place & FRAME_HOMED))
        return;
    struct member *member = member_of(store, row->home_member);
    map_forget_place(member, row->home_page);
    home_drop(atomic_load_explicit(&member->home, memory_order_acquire),
              (size_t)row->home_page * store->page_size, store->page_size);
    row->place = FRAME_BARE;
}

bool page_is_home(const struct job *job)
{
    const struct frame *row = &job->store->frames[job->page->frame];
    return (row->place & FRAME_HOMED) && row->home_member == job->member->number;
}

void page_leave_home(const struct job *job)
{
    pgs_store *store = job->store;
    uint32_t frame = job->page->frame;
    struct frame *row = &store->frames[frame];
    if (!(row->place & FRAME_HOMED))
        return;
    map_settle(job);
    memcpy(frame_bytes(store, frame), page_bytes(job), store->page_size);
    frame_vacate(store, frame);
    row->place = 0;
}

void page_go_home(const struct job *job)
{
    const struct home *home = home_for(job);
    uint32_t frame = job->page->frame;
    if (!home || page_is_home(job))
        return;
    page_leave_home(job); /* of another */
    map_clear_place(job->member, job->member_page);
    memcpy(home_place(job, home), frame_bytes(job->store, frame), job->store->page_size);
    leave_arena(job->store, frame);
    be_home(job, &job->store->frames[frame]);
}
