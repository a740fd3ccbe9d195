/* SPDX-License-Identifier: MIT
 *
 * The store: objects whose pages live in frames, in a compressed pool, or
 * with their backing, under one budget of RAM.
 *
 * Every function may be called by any thread at any time, except where it
 * says otherwise. No function calls back into its caller but through a
 * backing.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_STORE_H
#define PAGESTEP_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/codec.h"

/* How gladly a page leaves RAM. */
enum pgs_level {
    PGS_LEVEL_PINNED = 0,      /* never */
    PGS_LEVEL_LAST_RESORT = 1, /* only if you absolutely have to */
    PGS_LEVEL_RELUCTANT = 2,
    PGS_LEVEL_NORMAL = 3,
    PGS_LEVEL_EAGER = 4,
    PGS_LEVEL_STEP_ON_IT = 5, /* never needed in a hurry */
    PGS_LEVEL_COUNT = 6
};

/* Which of its object's codecs a page is compressed with; of one that has no second,
 * the first. */
enum pgs_effort {
    PGS_EFFORT_FAST = 0,     /* the codec that the object was added with */
    PGS_EFFORT_BALANCED = 1, /* its second (pgs_object_add_codec) */
    PGS_EFFORT_SETTLING = 2, /* the first; the second when room is needed and it is cold */
    PGS_EFFORT_COUNT = 3
};

/* How a page is treated, in one byte: its level, its effort times PGS_TREAT_EFFORT,
 * and PGS_TREAT_STAYS where, once it was read, it may leave its frame but
 * not RAM, unless pgs_discard says so. */
enum pgs_treatment { PGS_TREAT_LEVEL_MASK = 7, PGS_TREAT_EFFORT = 8, PGS_TREAT_STAYS = 32,
                     PGS_TREAT_END = 64 };

/* Who chooses the frame that is given up. */
enum pgs_policy_id {
    PGS_POLICY_S3FIFO = 0, /* hits take no lock */
    PGS_POLICY_LRU = 1,    /* exact, as a control: every hit takes the queue's lock */
    /* For tests of what relies on a page staying: */
    PGS_POLICY_RANDOM = 2, /* any page, the same in every run */
    PGS_POLICY_WORST = 3,  /* the one that LRU would keep longest */
    PGS_POLICY_COUNT = 4
};

/* Where a fault found its page. */
enum pgs_source {
    PGS_SOURCE_COMPRESSED = 0, /* the compressed pool */
    PGS_SOURCE_SAME = 1,       /* one repeated word, kept in the page's entry */
    PGS_SOURCE_BACKING = 2,    /* the object's backing */
    PGS_SOURCE_ZERO = 3,       /* anonymous and never written */
    PGS_SOURCE_ROM = 4,        /* a ROM image behind the object's backing */
    PGS_SOURCE_SWAP = 5,       /* blobs behind the object's backing (pagestep/blobs.h) */
    PGS_SOURCE_COUNT = 6
};

/* How pages are read (pgs_read). */
enum pgs_read_flag {
    PGS_READ_THROUGH = 0,   /* a page that faults gets a frame only if that pays */
    PGS_READ_INTO_FRAME = 1 /* a page that faults always gets a frame, as one that
                               is executed or mapped must */
};

enum pgs_store_flag {
    PGS_STORE_TIMED = 1,  /* measure the time of every fault (about 50 ns each) */
    PGS_STORE_VERIFY = 2, /* every page that may leave its frame does so when an atomic
                             section begins, a pin is taken back or a lock is taken:
                             what relies on luck fails at once (pagestep/discipline.h) */
    PGS_STORE_AUDIT = 4   /* hold every eviction against all frames that could have gone */
};

/* What is known of a backing. */
enum pgs_backing_flag {
    PGS_BACKING_LEARN_LATE = 1 /* its pages are dear: none is read when the object is added, and
                                  each one's checksum is kept when it is first read */
};

/* A page's copy in the compressed pool, for a backing that may take it as it is. */
struct pgs_copy {
    const pgs_codec *codec; /* what decodes it */
    uint64_t address;       /* the page's, as the branch filter saw it */
    const void *bytes;
    uint32_t size;
    uint32_t reserved;
};

/* What can give an object's pages back and, if page_out is not NULL, take
 * them. Functions are called by several threads at once and return 0 or a
 * negative enum pgs_error; they must not call the store. */
