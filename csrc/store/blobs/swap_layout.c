/* SPDX-License-Identifier: MIT */
#include "store/blobs/swap_layout.h"

#include <string.h>

#include "codec/le.h"
#include "pagestep/error.h"
#include "pagestep/rom.h"

void swap_header_write(const struct swap_header *header, unsigned char *block)
{
    const struct pgs_swap_shape *shape = &header->shape;
    memset(block, 0, SWAP_HEADER_SIZE);
    pgs_store_le64(block + SWAP_MAGIC_AT, SWAP_MAGIC);
    pgs_store_le32(block + SWAP_VERSION_AT, header->version);
    pgs_store_le32(block + SWAP_UNIT_SIZE_AT, header->unit_size);
    pgs_store_le64(block + SWAP_UNIT_COUNT_AT, header->unit_count);
    pgs_store_le64(block + SWAP_PAGE_COUNT_AT, shape->page_count);
    pgs_store_le64(block + SWAP_BASE_ADDRESS_AT, shape->base_address);
    pgs_store_le32(block + SWAP_PAGE_SIZE_AT, shape->page_size);
    pgs_store_le32(block + SWAP_CODEC_AT, shape->codec_id);
    pgs_store_le32(block + SWAP_FILTER_AT, shape->filter_id);
    pgs_store_le32(block + SWAP_DICT_SIZE_AT, shape->dict_size);
    pgs_store_le32(block + SWAP_DICT_SUM_AT, shape->dict_xxh32);
    memcpy(block + SWAP_FILE_ID_AT, header->file_id, sizeof header->file_id);
    memcpy(block + SWAP_OWNER_AT, shape->owner, sizeof shape->owner);
    pgs_store_le32(block + SWAP_CHECKSUM_AT, pgs_xxh32(block, SWAP_CHECKSUM_AT, 0));
}

static bool is_power_of_two(uint64_t number)
{
    return number && !(number & (number - 1));
}

