/* SPDX-License-Identifier: MIT
 *
 * What a zstd frame of ours must look like before libzstd may see it; the
 * host's codec asks the same.
 */
#ifndef PGS_ROM_ZSTD_FRAME_H
#define PGS_ROM_ZSTD_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum {
    ROM_ZSTD_DESCRIPTOR = 0, /* no size, no checksum, no dictionary id, not one segment */
    ROM_ZSTD_HEADER_SIZE = 2,
    ROM_ZSTD_BLOCK_HEADER_SIZE = 3,
    ROM_ZSTD_BLOCK_RLE = 1, /* holds one byte, however large the block becomes */
    ROM_ZSTD_BLOCK_RESERVED = 3
};

/* Whether src is one frame without magic number, from its first byte to its
 * last. libzstd goes on after a frame, and looks for its old formats and for
 * skippable frames even where there is no magic number; in version 1.5.4 it
 * then reads four bytes where fewer may be left. */
static inline int rom_zstd_is_frame(const unsigned char *src, size_t src_size)
{
    size_t at = ROM_ZSTD_HEADER_SIZE;
    uint32_t header, block_size;

    if (src_size < ROM_ZSTD_HEADER_SIZE || src[0] != ROM_ZSTD_DESCRIPTOR)
        return 0;
    do {
        if (src_size - at < ROM_ZSTD_BLOCK_HEADER_SIZE)
            return 0;
        header = src[at] | (uint32_t)src[at + 1] << 8 | (uint32_t)src[at + 2] << 16;
        at += ROM_ZSTD_BLOCK_HEADER_SIZE;
        if ((header >> 1 & 3) == ROM_ZSTD_BLOCK_RESERVED)
            return 0;
        block_size = (header >> 1 & 3) == ROM_ZSTD_BLOCK_RLE ? 1 : header >> 3;
        if (src_size - at < block_size)
            return 0;
        at += block_size;
    } while ((header & 1) == 0);
    return at == src_size;
}

#endif
