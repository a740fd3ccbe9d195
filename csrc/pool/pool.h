/* SPDX-License-Identifier: MIT
 *
 * The compressed pool: an allocator for objects of 1 byte to 64 KiB that
 * moves them to close its holes.
 *
 * The pool is a row of segments in one reserved range of addresses. A segment
 * is filled from its start; what is freed stays a hole until the segment is
 * slid together. RAM is taken, and given back, page by page at the segments'
 * ends: a segment's `committed` bytes are what it costs.
 *
 * An object belongs to a page, whose owner can refuse that it be moved now.
 */
#ifndef PGS_POOL_H
#define PGS_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where an object lies: 8-byte units from the pool's base. */
typedef uint32_t pool_place;

/* Whose bytes they are. */
struct pool_key {
    uint32_t page_no;
    uint16_t object;
};

enum { POOL_NO_OBJECT = 0xffff, POOL_UNIT = 8, POOL_HEADER_BYTES = 8 };

/* How the pool asks for leave. Called with the pool's lock held; must not
 * block and must not call the pool. */
struct pool_owner {
    void *ctx;
    /* True: the object may be moved or freed until `release`. */
    bool (*claim)(void *ctx, struct pool_key key);
    /* Ends a claim; `place` is where the object now lies. */
    void (*release)(void *ctx, struct pool_key key, pool_place place);
    /* Takes or gives back bytes of the budget. `charge` may refuse. */
    bool (*charge)(void *ctx, size_t bytes);
    void (*uncharge)(void *ctx, size_t bytes);
};

struct pool_segment {
    uint32_t tail;       /* bytes in use from the start, holes included */
    uint32_t hole_bytes; /* of these, in holes */
    uint32_t committed;  /* bytes of RAM, a multiple of the OS page */
};

struct pool {
    pthread_mutex_t lock;
    struct pool_owner owner;
    unsigned char *base;
    struct pool_segment *segments;
    uint32_t segment_size;
    uint32_t segment_count; /* reserved, most of them empty at first */
    uint32_t open;          /* the segment that new objects go to */
    uint32_t used_segments; /* one past the highest that was ever open */
    uint32_t os_page;
    uint64_t hand; /* the sweep's place: bytes from base */
    /* Read without the lock by statistics and limits. */
    _Atomic uint64_t committed_bytes;
    _Atomic uint64_t object_bytes; /* with headers and rounding */
    _Atomic uint64_t stored_bytes; /* as the objects' owners count them */
    _Atomic uint64_t object_count;
};

/* Reserves addresses for `max_bytes` of RAM; takes none yet, but for the
 * segment table (pool_metadata_bytes). */
int pool_init(struct pool *pool, const struct pool_owner *owner, uint64_t max_bytes,
              uint32_t page_size);
void pool_deinit(struct pool *pool);
size_t pool_metadata_bytes(const struct pool *pool);

/* How the pool may grow for an allocation. */
struct pool_growth {
    bool allowed;    /* false: it lives on holes */
    uint32_t credit; /* bytes charged already, which it uses up instead of charging */
};

/* Allocates `size` bytes. PGS_E_BUDGET where there is no room. What is left
 * of the credit stands in *growth afterwards. The object cannot be moved as
 * long as its owner refuses a claim. */
int pool_alloc(struct pool *pool, struct pool_key key, uint32_t size, struct pool_growth *growth,
               pool_place *place_ret);

/* Frees an object. The caller has it claimed, or is its owner. */
void pool_free(struct pool *pool, pool_place place);

/* Makes an object shorter; its first `size` bytes stay. As pool_free. */
void pool_trim(struct pool *pool, pool_place place, uint32_t size);

/* Where an object's bytes are, and how many. Valid while it cannot move. */
unsigned char *pool_bytes(const struct pool *pool, pool_place place, uint32_t *size_ret);

/* Walks on from where the last sweep ended, once round at most, and calls
 * `visit` with the pool's lock held for each object, until it returns false. */
void pool_sweep(struct pool *pool, bool (*visit)(void *ctx, struct pool_key key), void *ctx);

/* Slides and merges segments until RAM taken exceeds what the objects need by
 * at most `slack_percent`, or nothing more can be gained. */
void pool_compact(struct pool *pool, unsigned slack_percent);

/* True where holes are so many that pool_compact is due. */
bool pool_is_loose(const struct pool *pool);

#endif
