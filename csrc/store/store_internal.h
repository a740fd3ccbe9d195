/* SPDX-License-Identifier: MIT
 *
 * What the files of the store share. Order of locks: object_lock, a map's detach
 * lock, a page's BUSY bit, a family's lock, then at most one of the queue lock, the pool
 * lock, the frame lock, then a wait shard's; those of a map's streams, failures and reader,
 * and of the list of maps, are leaves. A thread that holds one page only ever tries for
 * another (page_try_claim), but for a new one that is nobody's yet (page_break).
 */
#ifndef PGS_STORE_INTERNAL_H
#define PGS_STORE_INTERNAL_H

#include <pthread.h>

#include "map/home.h"
#include "pagestep/error.h"
#include "pagestep/store.h"
#include "pool/pool.h"
#include "store/evict.h"
#include "store/lock.h"
#include "store/page.h"
#include "store/section.h"

enum {
    MIN_FRAMES = 8,    /* fewer, and one access could need more than there are */
    MAX_OBJECTS = 1024,
    MAX_MEMBERS = 65536, /* numbers of objects: forks share a table of pages */
    MAX_WORKERS = 32,  /* calls under way at once; further ones wait */
    WORKER_DECODERS = 4,
    OBJECT_CODECS = 2,
    MAX_ENCODERS = 32,
    FRAME_PATIENCE = 10000,
    WAIT_SHARDS = 32,
    STAMPS = 1024, /* at least half as many tell apart as many faults as there are frames */
    CACHE_LINE = 64,
    GUARDED_FAULTS = 4, /* a page is safe for this many faults of its thread */
    BUDGET_GROWTH = 8
};

struct family;
struct member;

/* A table of pages with one backing, by whose number rows and keys know it. Outside, a
 * number of an object stands for a member (family.h). */
struct pgs_object {
    uint64_t page_count; /* when it was added */
    uint64_t base_address;
    struct pgs_backing backing; /* struct_size 0: none */
    uint64_t backing_pages;     /* numbers from here on it has no room for */
    uint64_t backing_bytes;     /* of RAM that it takes */
    const pgs_codec *codecs[OBJECT_CODECS]; /* by effort; NULL where it has none */
    struct page *pages;     /* NULL: it is in the family's table */
    bool anonymous;         /* clean means zeros; it may be forked and resized */
    struct family *family;  /* if so */
};

/* Counters of one worker: only its thread adds, statistics read. */
struct counters {
    _Atomic uint64_t reads, writes, hits, page_outs, encodes, encode_ns, discards, writebacks,
        corrupt;
    _Atomic uint64_t faults[PGS_SOURCE_COUNT], fault_ns[PGS_SOURCE_COUNT],
        fault_bytes[PGS_SOURCE_COUNT], level_faults[PGS_LEVEL_COUNT];
};

/* What a thread needs while it is in the store: taken at the start of a call. */
struct worker {
    _Alignas(CACHE_LINE) _Atomic int taken;
    uint16_t index;
    _Atomic uint32_t fault_seq;
    uint32_t ticks_owed; /* faults of this call that the shared clock has not seen */
    struct decoder {
        const pgs_codec *codec;
        pgs_coder *coder;
    } decoders[WORKER_DECODERS];
    unsigned char *room; /* room_bytes of its own, once they were needed */
    struct counters counters;
};

/* What it takes to compress a page. There are a few for each codec from the
 * start, so that a page can always leave without RAM having to be found first;
 * threads wait for one. */
enum encoder_use {
    FOR_PAGE_OUT,
    FOR_WRITE_BACK /* its holder waits for no other: reclaim may need it in mid page-out */
};

struct encoder {
    _Atomic int taken;
    enum encoder_use use;
    const pgs_codec *codec; /* NULL: pages of this kind are kept raw */
    pgs_coder *coder;
    unsigned char *page, *coded; /* page_size bytes each */
};

/* Room for a page, or for some that a fault brings together: the most, and its part of the
 * budget, for every thread that faults has its own. */
enum { ROOM_BYTES_MAX = 262144, ROOM_SHARE = 64 };

struct map_list {
    pthread_mutex_t lock;
    struct pgs_map *_Atomic first;
    struct pgs_map *hand;        /* whose turn it is */
    _Atomic int64_t due; /* evictions until the next look (map_age.c) */
};