struct pgs_backing {
    uint32_t struct_size; /* sizeof(struct pgs_backing) */
    uint32_t flags;       /* enum pgs_backing_flag, or'ed */
    void *ctx;
    /* Fills `page`, page_size bytes, with page `page_no`. */
    int (*page_in)(void *ctx, uint64_t page_no, void *page);
    /* Keeps `page`, so that page_in gives it back. After an error page_in may give
     * anything. May be NULL: read-only. */
    int (*page_out)(void *ctx, uint64_t page_no, const void *page);
    /* Says that these pages will not be asked for again. May be NULL. */
    int (*discard)(void *ctx, uint64_t first_page_no, uint64_t page_count);
    /* Pages with numbers below this it can hold; asked once. Others stay in RAM once they
     * were changed. May be NULL: all. */
    uint64_t (*capacity)(void *ctx);
    /* Called once, when the object goes. May be NULL. */
    void (*close)(void *ctx);
    /* Says where page_in finds a page: PGS_SOURCE_BACKING, or, of a backing that
     * checks its bytes itself, PGS_SOURCE_ROM, PGS_SOURCE_SWAP, PGS_SOURCE_ZERO where the page
     * is zeros, or PGS_SOURCE_SAME where it
     * repeats one word. *size_ret, page_size before the call, is how many bytes
     * are read for it. May be NULL: PGS_SOURCE_BACKING. */
    uint32_t (*source)(void *ctx, uint64_t page_no, uint32_t *size_ret);
    /* Bytes of RAM that it takes: part of the store's metadata as long as the
     * object is there. Asked once. May be NULL: none that counts. */
    uint64_t (*memory_bytes)(void *ctx);
    /* As page_out, where the page's copy is at hand as well. May be NULL: page_out is asked. */
    int (*page_out_copy)(void *ctx, uint64_t page_no, const void *page,
                         const struct pgs_copy *copy);
    /* Makes durable what page_out and discard were given. May be NULL: it is. */
    int (*flush)(void *ctx);
};

/* A run of an object's bytes that lies in a file. */
struct pgs_extent {
    uint64_t object_offset; /* bytes from the object's first */
    uint64_t file_offset;   /* bytes from the file's first */
    uint64_t size;          /* bytes */
};

/* What PGS_STORE_AUDIT tells apart of a victim: by which power of two it falls short. */
enum pgs_shortfall { PGS_SHORTFALL_COUNT = 32 };

typedef struct pgs_store pgs_store;

struct pgs_store_params {
    uint32_t struct_size;  /* sizeof(struct pgs_store_params) */
    uint32_t page_size;    /* a power of two, 512 to 65536 */
    uint64_t budget_bytes; /* frames, compressed pool and metadata together */
    uint32_t policy;       /* enum pgs_policy_id */
    uint32_t flags;        /* enum pgs_store_flag, or'ed */
    uint32_t pool_percent; /* of what is left of the budget after metadata and held
                              frames, how much clean compressed pages may take; 0 to 100 */
    uint32_t wait_ms;      /* how long a page that another thread moves is waited for before
                              PGS_E_TIMEOUT; 0: 30,000 */
    uint32_t reserved;     /* 0 */
};

/* A snapshot. Counts of pages and bytes are of the moment, the others since
 * the store was opened. */
struct pgs_stats {
    uint64_t budget_bytes;
    uint64_t used_bytes;      /* hot + pool + metadata */
    uint64_t used_bytes_max;  /* the most it ever was */
    uint64_t hot_bytes;       /* RAM in frames */
    uint64_t pool_bytes;      /* RAM the compressed pool takes */
    uint64_t stored_bytes;    /* compressed bytes in it */
    uint64_t metadata_bytes;  /* page tables, frame table, codecs, coders, backings */
    uint64_t page_count;      /* of all objects */
    uint64_t hot_pages;
    uint64_t compressed_pages; /* in the pool and in no frame */
    uint64_t same_pages;       /* same-filled and in no frame */
    uint64_t absent_pages;     /* only their backing has them, or they are zeros */
    uint64_t shared_pages;     /* of objects that have a page together with another, which
                                  is counted there; with the four above all pages */
    uint64_t shared_bytes;     /* of frames and of stored bytes: pages of several objects,
                                  each counted once */
    uint64_t private_bytes;    /* pages of one object */
    uint64_t dirty_pages;
    uint64_t pinned_pages;
    uint64_t reads;            /* pages read, hits and faults */
    uint64_t writes;
    uint64_t hits;             /* reads and writes that found a frame */
    uint64_t faults[6];        /* by enum pgs_source */
    uint64_t fault_ns[6];      /* by enum pgs_source; 0 unless PGS_STORE_TIMED */
    uint64_t fault_bytes[6];   /* bytes read to serve them, by enum pgs_source */
    uint64_t level_faults[6];  /* by enum pgs_level */
    uint64_t level_pages[6];   /* by enum pgs_level */
    uint64_t level_hot[6];     /* pages in frames, by enum pgs_level */
    uint64_t page_outs;        /* pages that left a frame */
    uint64_t encodes;          /* pages compressed, whether they left a frame or not */
    uint64_t encode_ns;        /* 0 unless PGS_STORE_TIMED */
    uint64_t discards;         /* pages whose last copy in RAM was dropped */
    uint64_t writebacks;       /* pages given to their backing */
    uint64_t corrupt;          /* page-ins refused for their bytes */
    /* With PGS_STORE_AUDIT. A victim's idle time counts in faults, times its level's
     * weight; [k] are evictions where the greatest of all was below 2^k times it, and
     * not below 2^(k-1) times, [0] those where it was the greatest itself. */
    uint64_t audited;          /* evictions looked at */
    uint64_t shortfalls[32];
    uint64_t held_victims;     /* that were pinned or PINNED: never */
    uint64_t fresh_victims;    /* that their thread had just faulted in, as no other could go */
};

