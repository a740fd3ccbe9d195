/* SPDX-License-Identifier: MIT
 *
 * What the files of maps share. While an object is mapped its frames lie in its
 * home (map/home.h), and stay there when the map has gone.
 */
#ifndef PGS_MAP_INTERNAL_H
#define PGS_MAP_INTERNAL_H

#include "map/range.h"
#include "pagestep/map.h"
#include "store/call.h"

enum {
    AROUND_DEFAULT = 8,
    AROUND_MAX = 16,
    STREAMS = 8,
    VOIDS_MAX = 64,
    AGED_PAGES = 512, /* of 4 KiB: what one page of page tables maps on most processors */
    AGED_WORDS = AGED_PAGES / 64
};

/* A run of touches, each beside the last. */
struct stream {
    uint64_t above, below; /* the pages that would go on with it */
    uint32_t window;
    uint32_t used; /* when, in faults of the map */
};

struct ahead {
    pthread_mutex_t lock;
    struct stream streams[STREAMS];
    uint32_t start, start_max; /* pages for a touch that is of no stream */
    uint32_t faults;
};

/* What one fault is to bring: `count` pages from page_no on, upwards or downwards. */
struct window {
    uint32_t count;
    bool down;
};

struct map_failures {
    pthread_mutex_t lock;
    unsigned guards; /* that are open */
    uint64_t count;
    uint64_t voids[VOIDS_MAX]; /* pages that read as zeros just now */
    uint32_t void_count;
    uint64_t page_no; /* of the last */
    int error;
};

struct pgs_map {
    pgs_store *store;
    struct member *member;
    uint64_t page_count;
    struct range range;
    struct pgs_map *next; /* of the store's */
    struct ahead ahead;
    struct map_failures failures;
    unsigned char *zeros; /* a page of them */
    uint64_t age_hand; /* the word of `attached` where the next look begins */
    _Atomic uint64_t faults, attaches, write_faults, pages_ahead, detaches, ranges_dropped;
    /* A bit a page: it may be touched without a fault. Set after the page was mapped,
     * by who has claimed it; cleared before its mapping is taken away, by anybody. */
    _Atomic uint64_t *attached;
    /* A bit a page, of who has claimed it: it was mapped, and nobody has looked since
     * whether it was written. */
    _Atomic uint64_t *noted;
};

/* map_fault.c */
int map_fault(void *ctx, size_t offset, bool writes);
/* Serves a touch of a page. */
int map_serve(struct pgs_map *map, uint64_t page_no, bool writes);

/* map_age.c: what the kernel has noted of the job's page, claimed, hot and at home */
void map_note_writes(struct pgs_map *map, const struct job *job, uint32_t member_page);
/* As map_settle, of a page that is in this map's home. */
void map_settle_in(struct pgs_map *map, const struct job *job, uint32_t member_page);
/* Takes the mapping of all pages away; touches of them wait for the family's lock. */
void map_detach_all(struct pgs_map *map);
/* A page is to get its place in the home of a member: what a guard has put there goes. */
void map_clear_place(const struct member *member, uint32_t member_page);
/* A page loses its place: it is not mapped any more. */
void map_forget_place(const struct member *member, uint32_t member_page);

/* map_ahead.c */
void ahead_init(struct ahead *ahead, uint32_t around);
void ahead_deinit(struct ahead *ahead);
uint32_t ahead_start(struct ahead *ahead);
struct window ahead_choose(struct ahead *ahead, uint64_t page_no, uint32_t most);
void ahead_note(struct ahead *ahead, uint64_t page_no, struct window brought);

/* map_guard.c: 0 where the touch can go on with zeros for the time being */
int map_fail(struct pgs_map *map, uint64_t page_no, int error);

static inline uint64_t map_bit(uint64_t page_no)
{
    return (uint64_t)1 << page_no % 64;
}

static inline void map_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

#endif
