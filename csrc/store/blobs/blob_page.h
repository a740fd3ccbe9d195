/* SPDX-License-Identifier: MIT
 *
 * A page as a blob, which says whose it is, how it is coded and what its bytes must be:
 *
 *   0   u8   format, 1
 *   1   u8   enum blob_coding
 *   2   u16  0
 *   4   u32  XXH32 of the page, seeded with the low half of its number
 *   8   u64  page number
 *   16  u32  which codec, filter and dictionary coded it; 0 where none did
 *   20       the page, coded; or its 8 bytes, repeated; or the page itself
 *
 * All numbers are little-endian. Bytes that are not exactly this, of this page and from this
 * codec, are PGS_E_CORRUPT.
 */
#ifndef PGS_BLOB_PAGE_H
#define PGS_BLOB_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/codec.h"
#include "pagestep/store.h"

enum blob_coding { BLOB_RAW = 0, BLOB_SAME = 1, BLOB_CODED = 2 };
enum { BLOB_FORMAT = 1, BLOB_HEADER_SIZE = 20 };

/* Whose pages these are. */
struct blob_shape {
    uint32_t page_size;
    uint32_t codec_sum; /* codec_sum_of its codec */
    uint64_t base_address;
};

static inline size_t blob_size_max(uint32_t page_size)
{
    return (size_t)page_size + BLOB_HEADER_SIZE;
}

static inline uint64_t blob_address(const struct blob_shape *shape, uint64_t page_no)
{
    return shape->base_address + page_no * shape->page_size;
}

/* A number for all that a decoder must agree about: codec, filter, dictionary, page size; never
 * 0, which is no codec. */
uint32_t codec_sum_of(const pgs_codec *codec);

/* `blob` has room for blob_size_max bytes. `copy`: the page's, coded already by the same codec
 * at the same address; or NULL. `coder` may be NULL: then it is kept raw. */
int blob_encode(const struct blob_shape *shape, pgs_coder *coder, uint64_t page_no,
                const void *page, const struct pgs_copy *copy, unsigned char *blob,
                uint32_t *size_ret);
int blob_decode(const struct blob_shape *shape, pgs_coder *coder, uint64_t page_no,
                const unsigned char *blob, uint32_t size, void *page);

#endif
