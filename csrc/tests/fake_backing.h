/* SPDX-License-Identifier: MIT
 *
 * A backing in memory with named faults, for one page at a time.
 */
#ifndef PGS_FAKE_BACKING_H
#define PGS_FAKE_BACKING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pagestep.h"

enum fake_fault {
    FAKE_NONE,
    FAKE_EIO,
    FAKE_SHORT_READ,
    FAKE_BIT_FLIP,
    FAKE_TORN_EIO, /* half of a write arrives, and it says so */
    FAKE_SLOW
};

struct fake {
    unsigned char *bytes;
    uint64_t page_count;
    uint32_t page_size;
    _Atomic int fault;
    _Atomic uint64_t fault_page; /* UINT64_MAX: every page */
    _Atomic uint64_t page_ins, page_outs, discards, closes;
};

static inline enum fake_fault fake_fault_at(struct fake *fake, uint64_t page_no)
{
    uint64_t at = atomic_load(&fake->fault_page);
    return at == page_no || at == UINT64_MAX ? (enum fake_fault)atomic_load(&fake->fault)
                                             : FAKE_NONE;
}

static inline int fake_page_in(void *ctx, uint64_t page_no, void *page)
{
    struct fake *fake = ctx;
    unsigned char *out = page;
    atomic_fetch_add(&fake->page_ins, 1);
    memcpy(out, fake->bytes + page_no * fake->page_size, fake->page_size);
    switch (fake_fault_at(fake, page_no)) {
    case FAKE_EIO:
        return PGS_E_IO;
    case FAKE_SHORT_READ:
        memset(out + fake->page_size / 2, 0xA5, fake->page_size / 2);
        return PGS_E_IO;
    case FAKE_BIT_FLIP:
        out[fake->page_size / 3] ^= 0x10;
        return PGS_OK;
    case FAKE_SLOW:
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        return PGS_OK;
    default:
        return PGS_OK;
    }
}

static inline int fake_page_out(void *ctx, uint64_t page_no, const void *page)
{
    struct fake *fake = ctx;
    unsigned char *to = fake->bytes + page_no * fake->page_size;
    atomic_fetch_add(&fake->page_outs, 1);
    switch (fake_fault_at(fake, page_no)) {
    case FAKE_EIO:
        return PGS_E_IO;
    case FAKE_TORN_EIO:
        memcpy(to, page, fake->page_size / 2);
        return PGS_E_IO;
    default:
        memcpy(to, page, fake->page_size);
        return PGS_OK;
    }
}

static inline int fake_discard(void *ctx, uint64_t first_page_no, uint64_t page_count)
{
    struct fake *fake = ctx;
    /* Nobody is to ask for these bytes again. */
    memset(fake->bytes + first_page_no * fake->page_size, 0xA5, page_count * fake->page_size);
    atomic_fetch_add(&fake->discards, page_count);
    return PGS_OK;
}

static inline void fake_close(void *ctx)
{
    atomic_fetch_add(&((struct fake *)ctx)->closes, 1);
}

static inline struct pgs_backing fake_backing(struct fake *fake, int writable)
{
    return (struct pgs_backing){.struct_size = sizeof(struct pgs_backing),
                                .ctx = fake,
                                .page_in = fake_page_in,
                                .page_out = writable ? fake_page_out : NULL,
                                .discard = writable ? fake_discard : NULL,
                                .close = fake_close};
}

static inline void fake_set(struct fake *fake, enum fake_fault fault, uint64_t page_no)
{
    atomic_store(&fake->fault_page, page_no);
    atomic_store(&fake->fault, fault);
}

#endif
