/* SPDX-License-Identifier: MIT
 *
 * Who leaves: the one seam behind which eviction policies live.
 *
 * A policy orders the frames that hold pages. The victim is the one whose
 * idle time, weighted by its level, is greatest; how nearly a policy finds it
 * is stated with the policy. Weights and not classes: two eager pages that
 * call each other would else throw each other out while idle ones sit.
 */
#ifndef PGS_EVICT_H
#define PGS_EVICT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pagestep/store.h"

#define NO_FRAME UINT32_MAX

enum { EVICT_USES_MAX = 3 };

/* A frame's row. `next` and `prev` belong to the policy while the frame holds
 * a page, and to the free list while it does not. */
struct frame {
    uint32_t next, prev;
    uint32_t page_no;
    uint16_t object;
    uint8_t level;
    uint8_t queue;              /* the policy's own */
    _Atomic uint32_t last_use;  /* fault clock */
    _Atomic uint8_t uses;       /* hits of late, at most EVICT_USES_MAX */
    uint8_t place;              /* enum frame_place_bit: where its RAM is */
    uint16_t guard_worker;      /* whose fault brought it */
    uint32_t guard_seq;         /* that worker's fault number then */
    uint32_t home_page;         /* with FRAME_HOMED: which page of which member's home */
    uint16_t home_member;
};

enum frame_place_bit {
    FRAME_BARE = 1, /* charged, but without RAM in the arena */
    FRAME_HOMED = 2 /* its page's bytes are in a home (map/home.h) */
};

struct evict_queue;

/* Idle time counts in faults, times this. */
extern const uint32_t evict_weights[PGS_LEVEL_COUNT];

/* What was found of the victims, where each is held against all others. */
struct evict_audit {
    uint64_t evictions;
    /* [k]: the greatest weighted idle time was below 2^k times the victim's, and not
     * below 2^(k-1) times; [0]: the victim's was the greatest */
    uint64_t shortfalls[PGS_SHORTFALL_COUNT];
};

struct evict_queue *evict_open(uint32_t policy, bool audited, struct frame *frames);
void evict_close(struct evict_queue *queue);

/* Takes in a frame that has just got a page. `ghost`: it left not long ago. */
void evict_insert(struct evict_queue *queue, uint32_t frame, uint32_t clock, bool ghost);

/* Forgets a frame. */
void evict_remove(struct evict_queue *queue, uint32_t frame);

/* Notes a use of the frame's page. No lock, but for policies that need one. */
void evict_note(struct evict_queue *queue, uint32_t frame, uint32_t clock);

/* Chooses a victim and takes it out of the queue. `claim` says whether the
 * frame may go, and claims its page; it is called with the queue's lock held
 * and must not block. NO_FRAME where none may. */
uint32_t evict_victim(struct evict_queue *queue, uint32_t clock,
                      bool (*claim)(void *ctx, uint32_t frame), void *ctx);

/* What the audit found so far. */
struct evict_audit evict_audit_of(struct evict_queue *queue);

#endif
