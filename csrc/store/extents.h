/* SPDX-License-Identifier: MIT
 *
 * Pages out of a file's extents: of their bytes, and zeros between them.
 */
#ifndef PGS_EXTENTS_H
#define PGS_EXTENTS_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/store.h"

typedef int extents_read(void *ctx, void *out, size_t size, uint64_t file_offset);

/* PGS_E_INVALID unless they are sorted, apart from each other, and no sum wraps round. */
int extents_check(const struct pgs_extent *extents, size_t count);

/* Fills a page, by one call of `read` for each extent that it touches. */
int extents_read_page(const struct pgs_extent *extents, size_t count, uint32_t page_size,
                      uint64_t page_no, void *page, extents_read *read, void *ctx);

#endif
