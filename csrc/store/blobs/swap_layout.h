/* SPDX-License-Identifier: MIT
 *
 * The bytes of a swap file, as docs/SWAP.md has them.
 */
#ifndef PGS_SWAP_LAYOUT_H
#define PGS_SWAP_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pagestep/blobs.h"

enum {
    SWAP_HEADER_SIZE = 4096, /* the header block; units follow it */
    SWAP_FORMAT_VERSION = 1,
    SWAP_UNIT_MIN = 512,
    SWAP_UNIT_MAX = 4096,
    SWAP_SUM_STRIDE = 16,

    SWAP_MAGIC_AT = 0,
    SWAP_VERSION_AT = 8,
    SWAP_UNIT_SIZE_AT = 12,
    SWAP_UNIT_COUNT_AT = 16,
    SWAP_PAGE_COUNT_AT = 24,
    SWAP_BASE_ADDRESS_AT = 32,
    SWAP_PAGE_SIZE_AT = 40,
    SWAP_CODEC_AT = 44,
    SWAP_FILTER_AT = 48,
    SWAP_DICT_SIZE_AT = 52,
    SWAP_DICT_SUM_AT = 56,
    SWAP_RESERVED_AT = 60,
    SWAP_FILE_ID_AT = 64,
    SWAP_OWNER_AT = 80,
    SWAP_REST_AT = 112,
    SWAP_CHECKSUM_AT = 4080,

    RECORD_MAGIC_AT = 0,
    RECORD_UNIT_AT = 8,
    RECORD_PAGE_AT = 16,
    RECORD_SEQUENCE_AT = 24,
    RECORD_SIZE_AT = 32,
    RECORD_CHECKSUM_AT = 36,
    RECORD_HEADER_SIZE = 40
};

#define SWAP_MAGIC UINT64_C(0x3170617773736770) /* "pgsswap1" */
#define SWAP_UNIT_COUNT_MAX UINT64_C(0xfffffff0)

/* What the header block says. */
struct swap_header {
    struct pgs_swap_shape shape;
    uint32_t version, unit_size;
    uint64_t unit_count;
    unsigned char file_id[16];
};

/* What a record says of itself. */
struct swap_record {
    uint64_t page_no, sequence;
    uint32_t size; /* of its blob */
};

void swap_header_write(const struct swap_header *header, unsigned char *block);
/* PGS_E_SWAP_FOREIGN, PGS_E_SWAP_VERSION, PGS_E_CORRUPT. */
int swap_header_read(const unsigned char *block, struct swap_header *header_ret);

/* Units that a blob of so many bytes takes. */
static inline uint32_t swap_units(uint32_t unit_size, uint32_t blob_size)
{
    return (RECORD_HEADER_SIZE + blob_size + unit_size - 1) / unit_size;
}

static inline uint64_t swap_offset(const struct swap_header *header, uint64_t unit)
{
    return SWAP_HEADER_SIZE + unit * header->unit_size;
}

/* Writes a record at `to`, all of its units. */
void swap_record_write(const struct swap_header *header, uint64_t unit,
                       const struct swap_record *record, const void *blob, unsigned char *to);
/* How many units a record at `unit` would take, by what its first bytes say; 0 where none
 * begins here. */
uint32_t swap_record_begins(const struct swap_header *header, uint64_t unit,
                            const unsigned char *bytes);
/* Whether it is whole; all its units are at `bytes`. */
bool swap_record_read(const struct swap_header *header, uint64_t unit,
                      const unsigned char *bytes, struct swap_record *record_ret);

#endif
