/* SPDX-License-Identifier: MIT
 *
 * What a backing says of itself, whether it has the functions or not; and what
 * one over a ROM image needs of its reader.
 */
#ifndef PGS_BACKING_H
#define PGS_BACKING_H

#include "pagestep/rom_reader.h"
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

/* One more owner, who closes it too. */
void rom_reader_keep(pgs_rom_reader *reader);

#endif
