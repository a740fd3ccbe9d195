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
#include "store/map_run.h"

enum {
    AROUND_DEFAULT = 8,
    START_MAX = 16,    /* pages that may be asked for of a first touch */
    WINDOW_MAX = 32,   /* that a touch is to bring, */
    ARRIVALS_MAX = 64, /* and that come together at most, where one would wait else */
    DEPTH = 4,         /* windows that are wanted beyond */
    STREAMS = 8,
    VOIDS_MAX = 64,
    REPEATS = 16, /* pages of which is known how often they failed */
    AGED_PAGES = 512, /* of 4 KiB: what one page of page tables maps on most processors */
    AGED_WORDS = AGED_PAGES / 64
};
_Static_assert(DEPTH * WINDOW_MAX <= RUN_PAGES_MAX, "what is wanted is one run");

/* A run of touches, each beside what the one before had brought. */
struct stream {
    uint64_t from;   /* the last touch; UINT64_MAX: none yet */
    uint32_t span;   /* pages from there that were planned for */
    uint32_t window; /* of these, the toucher's own */
    int way;         /* 1: upwards; -1: downwards; 0: not known yet */
    uint32_t used;   /* when, in faults of the map */
};

struct ahead {
    pthread_mutex_t lock;
    struct stream streams[STREAMS];
    uint32_t start, start_max; /* pages for a touch that is of no stream */
    uint32_t faults;
};

/* A touch that is planned for. */
struct touched {
    uint64_t page_no;
    uint32_t have;     /* pages from there on that the reader brings just now */
    uint32_t most;     /* that a thread may bring */
    bool below, above; /* the page with the next lower number is mapped; with the next higher */
};

/* What is to come with one fault: so many pages from the touched one on, upwards or downwards,
 * and those that the reader is asked for. */
struct plan {
    uint32_t count;
    bool down;
    page_run wanted;
};

/* A page that comes: claimed, with its frame, its bytes in its worker's room. */
struct arrival {
    struct job job;
    uint32_t frame;
    bool ghost;
    bool protect;
    bool installed;
};

/* Pages beside each other that come together. */
struct arrivals {
    struct pgs_map *map;
    uint64_t from; /* the first page */
    uint32_t count;
    uint32_t room; /* pages that the worker's room takes */
    bool down;
    bool failed; /* a fetch: what lies behind is not tried */
    struct arrival each[ARRIVALS_MAX]; /* as they came */
};

/* Reads ahead of streams. */
struct reader {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t called;
    _Atomic page_run wanted;    /* pages that a stream comes to next, and that nobody brings yet */
    _Atomic page_run under_way; /* that the reader brings just now */
    _Atomic bool sleeps, stop;
    _Atomic bool turn; /* somebody's: to have many pages mapped */
};

/* Touched by nobody. */
#define NO_PAGE UINT64_MAX

struct map_failures {
    pthread_mutex_t lock;
    unsigned guards; /* that are open */
    uint64_t count;
    struct repeat {
        uint64_t page_no;
        unsigned count;
    } repeats[REPEATS];
    uint64_t voids[VOIDS_MAX]; /* pages that read as zeros just now */
    uint32_t void_count;
    uint64_t page_no; /* of the first since a guard was opened over none */
    int error;
};

struct pgs_map {
    pgs_store *store;
    struct member *member;
    uint64_t page_count;
    struct range range;
    struct pgs_map *next; /* of the store's */
    struct ahead ahead;
    struct reader reader;
    struct map_failures failures;
    unsigned char *zeros; /* a page of them */
    unsigned char *spare; /* a page, of who has its lock */
    pthread_mutex_t spare_lock;
    pthread_mutex_t detach_lock; /* before pages are claimed under it; a fork does without */
    _Atomic bool detaches_all;   /* as `detaching`, of all pages */
    _Atomic uint64_t detaching;  /* first page << 32 | pages: of these bits are cleared, and the
                                    mapping may still be there */
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
/* Takes the mapping of all pages away, under the family's lock, for which touches wait. */
void map_detach_all(struct pgs_map *map);
/* A page is to get its place in the home of a member: what a guard has put there goes. */
void map_clear_place(const struct member *member, uint32_t member_page);
/* A page loses its place: it is not mapped any more. */
void map_forget_place(const struct member *member, uint32_t member_page);

/* map_ahead.c */
void ahead_init(struct ahead *ahead, uint32_t around);
void ahead_deinit(struct ahead *ahead);
uint32_t ahead_start(struct ahead *ahead);
struct plan ahead_plan(struct ahead *ahead, const struct touched *touched);

/* map_arrive.c: around what maps pages of anonymous memory, so that a fork goes before it or
 * comes after */
void mapping_begin(const struct job *job);
void mapping_end(const struct job *job);
/* Whether the page's next write through a map must be known of: it is shared, or another tier
 * has its bytes. */
bool map_write_counts(const struct job *job);
/* The page, claimed, is written through a map: its copy is not its bytes any more. */
void map_now_written(const struct job *job);
void map_now_attached(struct pgs_map *map, const struct job *job);
/* Gives the kernel bytes for pages that it has none of; *done_ret of them got there. Returns an
 * errno. */
int map_install(struct pgs_map *map, size_t offset, const unsigned char *bytes, size_t size,
                bool protect, size_t *done_ret);
int map_error_of(int system_error);
uint32_t arrivals_most(const pgs_store *store);
void arrivals_begin(struct arrivals *arrivals, struct pgs_map *map, uint64_t from, bool down);
/* Fetches the touched page, claimed. */
int arrivals_fetch(struct arrivals *arrivals, const struct job *job);
/* Fetches one more page, beside those so far, if nobody is waited for; its job is like this. */
bool arrivals_fetch_beside(struct arrivals *arrivals, const struct job *like);
/* The first of `count` pages that are not there yet, as far as they are beside each other. */
void arrivals_fetch_ahead(struct arrivals *arrivals, const struct job *like, uint32_t count);
/* Has the pages mapped; they are hot then, or as they were where the kernel took them not.
 * All but the touched one, the first if there is any, are published; `writes`: that one is
 * written. */
int arrivals_settle(struct arrivals *arrivals, uint64_t touched, bool writes);

/* map_reader.c */
int reader_start(struct pgs_map *map);
void reader_end(struct reader *reader);
/* Asks for what a stream comes to next, if it comes to any. */
void reader_ask(struct reader *reader, page_run stream);
/* How many pages it brings just now from this one on; 0: not this one. */
uint32_t reader_brings(const struct reader *reader, uint64_t page_no);
/* Brings wanted pages while the reader brings this one, then waits for it; but not for ever. */
void reader_help(struct pgs_map *map, uint64_t page_no);
/* Around what has many pages mapped. Who has waited too long for the other goes on as well. */
void turn_begin(struct reader *reader);
void turn_end(struct reader *reader);

/* map_guard.c: 0 where the touch can go on with zeros for the time being */
int map_fail(struct pgs_map *map, uint64_t page_no, bool writes, int error);

/* Of a bitmap with a bit a page. */
static inline uint64_t bitmap_words(uint64_t pages)
{
    return (pages + 63) / 64;
}

static inline uint64_t map_bit(uint64_t page_no)
{
    return (uint64_t)1 << page_no % 64;
}

static inline size_t map_offset_of(const struct job *job)
{
    return (size_t)job->member_page * job->store->page_size;
}

static inline void map_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

#endif
