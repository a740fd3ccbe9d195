/* SPDX-License-Identifier: MIT
 *
 * Numbers that stand in ROM images.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_IDS_H
#define PAGESTEP_IDS_H

/* Stable ids: stored in ROM images, never reused. */
enum pgs_codec_id {
    PGS_CODEC_RAW = 0,  /* the page's bytes as they are (filter not applied) */
    PGS_CODEC_SAME = 1, /* one 8-byte little-endian word repeated */
    PGS_CODEC_LZ4 = 2,  /* LZ4 block; level 0: fast, 1 to 12: HC */
    PGS_CODEC_ZSTD = 3  /* zstd without magic, size or checksum; level 1 to 22 */
};

/* Branch filters: relative targets of calls and jumps become absolute. */
enum pgs_filter_id {
    PGS_FILTER_NONE = 0,
    PGS_FILTER_X86 = 1,   /* E8 and E9 with a 32-bit operand */
    PGS_FILTER_ARM = 2,   /* A32 BL, little-endian, 4-byte aligned */
    PGS_FILTER_THUMB = 3, /* T32 BL, little-endian, 2-byte aligned */
    PGS_FILTER_ARM64 = 4, /* A64 BL, 4-byte aligned */
    PGS_FILTER_RISCV = 5  /* JAL, and AUIPC with its pair, 2-byte aligned */
};

#endif