static bool are_zeros(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

int swap_header_read(const unsigned char *block, struct swap_header *header_ret)
{
    struct swap_header *header = header_ret;
    memset(header, 0, sizeof *header);
    if (pgs_load_le64(block + SWAP_MAGIC_AT) != SWAP_MAGIC)
        return PGS_E_SWAP_FOREIGN;
    header->version = pgs_load_le32(block + SWAP_VERSION_AT);
    if (header->version != SWAP_FORMAT_VERSION)
        return PGS_E_SWAP_VERSION;
    header->shape = (struct pgs_swap_shape){
        .struct_size = sizeof header->shape,
        .page_count = pgs_load_le64(block + SWAP_PAGE_COUNT_AT),
        .base_address = pgs_load_le64(block + SWAP_BASE_ADDRESS_AT),
        .page_size = pgs_load_le32(block + SWAP_PAGE_SIZE_AT),
        .codec_id = pgs_load_le32(block + SWAP_CODEC_AT),
        .filter_id = pgs_load_le32(block + SWAP_FILTER_AT),
        .dict_size = pgs_load_le32(block + SWAP_DICT_SIZE_AT),
        .dict_xxh32 = pgs_load_le32(block + SWAP_DICT_SUM_AT),
    };
    memcpy(header->shape.owner, block + SWAP_OWNER_AT, sizeof header->shape.owner);
    memcpy(header->file_id, block + SWAP_FILE_ID_AT, sizeof header->file_id);
    header->unit_size = pgs_load_le32(block + SWAP_UNIT_SIZE_AT);
    header->unit_count = pgs_load_le64(block + SWAP_UNIT_COUNT_AT);
    uint32_t page_size = header->shape.page_size;
    bool whole = pgs_load_le32(block + SWAP_CHECKSUM_AT) == pgs_xxh32(block, SWAP_CHECKSUM_AT, 0) &&
                 are_zeros(block + SWAP_RESERVED_AT, SWAP_FILE_ID_AT - SWAP_RESERVED_AT) &&
                 are_zeros(block + SWAP_REST_AT, SWAP_CHECKSUM_AT - SWAP_REST_AT) &&
                 are_zeros(block + SWAP_CHECKSUM_AT + 4, SWAP_HEADER_SIZE - SWAP_CHECKSUM_AT - 4);
    bool in_range = is_power_of_two(header->unit_size) && header->unit_size >= SWAP_UNIT_MIN &&
                    header->unit_size <= SWAP_UNIT_MAX && header->unit_count > 0 &&
                    header->unit_count <= SWAP_UNIT_COUNT_MAX && is_power_of_two(page_size) &&
                    page_size >= 512 && page_size <= 65536 && header->shape.page_count > 0 &&
                    header->shape.page_count <= UINT32_MAX;
    return whole && in_range ? PGS_OK : PGS_E_CORRUPT;
}

/* Half of the file's id: no other file's records are taken for this one's. */
static uint64_t record_magic(const struct swap_header *header)
{
    return pgs_load_le64(header->file_id);
}

/* Over the record with its checksum 0, filled up with zeros. */
static uint32_t record_sum(const struct swap_header *header, const unsigned char *bytes,
                           uint32_t size)
{
    unsigned char head[48] = {0};
    uint32_t whole = (RECORD_HEADER_SIZE + size + SWAP_SUM_STRIDE - 1) / SWAP_SUM_STRIDE *
                     SWAP_SUM_STRIDE;
    memcpy(head, bytes, sizeof head);
    pgs_store_le32(head + RECORD_CHECKSUM_AT, 0);
    uint32_t sum = pgs_xxh32(head, sizeof head, pgs_load_le32(header->file_id + 8));
    return whole > sizeof head ? pgs_xxh32(bytes + sizeof head, whole - sizeof head, sum) : sum;
}

void swap_record_write(const struct swap_header *header, uint64_t unit,
                       const struct swap_record *record, const void *blob, unsigned char *to)
{
    size_t size = (size_t)swap_units(header->unit_size, record->size) * header->unit_size;
    pgs_store_le64(to + RECORD_MAGIC_AT, record_magic(header));
    pgs_store_le64(to + RECORD_UNIT_AT, unit);
    pgs_store_le64(to + RECORD_PAGE_AT, record->page_no);
    pgs_store_le64(to + RECORD_SEQUENCE_AT, record->sequence);
    pgs_store_le32(to + RECORD_SIZE_AT, record->size);
    memmove(to + RECORD_HEADER_SIZE, blob, record->size);
    memset(to + RECORD_HEADER_SIZE + record->size, 0, size - RECORD_HEADER_SIZE - record->size);
    pgs_store_le32(to + RECORD_CHECKSUM_AT, record_sum(header, to, record->size));
}

uint32_t swap_record_begins(const struct swap_header *header, uint64_t unit,
                            const unsigned char *bytes)
{
    uint32_t size = pgs_load_le32(bytes + RECORD_SIZE_AT);
    if (pgs_load_le64(bytes + RECORD_MAGIC_AT) != record_magic(header) ||
        pgs_load_le64(bytes + RECORD_UNIT_AT) != unit ||
        pgs_load_le64(bytes + RECORD_PAGE_AT) >= header->shape.page_count || size == 0 ||
        size > header->shape.page_size + PGS_BLOB_EXTRA_MAX)
        return 0;
    uint32_t units = swap_units(header->unit_size, size);
    return unit + units <= header->unit_count ? units : 0;
}

bool swap_record_read(const struct swap_header *header, uint64_t unit,
                      const unsigned char *bytes, struct swap_record *record_ret)
{
    if (!swap_record_begins(header, unit, bytes))
        return false;
    *record_ret = (struct swap_record){.page_no = pgs_load_le64(bytes + RECORD_PAGE_AT),
                                       .sequence = pgs_load_le64(bytes + RECORD_SEQUENCE_AT),
                                       .size = pgs_load_le32(bytes + RECORD_SIZE_AT)};
    return pgs_load_le32(bytes + RECORD_CHECKSUM_AT) ==
           record_sum(header, bytes, record_ret->size);
}