struct wait_shard {
    pthread_mutex_t lock;
    pthread_cond_t free;
};

struct pgs_store {
    /* What every access reads, and hardly anything writes. */
    uint32_t page_size;
    uint32_t flags;
    uint32_t pool_percent;
    uint32_t room_bytes;
    unsigned stamp_shift;
    unsigned char *arena;
    struct frame *frames;
    struct evict_queue *queue;
    struct member *_Atomic *members;
    uint32_t frame_limit;
    _Atomic uint32_t encoder_count; /* only grows; those before are complete */
    uint64_t budget_limit; /* what set_budget may reach */
    _Atomic uint64_t budget_bytes;

    /* What faults write, apart from what hits read. */
    _Alignas(CACHE_LINE) _Atomic uint64_t clock; /* faults so far */
    _Alignas(CACHE_LINE) _Atomic uint64_t used_bytes;
    _Atomic uint64_t used_bytes_max, metadata_bytes;

    _Alignas(CACHE_LINE) pthread_mutex_t frame_lock;
    uint32_t spare_frame, ready_frame; /* lists, through frame.next */
    uint32_t next_frame;               /* never used so far */
    _Atomic uint32_t frame_count;      /* that have RAM */
    _Atomic uint32_t frames_in_hand;   /* on their way between lists and pages */
    _Atomic uint32_t held_frames;      /* pinned, or of level PINNED: cannot leave */

    _Alignas(CACHE_LINE) struct pool pool;
    _Atomic uint64_t held_victims, fresh_victims; /* with PGS_STORE_AUDIT */
    _Atomic bool settles;         /* some object has a balanced codec */
    _Atomic uint64_t reclaimable; /* objects of the pool that reclaim may drop */
    pthread_mutex_t object_lock; /* objects come and go, the budget moves */
    struct pgs_object *_Atomic objects[MAX_OBJECTS];
    uint32_t member_hint, member_end; /* the first number that may be free; behind all in use */
    struct lock_order lock_order;
    struct pgs_heap *heaps;      /* that are open */
    struct worker workers[MAX_WORKERS];
    struct counters retired; /* of atomic sections that have ended */
    struct encoder encoders[MAX_ENCODERS];
    struct wait_shard shards[WAIT_SHARDS];
    uint64_t wait_ns;          /* how long a page is waited for */
    struct map_list maps;      /* that are open */
    _Atomic bool has_homes;    /* some object has been mapped */
    unsigned forks;            /* home_forks() when the first one was */
};

