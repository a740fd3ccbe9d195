/* SPDX-License-Identifier: MIT
 *
 * Blobs in memory with named faults. What was put while it was dead, or torn, is as it was.
 */
#ifndef PGS_FAKE_BLOBS_H
#define PGS_FAKE_BLOBS_H

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "pagestep.h"

enum blobs_fault {
    BLOBS_FINE,
    BLOBS_FULL,        /* takes no blob */
    BLOBS_SLOW,        /* 2 ms a call */
    BLOBS_STUCK,       /* answers PGS_E_TIMEOUT after 5 ms */
    BLOBS_DEAD,        /* PGS_E_STORE_LOST, all at once, without a word of single blobs */
    BLOBS_TORN_WRITE,  /* keeps half of a blob, and says PGS_E_IO */
    BLOBS_ODD_REFUSED, /* refuses odd pages, takes the others */
    BLOBS_WRONG_BYTE,  /* gives one byte wrong */
    BLOBS_WRONG_PAGE,  /* gives the next page's blob */
    BLOBS_SHORT,       /* gives half a blob */
    BLOBS_LOSES        /* gives none */
};

struct fake_blobs {
    struct pgs_blobs ram;
    _Atomic int fault;
    _Atomic uint64_t gets, get_calls, puts, discards, flushes, closes;
};

static inline int fake_blobs_broken(struct fake_blobs *fake)
{
    switch ((enum blobs_fault)atomic_load(&fake->fault)) {
    case BLOBS_SLOW:
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        return PGS_OK;
    case BLOBS_STUCK:
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        return PGS_E_TIMEOUT;
    case BLOBS_DEAD:
        return PGS_E_STORE_LOST;
    default:
        return PGS_OK;
    }
}

static inline int fake_blobs_get(void *ctx, struct pgs_blob *blobs, size_t count,
                                 int32_t *statuses)
{
    struct fake_blobs *fake = ctx;
    enum blobs_fault fault = (enum blobs_fault)atomic_load(&fake->fault);
    atomic_fetch_add(&fake->gets, count);
    atomic_fetch_add(&fake->get_calls, 1);
    int error = fake_blobs_broken(fake);
    if (error)
        return error;
    for (size_t i = 0; fault == BLOBS_WRONG_PAGE && i < count; i++)
        blobs[i].page_no++;
    error = fake->ram.get(fake->ram.ctx, blobs, count, statuses);
    for (size_t i = 0; i < count; i++) {
        unsigned char *bytes = blobs[i].bytes;
        if (fault == BLOBS_WRONG_PAGE)
            blobs[i].page_no--;
        if (fault == BLOBS_WRONG_BYTE && blobs[i].size)
            bytes[blobs[i].size / 2] ^= 0x20;
        if (fault == BLOBS_SHORT)
            blobs[i].size /= 2;
        if (fault == BLOBS_LOSES)
            blobs[i].size = 0;
    }
    return error;
}

static inline int fake_blobs_put_one(struct fake_blobs *fake, enum blobs_fault fault,
                                     struct pgs_blob blob)
{
    int32_t status = PGS_OK;
    if (fault == BLOBS_FULL)
        return PGS_E_FULL;
    if (fault == BLOBS_ODD_REFUSED && blob.page_no % 2)
        return PGS_E_IO;
    if (fault == BLOBS_TORN_WRITE)
        blob.size = (blob.size + 1) / 2;
    int error = fake->ram.put(fake->ram.ctx, &blob, 1, &status);
    return fault == BLOBS_TORN_WRITE ? PGS_E_IO : error;
}

static inline int fake_blobs_put(void *ctx, const struct pgs_blob *blobs, size_t count,
                                 int32_t *statuses)
{
    struct fake_blobs *fake = ctx;
    int error = fake_blobs_broken(fake);
    if (error)
        return error;
    for (size_t i = 0; i < count; i++) {
        statuses[i] = fake_blobs_put_one(fake, (enum blobs_fault)atomic_load(&fake->fault),
                                         blobs[i]);
        if (!statuses[i])
            atomic_fetch_add(&fake->puts, 1);
        error = error ? error : statuses[i];
    }
    return error;
}

static inline int fake_blobs_discard(void *ctx, uint64_t first, uint64_t count)
{
    struct fake_blobs *fake = ctx;
    int error = fake_blobs_broken(fake);
    atomic_fetch_add(&fake->discards, 1);
    return error ? error : fake->ram.discard(fake->ram.ctx, first, count);
}

static inline int fake_blobs_flush(void *ctx)
{
    struct fake_blobs *fake = ctx;
    atomic_fetch_add(&fake->flushes, 1);
    return fake_blobs_broken(fake);
}

static inline int fake_blobs_capacity(void *ctx, uint64_t *total_ret, uint64_t *used_ret)
{
    struct fake_blobs *fake = ctx;
    return fake->ram.capacity(fake->ram.ctx, total_ret, used_ret);
}

static inline int fake_blobs_present(void *ctx, uint64_t first, uint64_t count, uint64_t *bits)
{
    struct fake_blobs *fake = ctx;
    return fake->ram.present(fake->ram.ctx, first, count, bits);
}

/* The bytes outlive it, for another to be opened on them. */
static inline void fake_blobs_close(void *ctx)
{
    atomic_fetch_add(&((struct fake_blobs *)ctx)->closes, 1);
}

static inline struct pgs_blobs fake_blobs_of(struct fake_blobs *fake)
{
    return (struct pgs_blobs){.struct_size = sizeof(struct pgs_blobs),
                              .ctx = fake,
                              .get = fake_blobs_get,
                              .put = fake_blobs_put,
                              .discard = fake_blobs_discard,
                              .flush = fake_blobs_flush,
                              .capacity = fake_blobs_capacity,
                              .present = fake_blobs_present,
                              .close = fake_blobs_close};
}

static inline void fake_blobs_open(struct fake_blobs *fake, uint64_t pages, uint32_t page_size)
{
    memset(fake, 0, sizeof *fake);
    CHECK_EQ(pgs_blobs_ram(pages, page_size, UINT64_MAX, &fake->ram), PGS_OK);
}

static inline void fake_blobs_free(struct fake_blobs *fake)
{
    fake->ram.close(fake->ram.ctx);
}

static inline void fake_blobs_set(struct fake_blobs *fake, enum blobs_fault fault)
{
    atomic_store(&fake->fault, (int)fault);
}

#endif
