/* SPDX-License-Identifier: MIT
 *
 * What the files of the coded backing share. Order of locks: `lock`, and no other under it;
 * no function of the blobs is called with it.
 */
#ifndef PGS_CODED_H
#define PGS_CODED_H

#include <pthread.h>
#include <stdbool.h>

#include "pagestep/blobs.h"
#include "store/blobs/blob_page.h"
#include "store/blobs/blob_table.h"
#include "store/blobs/lender.h"

enum { WORD_BITS = 64, STREAMS = 4, BATCH_MAX = 32 };

/* A run of page-ins, one after the other. */
struct stream {
    uint64_t next;              /* the page that would go on with it */
    uint64_t wanted, wanted_to; /* pages that the thread is to read; empty: none */
    uint64_t ahead_to;          /* up to here it was told to */
    uint64_t used;              /* when it last went on */
    uint32_t window;            /* pages */
};

struct coded {
    struct pgs_coded_params params;
    struct pgs_blobs blobs;
    struct pgs_backing base; /* struct_size 0: zeros */
    const pgs_codec *codec;
    struct blob_shape shape;
    struct lender encoders, decoders, room; /* room: for blobs that are read */

    pthread_mutex_t lock; /* of all that follows */
    uint64_t *present;    /* a bit a page: it has a blob, here or in the blobs */
    uint64_t *dropped;    /* a bit a page: it was discarded, and the blobs are to hear of it */
    uint64_t dropped_count, drop_cursor;
    struct pgs_coded_stats stats;
    bool closing;

    struct blob_table buffer; /* blobs to be written */
    pthread_cond_t to_write, written;
    uint64_t failing_since_ns, retry_ns; /* 0: the last write went well */
    uint64_t close_by_ns;
    uint32_t backoff_ms;
    bool discarding, discards_fail;
    pthread_t writer, reader;
    bool has_writer, has_reader;

    struct blob_table ahead; /* blobs that were read before they were asked for */
    pthread_cond_t to_read, read;
    struct stream streams[STREAMS];
    uint64_t stream_clock;
    uint32_t ahead_limit; /* pages: what has proved useful */
    uint64_t get_ns;      /* what a call of get takes, smoothed */
};

static inline uint64_t coded_deadline(const struct coded *coded, uint64_t now)
{
    return now + (uint64_t)coded->params.deadline_ms * 1000000u;
}

static inline bool bit_is_set(const uint64_t *bits, uint64_t at)
{
    return bits[at / WORD_BITS] >> at % WORD_BITS & 1;
}

static inline void bit_set(uint64_t *bits, uint64_t at)
{
    bits[at / WORD_BITS] |= (uint64_t)1 << at % WORD_BITS;
}

static inline void bit_clear(uint64_t *bits, uint64_t at)
{
    bits[at / WORD_BITS] &= ~((uint64_t)1 << at % WORD_BITS);
}

/* Below this a call of get is fast. */
enum { FAST_NS = 500000 };

/* Under the lock: how long a call of get took. One that was held up does not count for more
 * than a few. */
static inline void coded_note_get(struct coded *coded, uint64_t took_ns)
{
    coded->get_ns = (7 * coded->get_ns + (took_ns < 2 * FAST_NS ? took_ns : 2 * FAST_NS)) / 8;
}

/* write_back.c */
void *write_back_run(void *coded);
/* Takes a blob, or gives the reason why it cannot. */
int write_back_add(struct coded *coded, uint64_t page_no, const unsigned char *blob,
                   uint32_t size, uint64_t until_ns);
void write_back_drop(struct coded *coded, uint64_t first, uint64_t count);
/* Waits until all that was taken before is written. */
int write_back_drain(struct coded *coded);

/* read_ahead.c */
void *read_ahead_run(void *coded);
/* Notes, under the lock, that a page with a blob is asked for; may give the lock up meanwhile. */
void read_ahead_note(struct coded *coded, uint64_t page_no);
/* Under the lock: gives the page's blob where it was read ahead; waits where it is on its
 * way. *size_ret is 0 where it was not. */
int read_ahead_take(struct coded *coded, uint64_t page_no, unsigned char *blob,
                    uint32_t *size_ret, uint64_t until_ns);

#endif