static inline void bump(_Atomic uint64_t *counter, uint64_t by)
{
    /* One thread adds to it: no read-modify-write is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

static inline struct pgs_object *object_of(pgs_store *store, uint32_t object)
{
    return object < MAX_OBJECTS
               ? atomic_load_explicit(&store->objects[object], memory_order_acquire)
               : NULL;
}

static inline unsigned char *frame_bytes(const pgs_store *store, uint32_t frame)
{
    return store->arena + (uint64_t)frame * store->page_size;
}

static inline uint64_t address_of(const pgs_store *store, const struct pgs_object *object,
                                  uint64_t page_no)
{
    return object->base_address + page_no * store->page_size;
}

/* Whether the page, once it was changed, may go to its object's backing. */
static inline bool page_has_backing(const struct pgs_object *object, uint64_t page_no)
{
    return object->backing.page_out && page_no < object->backing_pages;
}

/* Another tier has its bytes, or will take them, and may. For a page with a copy in
 * the pool this changes only where the page is treated otherwise (pgs_treat). */
static inline bool page_can_lose_copy(const struct pgs_object *object, uint64_t page_no,
                                      uint64_t word)
{
    return !(word & PAGE_STAYS) && (!(word & PAGE_DIRTY) || page_has_backing(object, page_no));
}

/* The codec that made a coded copy. */
static inline const pgs_codec *codec_of_copy(const struct pgs_object *object, uint64_t word)
{
    return page_coding(word) >= CODING_CODED ? object->codecs[page_coding(word) - CODING_CODED]
                                             : object->codecs[PGS_EFFORT_FAST];
}

/* One page that a worker works on. */
struct job {
    pgs_store *store;
    struct worker *worker;
    struct pgs_object *object;
    struct page *page;     /* NULL: it has no entry yet (slot_provide) */
    struct member *member; /* whose page it is; NULL where that is not asked */
    struct section *section; /* what its thread has promised here, or NULL */
    struct encoder *packer; /* to be used instead of the store's own, or NULL */
    uint32_t object_no;
    uint32_t page_no;     /* in its table */
    uint32_t member_page; /* its number in its member */
};

/* The entry of a page that has one. */
struct page *page_entry(const struct pgs_object *object, uint32_t page_no);

/* page.c: waiting for a page; but for page_claim not for ever: PGS_E_TIMEOUT */
int page_await(pgs_store *store, struct page *page);
void page_claim(pgs_store *store, struct page *page);
/* Whether the job's thread may use a page in this state; in an atomic section only
 * one that is in its frame, and not on its way. */
int page_may_use(const struct job *job, uint64_t word);
int page_claim_to_use(const struct job *job);
/* Claims the job's page. After an error it is not claimed, nor where it is another by now:
 * PAGE_MOVED (family.h). */
int job_claim(const struct job *job);
void page_publish(pgs_store *store, struct page *page, uint64_t clear, uint64_t set);

/* budget.c */
bool budget_has(const pgs_store *store, uint64_t bytes);
uint64_t budget_for_pages(const pgs_store *store);  /* what metadata leaves */
uint64_t budget_pool_share(const pgs_store *store); /* for clean compressed pages */
uint64_t pool_over_share(const pgs_store *store, uint64_t more);
bool budget_charge(pgs_store *store, uint64_t bytes);
void budget_uncharge(pgs_store *store, uint64_t bytes);
int budget_make_room(pgs_store *store, struct worker *worker, uint64_t bytes);
int metadata_charge(pgs_store *store, struct worker *worker, uint64_t bytes);
void metadata_uncharge(pgs_store *store, uint64_t bytes);

/* worker.c */
struct worker *worker_take(pgs_store *store);
void worker_give(struct worker *worker);
/* Around what changes the objects or the budget: the object lock, and a worker. An
 * error, and it is not to be ended, where the thread must not wait. */
int change_begin(pgs_store *store, struct worker **worker_ret);
void change_end(pgs_store *store, struct worker *worker);
/* Adds up what a thread's own worker counted, and frees it. */
void worker_retire(pgs_store *store, struct worker *worker);
int worker_prepare(pgs_store *store, struct worker *worker, const struct pgs_object *object);
pgs_coder *worker_decoder(const struct worker *worker, const pgs_codec *codec);
/* room_bytes, or NULL where there is no RAM for them. */
unsigned char *worker_room(pgs_store *store, struct worker *worker);
void workers_close(pgs_store *store);

/* encoder.c */
int encoders_prepare(pgs_store *store, struct worker *worker, const pgs_codec *codec,
                     bool writes_back);
struct encoder *encoder_take(pgs_store *store, const pgs_codec *codec, enum encoder_use use);
void encoder_give(struct encoder *encoder);
int encoder_open(pgs_store *store, struct worker *worker, const pgs_codec *codec,
                 struct encoder *encoder);
void encoder_close(pgs_store *store, struct encoder *encoder);
void encoders_close(pgs_store *store);

/* frame.c: a frame is spare (without RAM), ready (with RAM) or holds a page */
int frames_init(pgs_store *store);
void frames_deinit(pgs_store *store);
static inline void frame_in_hand(pgs_store *store)
{
    atomic_fetch_add_explicit(&store->frames_in_hand, 1, memory_order_relaxed);
}

static inline void frame_off_hand(pgs_store *store)
{
    atomic_fetch_sub_explicit(&store->frames_in_hand, 1, memory_order_relaxed);
}

int frame_take(pgs_store *store, struct worker *worker, uint32_t *frame_ret);
void frame_give(pgs_store *store, uint32_t frame);
/* Gives the RAM of one frame, the policy's choice, back to the budget. */
bool frames_shrink(pgs_store *store, struct worker *worker);
int frames_reserve(pgs_store *store, struct worker *worker); /* after one more is held */
bool frame_take_free(pgs_store *store, uint32_t *frame_ret);
/* Says that a frame, taken for the job's page, holds it, and where its bytes go: to
 * its member's home where that is mapped. */
unsigned char *frame_place(const struct job *job, uint32_t frame);
/* Gives back the RAM that its page has in a home, before the page is published without
 * it. */
void frame_vacate(pgs_store *store, uint32_t frame);
bool frame_part(pgs_store *store, uint32_t frame);
void frame_parted(pgs_store *store, uint32_t frame, uint64_t credit);
void frame_keep(pgs_store *store);

/* page_in.c: the page is claimed, or held by PAGE_READER where it says so */
int page_fetch(const struct job *job, uint64_t word, void *out);
/* Has the compressed bytes of a page, which need not be claimed, on their way. */
void page_prefetch(const pgs_store *store, const struct page *page);
int page_decode_copy(const struct job *job, pgs_coder *coder, void *out, uint32_t *size_ret);
int page_may_fault(const struct job *job);
int page_bring_in(const struct job *job);
void page_install(const struct job *job, uint32_t frame, bool ghost);

/* pin.c: counts one more frame as held, if enough remain beside it; it is to be released */
bool hold_one(const struct job *job);
/* counts a claimed page's frame as held, and has the page in it, unless it is
 * held already; and the other way round */
int page_hold(const struct job *job);
void page_release(pgs_store *store);

/* treat.c: a byte of enum pgs_treatment as bits of a page's word */
bool is_treatment(uint8_t treatment);
uint64_t treatment_bits(uint8_t treatment);

/* move.c: the page is claimed */
void page_empty(const struct job *job);

/* access.c: the page is hot */
void page_note_use(const struct job *job);

/* map_age.c: a page has left its frame; which of those that are mapped are used? */
void maps_age(pgs_store *store);
/* The page is claimed and hot: nobody writes it through a map until it is published, and
 * what was written is known. */
void map_settle(const struct job *job);

/* map.c: takes all ranges away */
void maps_close(pgs_store *store);


/* page_out.c: the page is claimed */
int page_store_copy(const struct job *job, struct encoder *encoder, const void *bytes, bool keep,
                    uint32_t *frame);
/* The page has a copy, coded so. */
void page_set_coding(struct page *page, enum page_coding coding);
/* One of those that the page is to be coded with. */
struct encoder *encoder_for(const struct job *job);
/* `copy`: see backing_page_out. */
int page_write_back(const struct job *job, const void *bytes, const struct pgs_copy *copy);
/* The same for a page that is compressed: from its copy. */
int page_write_back_copy(const struct job *job);
int page_leave(const struct job *job, uint32_t *frame);
void page_drop_copy(const struct job *job);
bool page_is_clean(const struct job *job, const void *bytes);

/* departure.c: the first page that can leave gives its frame */
bool evict_one(pgs_store *store, struct worker *worker, uint32_t *frame_ret);
/* All leave that may, pages that have just come as well. */
void evict_all(pgs_store *store, struct worker *worker);

/* section.c: the thread's state in a store is there while it has any */
int section_open(pgs_store *store, struct section **section_ret);
void section_close(struct section *section);
/* verify.c: with PGS_STORE_VERIFY has all pages leave that may; worker NULL: takes one */
void verify_evict(pgs_store *store, struct worker *worker);

/* reclaim.c */
bool pool_make_room(pgs_store *store, struct worker *worker);
struct pool_owner pool_owner_of(pgs_store *store);

/* clock */
static inline uint16_t stamp_of(const pgs_store *store, uint64_t clock)
{
    return (uint16_t)(clock >> store->stamp_shift);
}

static inline uint64_t clock_of(const pgs_store *store)
{
    return atomic_load_explicit(&store->clock, memory_order_relaxed);
}

/* A fault: time moves on. */
static inline uint64_t clock_tick(pgs_store *store)
{
    return atomic_fetch_add_explicit(&store->clock, 1, memory_order_relaxed) + 1;
}

/* Faulted, or left its frame, within about as many faults as there are frames. */
static inline bool page_is_ghost(const pgs_store *store, uint64_t word, uint64_t clock)
{
    uint16_t stamp = page_stamp(word);
    uint32_t frames = atomic_load_explicit(&store->frame_count, memory_order_relaxed);
    return stamp != 0 &&
           (uint16_t)(stamp_of(store, clock) - stamp) <= frames >> store->stamp_shift;
}

/* The time in ns, or 0 where the store is not timed. */
uint64_t nanoseconds(const pgs_store *store);

#endif
