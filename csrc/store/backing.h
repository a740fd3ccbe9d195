/* SPDX-License-Identifier: MIT
 *
 * What a backing says of itself, whether it has the functions or not; and what
 * one over a ROM image needs of its reader.
 */
#ifndef PGS_BACKING_H
#define PGS_BACKING_H

#include "pagestep/rom_reader.h"
#include "pagestep/store.h"
#include "store/section.h"

/* *size_ret is the bytes of a whole page where the backing does not say. */
static inline uint32_t backing_source(const struct pgs_backing *backing, uint64_t page_no,
                                      uint32_t *size_ret)
{
    return backing->source ? backing->source(backing->ctx, page_no, size_ret)
                           : (uint32_t)PGS_SOURCE_BACKING;
}

static inline uint64_t backing_memory_bytes(const struct pgs_backing *backing)
{
    return backing->memory_bytes ? backing->memory_bytes(backing->ctx) : 0;
}

/* The calls of a backing that may do I/O. Whatever they do, they must not come back
 * to the store: that is found out by the thread. */
static inline int backing_page_in(const pgs_store *store, const struct pgs_backing *backing,
                                  uint64_t page_no, void *page)
{
    struct backing_call call;
    backing_call_begin(&call, store);
    int error = backing->page_in(backing->ctx, page_no, page);
    backing_call_end(&call);
    return error;
}

/* `copy`: the page's in the pool, or NULL where it is not at hand. */
static inline int backing_page_out(const pgs_store *store, const struct pgs_backing *backing,
                                   uint64_t page_no, const void *page,
                                   const struct pgs_copy *copy)
{
    struct backing_call call;
    backing_call_begin(&call, store);
    int error = copy && backing->page_out_copy
                    ? backing->page_out_copy(backing->ctx, page_no, page, copy)
                    : backing->page_out(backing->ctx, page_no, page);
    backing_call_end(&call);
    return error;
}

static inline int backing_flush(const pgs_store *store, const struct pgs_backing *backing)
{
    struct backing_call call;
    backing_call_begin(&call, store);
    int error = backing->flush ? backing->flush(backing->ctx) : 0;
    backing_call_end(&call);
    return error;
}

static inline void backing_discard(const pgs_store *store, const struct pgs_backing *backing,
                                   uint64_t page_no)
{
    struct backing_call call;
    backing_call_begin(&call, store);
    if (backing->discard)
        backing->discard(backing->ctx, page_no, 1);
    backing_call_end(&call);
}

static inline void backing_close(const pgs_store *store, const struct pgs_backing *backing)
{
    struct backing_call call;
    backing_call_begin(&call, store);
    if (backing->close)
        backing->close(backing->ctx);
    backing_call_end(&call);
}

/* One more owner, who closes it too. */
void rom_reader_keep(pgs_rom_reader *reader);

#endif