/* Opens an empty store. Errors: PGS_E_INVALID, PGS_E_NOMEM, PGS_E_BUDGET (not
 * even the fewest frames fit). On error *store_ret is NULL. */
int pgs_store_open(const struct pgs_store_params *params, pgs_store **store_ret);

/* Closes a store, its heaps, its objects and their backings. No other call may be under
 * way, and no view of it may be used afterwards. NULL is accepted. */
void pgs_store_close(pgs_store *store);

/* Bytes of metadata that a store costs for each page of its objects. */
size_t pgs_store_entry_bytes(void);

/* Changes the budget. Less RAM: pages leave until it holds, or PGS_E_BUDGET
 * with the old budget in force. More than eight times the first budget is
 * PGS_E_INVALID. */
int pgs_store_set_budget(pgs_store *store, uint64_t budget_bytes);

/* Adds an object of page_count pages, the first at base_address (what branch
 * filters see). `backing` is copied; NULL: anonymous, pages read as zeros until
 * written. Where there is a backing, every page is read once, to know its
 * checksum, but for those of PGS_SOURCE_ROM and PGS_SOURCE_SWAP, of which that is known when they
 * are first asked for, and those of PGS_SOURCE_ZERO. `codec` is used for its compressed pages: NULL for none, else it
 * must outlive the store; its page_size must be the store's. *object_ret is
 * the object's number.
 * On error the backing is not closed. Errors: PGS_E_INVALID, PGS_E_NOMEM,
 * PGS_E_BUDGET (page table, or what the backing takes, does not fit), PGS_E_IO. */
int pgs_object_add(pgs_store *store, uint64_t page_count, uint64_t base_address,
                   const struct pgs_backing *backing, const pgs_codec *codec, uint32_t *object_ret);

/* Adds anonymous memory, whose pages are treated so until pgs_treat says otherwise
 * (enum pgs_treatment; not PGS_LEVEL_PINNED). A page that was never written takes no RAM, and
 * no entry of the page table where none of its 128 neighbours was. `backing`, or
 * NULL, is where pages go when RAM is short: it is asked for no page that it was not
 * given, and its page numbers are the store's own, which can exceed page_count once there are
 * forks: those from its `capacity` on it never sees. Errors: those of pgs_object_add. */
int pgs_anonymous_add(pgs_store *store, uint64_t page_count, uint32_t treatment,
                      const struct pgs_backing *backing, const pgs_codec *codec,
                      uint32_t *object_ret);

/* Forks anonymous memory: a new object, *object_ret, has the same bytes. Pages are shared
 * until one side writes to them, and each has its RAM as long as any object has it,
 * whatever the order in which they go. It is one moment of the object, whatever others
 * write to it meanwhile. It costs 4 bytes a page, and takes as long as these take to copy. Pages
 * keep their treatment; pins stay with who made them. Where an object pins or views a page
 * that it shares it first gets one of its own; of one that was pinned before the fork the others
 * do when it is written, so that views stay.
 * Errors: PGS_E_UNSUPPORTED (not anonymous), PGS_E_RANGE, PGS_E_NOMEM, PGS_E_BUDGET,
 * PGS_E_INVALID (65,536 objects are there). */
int pgs_object_fork(pgs_store *store, uint32_t object, uint32_t *object_ret);

/* Gives anonymous memory another number of pages. What is beyond it is given up; new pages
 * read as zeros. Errors: PGS_E_PINNED (a page beyond it is pinned: nothing has changed),
 * PGS_E_MAPPED, PGS_E_UNSUPPORTED (not anonymous), PGS_E_RANGE, PGS_E_INVALID,
 * PGS_E_NOMEM, PGS_E_BUDGET. */
