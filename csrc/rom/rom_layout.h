/* SPDX-License-Identifier: MIT
 *
 * Where things stand in a ROM image: docs/FORMAT.md as numbers. A test holds
 * one against the other.
 */
#ifndef PGS_ROM_LAYOUT_H
#define PGS_ROM_LAYOUT_H

enum {
    ROM_FORMAT_VERSION = 1,

    ROM_MAGIC_AT = 0,
    ROM_FORMAT_VERSION_AT = 8,
    ROM_PAGE_SHIFT_AT = 10,
    ROM_PAGE_ENTRY_SIZE_AT = 11,
    ROM_SLOT_ENTRY_SIZE_AT = 12,
    ROM_ERASED_VALUE_AT = 13,
    ROM_HEADER_SIZE_AT = 16,
    ROM_ROM_SIZE_AT = 20,
    ROM_FEATURES_INCOMPATIBLE_AT = 24,
    ROM_FEATURES_COMPATIBLE_AT = 28,
    ROM_BASE_ADDRESS_AT = 32,
    ROM_IMAGE_SIZE_AT = 40,
    ROM_ARCH_AT = 48,
    ROM_IDENTITY_AT = 64,
    ROM_ROOT_AT = 96,
    ROM_TABLES_AT = 128,
    ROM_FIXED_SIZE = 224,

    ROM_CHECKSUM_SIZE = 4,
    ROM_CHECKSUM_STRIDE = 16, /* what has a checksum is a multiple of this */

    ROM_TABLE_SIZE = 8,
    ROM_TABLE_OFFSET_AT = 0,
    ROM_TABLE_COUNT_AT = 4,

    ROM_CODING_SIZE = 4,
    ROM_CODING_CODEC_AT = 0,
    ROM_CODING_FILTER_AT = 1,
    ROM_CODING_DICT_NO_AT = 2,
    ROM_NO_DICT = 255,

    ROM_DICT_SIZE = 20,
    ROM_DICT_OFFSET_AT = 0,
    ROM_DICT_STORED_SIZE_AT = 4,
    ROM_DICT_SIZE_AT = 8,
    ROM_DICT_CHECKSUM_AT = 12,
    ROM_DICT_CODEC_AT = 16,

    ROM_SEGMENT_SIZE = 32,
    ROM_WORD_SIZE = 8,
    ROM_GROUP_SIZE = 4,
    ROM_GROUP_SLOTS = 64,
    ROM_SLOT_CODING_BITS = 4,

    ROM_PAGE_SHIFT_MIN = 9,
    ROM_PAGE_SHIFT_MAX = 16
};

/* The magic number, "\x89PGSROM\n", as two numbers. */
#define ROM_MAGIC_LOW UINT32_C(0x53475089)
#define ROM_MAGIC_HIGH UINT32_C(0x0a4d4f52)

#endif
