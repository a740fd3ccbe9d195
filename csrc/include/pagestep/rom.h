/* SPDX-License-Identifier: MIT
 *
 * The ROM reader: gives single pages of a ROM image (docs/FORMAT.md) that lies
 * in flash or in any memory. Freestanding C99: no libc, no allocation, no
 * globals that change. Any bytes may be given to it: it reads nothing outside
 * the image and writes nothing outside its buffers.
 *
 * It keeps pointers into the image, which must stay where it is and as it is.
 * An open ROM does not change: any number of threads may read pages from it,
 * as far as its kit lets them.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_ROM_H
#define PAGESTEP_ROM_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/error.h"
#include "pagestep/ids.h"

enum {
    PGS_ROM_CODEC_COUNT = 4,
    PGS_ROM_FILTER_COUNT = 6,
    PGS_ROM_DICT_COUNT_MAX = 4,
    PGS_ROM_CODING_COUNT_MAX = 16,
    PGS_ROM_NO_CODING = 255, /* what is decoded is a dictionary */
    PGS_ROM_DICT_SIZE_MAX = 1 << 20,
    PGS_ROM_TREE_HEIGHT_MAX = 30 /* 4 GiB have entries of fewer than 2^30 pages */
};

struct pgs_rom_dict {
    const unsigned char *bytes;
    uint32_t size;
};

/* Decodes src_size bytes to exactly out_size bytes. coding_no is the image's
 * number for codec, filter and dictionary together, PGS_ROM_NO_CODING for a
 * dictionary; dict is NULL where there is none. Returns 0, or
 * PGS_E_CORRUPT and whatever it likes in out. It must withstand any src. */
typedef int pgs_rom_decode_fn(void *ctx, uint32_t coding_no, const unsigned char *src,
                              size_t src_size, const struct pgs_rom_dict *dict, unsigned char *out,
                              size_t out_size);

/* Undoes a branch filter in place; `address` is the low part of that of the
 * first byte, a multiple of 512. Any bytes, any size. */
typedef void pgs_rom_undo_fn(unsigned char *bytes, size_t size, uint32_t address);

/* What a reader can decode. NULL: not linked; an image that needs it is
 * refused. Index: enum pgs_codec_id and enum pgs_filter_id. */
struct pgs_rom_kit {
    void *ctx; /* handed to decode */
    pgs_rom_decode_fn *decode[4];
    pgs_rom_undo_fn *undo[6];
};

/* LZ4 and all branch filters. A target that wants less flash makes a kit of
 * its own from the functions below; pgs_rom_raw_decode stands for both
 * PGS_CODEC_RAW and PGS_CODEC_SAME, and every
 * kit has it, and pgs_rom_undo_none for PGS_FILTER_NONE. rom_zstd.h has zstd, for
 * who links libzstd. `ctx` is its decoder's then; the others ignore it. */
extern const struct pgs_rom_kit pgs_rom_kit_small;

int pgs_rom_raw_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size);
int pgs_rom_lz4_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size);

void pgs_rom_undo_none(unsigned char *bytes, size_t size, uint32_t address);
void pgs_rom_undo_x86(unsigned char *bytes, size_t size, uint32_t address);
void pgs_rom_undo_arm(unsigned char *bytes, size_t size, uint32_t address);
void pgs_rom_undo_thumb(unsigned char *bytes, size_t size, uint32_t address);
void pgs_rom_undo_arm64(unsigned char *bytes, size_t size, uint32_t address);
void pgs_rom_undo_riscv(unsigned char *bytes, size_t size, uint32_t address);