int pgs_object_resize(pgs_store *store, uint32_t object, uint64_t page_count);

/* What one object has. */
struct pgs_object_stats {
    uint64_t page_count;
    uint64_t hot_pages;
    uint64_t compressed_pages; /* in the pool and in no frame */
    uint64_t same_pages;       /* same-filled and in no frame */
    uint64_t absent_pages;     /* only its backing has them, or they are zeros */
    uint64_t shared_pages;     /* of those that are not absent: others have them too */
    uint64_t shared_bytes;     /* RAM of these: frames and stored bytes */
    uint64_t private_bytes;    /* RAM of those that it has alone */
    uint64_t member_count;     /* objects of its family: itself, and what forks made */
};

/* Takes a snapshot of it. Errors: PGS_E_RANGE, PGS_E_ATOMIC, PGS_E_REENTRY. */
int pgs_object_stats(pgs_store *store, uint32_t object, struct pgs_object_stats *stats_ret);

/* Gives an object a second codec, denser than the first; it must outlive the store. No
 * other call on the object may be under way. Errors: PGS_E_INVALID (it has a second, or
 * no first, or this is the first), PGS_E_NOMEM, PGS_E_BUDGET. */
int pgs_object_add_codec(pgs_store *store, uint32_t object, const pgs_codec *codec);

/* Drops an object with all its pages, but for those that its forks have, and with the last
 * of these closes its backing. No other call on the object may be under way. PGS_E_PINNED
 * where it pins a page, PGS_E_MAPPED while it is mapped. */
int pgs_object_remove(pgs_store *store, uint32_t object);

/* Says how pages are treated from now on, which at first is PGS_LEVEL_NORMAL and
 * PGS_EFFORT_SETTLING: page page_nos[i] as treatments[i], all or
 * none. A page must not be named twice; where
 * forks share it it is treated so for all of them. One that becomes PGS_LEVEL_PINNED is paged in at
 * once and held, before any other is let go; where one cannot be, nothing is changed. Errors: PGS_E_INVALID (no such treatment), PGS_E_RANGE,
 * PGS_E_NOMEM, PGS_E_BUDGET, and those of pgs_read. */
int pgs_treat(pgs_store *store, uint32_t object, const uint64_t *page_nos,
              const uint8_t *treatments, size_t count);

/* What a level multiplies a page's idle time with; 0 for PGS_LEVEL_PINNED. */
uint32_t pgs_level_weight(uint32_t level);

/* Reads `count` whole pages: page page_nos[i] to out + i * page_size.
 * statuses_ret[i] is 0 or what kept that page from being read; what `out`
 * holds there is then not specified. Returns 0, or the first page's error.
 * Errors of a page: PGS_E_RANGE, PGS_E_CORRUPT, PGS_E_IO, PGS_E_ROM_ABSENT, and with
 * PGS_READ_INTO_FRAME PGS_E_BUDGET. A thread's first call needs RAM for a
 * decoder: PGS_E_BUDGET for all pages where there is none. statuses_ret may be NULL: then it stops at
 * the first error. */
int pgs_read(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
             uint32_t flags, void *out, int32_t *statuses_ret);

/* Reads one page: pgs_read with a count of 1, cheaper to call. */
int pgs_read_page(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t flags, void *out);

/* Writes `count` whole pages; as pgs_read. A page whose write fails keeps its
 * old bytes. Errors of a page: PGS_E_RANGE, PGS_E_BUDGET. */
int pgs_write(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
              const void *in, int32_t *statuses_ret);

/* Writes `size` bytes at `offset` in one page. Errors: those of pgs_read and
 * pgs_write, and PGS_E_INVALID where the bytes do not lie in the page. */
int pgs_write_part(pgs_store *store, uint32_t object, uint64_t page_no, uint32_t offset,
                   const void *in, uint32_t size);

/* Brings pages into frames. Statuses as pgs_read. */
int pgs_page_in(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                int32_t *statuses_ret);

/* Compresses pages and frees their frames; pages that are absent are read and
 * compressed, but for anonymous ones that were never written. Clean hot pages of level
 * EAGER or STEP_ON_IT are dropped. Errors of a page: PGS_E_PINNED, PGS_E_BUDGET, and those of
 * pgs_read. Statuses as pgs_read. */
int pgs_page_out(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                 int32_t *statuses_ret);

