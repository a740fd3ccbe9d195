/* SPDX-License-Identifier: MIT
 *
 * What a backing says of itself, whether it has the functions or not.
 */
#ifndef PGS_BACKING_H
#define PGS_BACKING_H

#include "pagestep/store.h"

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

#endif
