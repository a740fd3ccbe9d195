/* SPDX-License-Identifier: MIT
 *
 * zstd for the freestanding reader (rom.h), where libzstd's decoder is linked:
 *
 *     static uint64_t ram[16 << 10]; // at least pgs_rom_zstd_ram_size
 *     struct pgs_rom_kit kit = pgs_rom_kit_small;
 *     kit.ctx = &zstd;
 *     kit.decode[PGS_CODEC_ZSTD] = pgs_rom_zstd_decode;
 *     pgs_rom_zstd_init(&zstd, ram, sizeof(ram));
 *     pgs_rom_open(image, size, &kit, ...);
 *     pgs_rom_zstd_digest(&zstd, &rom);
 *
 * No allocation, of libzstd's neither: all it needs stands in the caller's RAM.
 * One thread at a time reads with it; each further one needs a struct, RAM, kit
 * and open ROM of its own.
 *
 * Plain declarations only, as in rom.h.
 */
#ifndef PAGESTEP_ROM_ZSTD_H
#define PAGESTEP_ROM_ZSTD_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/rom.h"

/* A decoder: the caller's storage, filled in by pgs_rom_zstd_init. What is in
 * it is not to be read. */
struct pgs_rom_zstd {
    void *decoder;
    unsigned char *digest_bytes;
    size_t digest_bytes_max;
    uint32_t digest_count;
    struct pgs_rom_dict dicts[4]; /* PGS_ROM_DICT_COUNT_MAX */
    const void *digests[4];       /* of the dictionary of the same index */
};

/* Gives the RAM, in bytes, for a decoder and for the digests of `digest_count`
 * dictionaries, 0 to PGS_ROM_DICT_COUNT_MAX. With libzstd 1.5.4 and 64 bits that
 * is 94 KiB and 27 KiB for each. Dictionaries without tables need no digest. */
size_t pgs_rom_zstd_ram_size(uint32_t digest_count);

/* Makes a decoder in `ram`, which must be aligned to 8 bytes and last as long
 * as it is used. Errors: PGS_E_INVALID (alignment), PGS_E_NOMEM (ram_size is
 * below pgs_rom_zstd_ram_size(0)). */
int pgs_rom_zstd_init(struct pgs_rom_zstd *zstd, void *ram, size_t ram_size);

/* Digests those dictionaries of an open ROM that begin with zstd's tables and
 * that a coding with zstd names. Without it every page is read as well, but
 * such tables are built anew for each. What was digested before is forgotten.
 * The ROM must stay open while pages are read. Errors: PGS_E_NOMEM (ram_size
 * was too small), PGS_E_ROM_DICT (tables that are none). After an error pages
 * can be read all the same; with tables that are none they are PGS_E_CORRUPT. */
int pgs_rom_zstd_digest(struct pgs_rom_zstd *zstd, const struct pgs_rom *rom);

/* For a kit's place PGS_CODEC_ZSTD; `ctx` is a struct pgs_rom_zstd. */
int pgs_rom_zstd_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                        const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size);

#endif