/* The same at another level of the object's codec: more effort for pages that
 * are to stay compressed, with tables that take RAM for the length of this
 * call only. Pages that are compressed already stay as they are. Errors as
 * well: PGS_E_INVALID (no such level), PGS_E_UNSUPPORTED (the object has no
 * codec). */
int pgs_pack(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
             int32_t level, int32_t *statuses_ret);

/* Drops pages from RAM altogether. Errors of a page: PGS_E_DIRTY (its backing
 * does not have its bytes), PGS_E_PINNED. Statuses as pgs_read. */
int pgs_discard(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count,
                int32_t *statuses_ret);

/* Has the object's backing make its pages durable: writes every dirty page to it, which stays
 * where it is and becomes clean, then flushes it. Pages written meanwhile may be in it or not.
 * Goes on after an error of a page. *written_ret is how many were written, *failed_ret the first that
 * could not be, or UINT64_MAX where it was no page's. Errors: PGS_E_UNSUPPORTED (there is
 * no backing that takes pages), PGS_E_FULL (it has no room for this page's number, or none at
 * all), those of pgs_read, and the backing's. */
int pgs_flush(pgs_store *store, uint32_t object, uint64_t *written_ret, uint64_t *failed_ret);

/* Gives up the bytes of a run of pages; they take neither a frame nor room in the pool
 * afterwards. Pages of an anonymous object then read as zeros, and are treated as they were
 * when it was added; other objects that have them keep them. Pages of an image are
 * PGS_E_GONE until they are written whole. *forgotten_ret is how many were given up.
 * Errors: PGS_E_RANGE; PGS_E_PINNED where pages were held and kept their bytes; all
 * others are given up. */
int pgs_forget(pgs_store *store, uint32_t object, uint64_t first_page_no, uint64_t page_count,
               uint64_t *forgotten_ret);

/* Pins pages into frames, all or none. Pins are counted. Errors: those of
 * pgs_read, and PGS_E_BUDGET. */
int pgs_pin(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count);

/* Takes back one pin of each page. PGS_E_INVALID where this object does not pin one: none is
 * taken back, unless a page is named more often than it is pinned. */
int pgs_unpin(pgs_store *store, uint32_t object, const uint64_t *page_nos, size_t count);

/* Pins a page and gives the address of its bytes in RAM, valid until
 * pgs_unpin. Writes by pgs_write show through it. Errors as pgs_pin. */
int pgs_view(pgs_store *store, uint32_t object, uint64_t page_no, const void **page_ret);

/* The kinds of access in a trace. */
enum pgs_access_kind { PGS_ACCESS_FETCH = 0, PGS_ACCESS_READ = 1, PGS_ACCESS_WRITE = 2 };

/* Replays accesses in order, as a processor would make them: each page is
 * brought into a frame. `shadow` holds the whole object as it must be: a page
 * that is fetched or read is compared with it; a write changes 8 bytes of the
 * page and of the shadow, with the event's number. Events are numbered from
 * first_event. *done_ret is how many were replayed before an error.
 * Errors: those of pgs_read and pgs_write; PGS_E_CORRUPT also where a page
 * differs from the shadow. */
int pgs_replay(pgs_store *store, uint32_t object, const uint32_t *page_nos, const uint8_t *kinds,
               size_t count, uint64_t first_event, void *shadow, size_t *done_ret);

/* Takes a snapshot of the statistics. Errors: PGS_E_ATOMIC, PGS_E_REENTRY. */
int pgs_store_stats(pgs_store *store, struct pgs_stats *stats_ret);

/* A backing over a file: the object's bytes lie at `extents` (sorted by
 * object_offset, not overlapping; copied), all others are zero. `fd` is
 * duplicated. Read-only. Errors: PGS_E_INVALID, PGS_E_NOMEM, PGS_E_IO. */
int pgs_backing_file(int fd, const struct pgs_extent *extents, size_t extent_count,
                     uint32_t page_size, struct pgs_backing *backing_ret);

/* A backing over memory of the caller's, which must outlive it and stay as
 * it is; bytes beyond `size` are zero. Read-only. Errors: PGS_E_NOMEM. */
int pgs_backing_memory(const void *base, uint64_t size, uint32_t page_size,
                       struct pgs_backing *backing_ret);

/* Puts a file for changed pages in front of a read-only backing: page n goes
 * to n * page_size of `fd`, which is duplicated. `base` is taken over, and
 * closed with it; on error it is not. Errors: PGS_E_INVALID, PGS_E_NOMEM,
 * PGS_E_IO. */
int pgs_backing_scratch(const struct pgs_backing *base, int fd, uint64_t page_count,
                        uint32_t page_size, struct pgs_backing *backing_ret);

#endif