/* The tables of a ROM image, in the order in which they stand. */
enum pgs_rom_table_no {
    PGS_ROM_CODINGS = 0,
    PGS_ROM_DICTS = 1,
    PGS_ROM_SEGMENTS = 2,
    PGS_ROM_NAMES = 3,
    PGS_ROM_SIGNATURE = 4,
    PGS_ROM_WORDS = 5,
    PGS_ROM_CHECKSUMS = 6,
    PGS_ROM_GROUPS = 7,
    PGS_ROM_PAGES = 8,
    PGS_ROM_SLOTS = 9,
    PGS_ROM_DICT_BYTES = 10,
    PGS_ROM_DATA = 11,
    PGS_ROM_TABLE_COUNT = 12
};

struct pgs_rom_table {
    const unsigned char *at;
    uint32_t count; /* of entries */
};

/* An open ROM: the caller's storage, filled in by pgs_rom_open. To be read,
 * not to be changed. */
struct pgs_rom {
    const unsigned char *base;
    const struct pgs_rom_kit *kit;
    uint32_t address;   /* of page 0, its low part: what branch filters see */
    uint32_t page_size; /* a power of two, 512 to 65536 */
    uint32_t page_count;
    uint8_t page_entry_size;
    uint8_t slot_entry_size;
    struct pgs_rom_table tables[12]; /* by enum pgs_rom_table_no */
    struct pgs_rom_dict dicts[4];
};

/* Gives the RAM that pgs_rom_open needs for dictionaries that are stored
 * compressed: 0 where there are none. Errors as pgs_rom_open. */
int pgs_rom_ram_size(const void *base, size_t size, size_t *ram_size_ret);

/* Opens the ROM image at `base`, of at most `size` bytes: checks header and
 * index, and decodes its dictionaries into `ram`, which must last as long as
 * rom_ret and may be NULL where none is needed. The kit must last as well.
 * After an error *rom_ret is not to be used.
 *
 * Errors: PGS_E_ROM_MAGIC, PGS_E_ROM_FEATURE, PGS_E_ROM_TRUNCATED,
 * PGS_E_ROM_HEADER, PGS_E_ROM_TABLE, PGS_E_ROM_EXTENT, PGS_E_ROM_CODEC,
 * PGS_E_ROM_DICT, PGS_E_NOMEM (ram_size is too small). */
int pgs_rom_open(const void *base, size_t size, const struct pgs_rom_kit *kit, void *ram,
                 size_t ram_size, struct pgs_rom *rom_ret);

/* Gives one page, page_size bytes, checked. Errors: PGS_E_RANGE,
 * PGS_E_CORRUPT (`out` then holds anything), PGS_E_ROM_ABSENT. */
int pgs_rom_page(const struct pgs_rom *rom, uint32_t page_no, void *out);

/* Gives the address of a page that can be used where it lies: stored raw, at a
 * multiple of its size. NULL where it cannot. Its bytes are not checked. */
const void *pgs_rom_in_place(const struct pgs_rom *rom, uint32_t page_no);

/* SHA-256, for pgs_rom_verify. */
struct pgs_sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    unsigned char block[64];
};
void pgs_sha256_init(struct pgs_sha256 *sha);
void pgs_sha256_add(struct pgs_sha256 *sha, const void *bytes, size_t size);
void pgs_sha256_end(struct pgs_sha256 *sha, unsigned char *digest_ret);

/* Room for pgs_rom_verify, about 1 KiB. */
struct pgs_rom_tree {
    struct pgs_sha256 sha;
    unsigned char nodes[30][32]; /* PGS_ROM_TREE_HEIGHT_MAX */
    uint32_t height;
};

/* Checks every page, and all of them together against the header's root.
 * `page` has room for one page. *bad_page_ret is the first page that is wrong
 * or, where each by itself is right and the root differs, page_count.
 * Errors: PGS_E_CORRUPT. Pages that are left out are no error. */
int pgs_rom_verify(const struct pgs_rom *rom, struct pgs_rom_tree *tree, void *page,
                   uint32_t *bad_page_ret);

/* XXH32, the checksum of the format. `size` is a multiple of 16, and not 0. */
uint32_t pgs_xxh32(const void *bytes, size_t size, uint32_t seed);

#endif
