/* SPDX-License-Identifier: MIT
 *
 * Makes small ROM images for tests, by docs/FORMAT.md: valid ones, which a test
 * then spoils. Tables stand apart by a gap, so that a count that is a little
 * too large still fits; without it the last byte of the last table is the
 * image's.
 */
#ifndef PGS_ROM_FIXTURE_H
#define PGS_ROM_FIXTURE_H

#include "check.h"

#include "pagestep/rom.h"
#include "rom/rom_bytes.h"
#include "rom/rom_layout.h"

#include <lz4.h>

enum {
    ROM_FIXTURE_GAP = 65, /* odd: tables need no alignment */
    ROM_FIXTURE_TABLE_MAX = 1 << 19,
    ROM_FIXTURE_SIZE_MAX = PGS_ROM_TABLE_COUNT * (ROM_FIXTURE_TABLE_MAX + 2 * ROM_FIXTURE_GAP),
    ROM_FIXTURE_PAGES_MAX = 80,
    ROM_FIXTURE_PAGE_MAX = 8192
};

struct rom_fixture {
    unsigned page_shift, page_entry_size, slot_entry_size;
    uint64_t base_address;
    uint32_t gap; /* bytes between tables, at most ROM_FIXTURE_GAP */
    uint32_t page_count, slot_count;
    struct {
        uint32_t count, size; /* entries, bytes */
        unsigned char bytes[ROM_FIXTURE_TABLE_MAX];
    } tables[PGS_ROM_TABLE_COUNT];
    unsigned char pages[ROM_FIXTURE_PAGES_MAX * ROM_FIXTURE_PAGE_MAX]; /* as they are to be read */
    unsigned char absent[ROM_FIXTURE_PAGES_MAX];
    uint32_t header_size, size;
    unsigned char rom[ROM_FIXTURE_SIZE_MAX];
};

static inline void rom_fixture_init(struct rom_fixture *f, unsigned page_shift,
                                    unsigned page_entry_size, unsigned slot_entry_size)
{
    unsigned i;

    for (i = 0; i < PGS_ROM_TABLE_COUNT; i++)
        f->tables[i].count = f->tables[i].size = 0;
    f->page_count = f->slot_count = 0;
    f->page_shift = page_shift;
    f->page_entry_size = page_entry_size;
    f->slot_entry_size = slot_entry_size;
    f->base_address = UINT64_C(0xffffffff81000000);
    f->gap = ROM_FIXTURE_GAP;
}

/* Adds one entry to a table; `size` is that of the entry. */
static inline uint32_t rom_fixture_add(struct rom_fixture *f, unsigned table_no, const void *entry,
                                       size_t size)
{
    CHECK(f->tables[table_no].size + size <= ROM_FIXTURE_TABLE_MAX);
    memcpy(f->tables[table_no].bytes + f->tables[table_no].size, entry, size);
    f->tables[table_no].size += (uint32_t)size;
    return f->tables[table_no].count++;
}

/* Adds `size` entries of one byte. */
static inline void rom_fixture_add_bytes(struct rom_fixture *f, unsigned table_no,
                                         const void *bytes, size_t size)
{
    rom_fixture_add(f, table_no, bytes, size);
    f->tables[table_no].count = f->tables[table_no].size;
}

static inline void rom_fixture_add_number(struct rom_fixture *f, unsigned table_no, uint32_t value,
                                          unsigned size)
{
    unsigned char bytes[4];

    rom_store32(bytes, value);
    rom_fixture_add(f, table_no, bytes, size);
}

static inline uint32_t rom_fixture_add_coding(struct rom_fixture *f, uint32_t codec,
                                              uint32_t filter, uint32_t dict_no)
{
    const unsigned char entry[ROM_CODING_SIZE] = {(unsigned char)codec, (unsigned char)filter,
                                                  (unsigned char)dict_no, 0};
    return rom_fixture_add(f, PGS_ROM_CODINGS, entry, sizeof(entry));
}

/* One LZ4 block, by liblz4, with the dictionary before it. */
static inline size_t rom_fixture_lz4(const void *dict, size_t dict_size, const void *from,
                                     size_t size, void *to, size_t cap)
{
    LZ4_stream_t *stream = LZ4_createStream();
    int packed_size;

    LZ4_loadDict(stream, dict, (int)dict_size);
    packed_size = LZ4_compress_fast_continue(stream, from, to, (int)size, (int)cap, 1);
    LZ4_freeStream(stream);
    CHECK(packed_size > 0);
    return (size_t)packed_size;
}

/* Adds a dictionary whose stored bytes are `packed`. */
static inline uint32_t rom_fixture_add_packed_dict(struct rom_fixture *f, uint32_t codec,
                                                   const void *dict, uint32_t size,
                                                   const void *packed, size_t packed_size)
{
    unsigned char entry[ROM_DICT_SIZE] = {0};

    if (codec != PGS_CODEC_RAW)
        rom_store32(entry + ROM_DICT_CHECKSUM_AT, pgs_xxh32(dict, size, 0));
    rom_store32(entry + ROM_DICT_OFFSET_AT, f->tables[PGS_ROM_DICT_BYTES].size);
    rom_store32(entry + ROM_DICT_STORED_SIZE_AT, (uint32_t)packed_size);
    rom_store32(entry + ROM_DICT_SIZE_AT, size);
    rom_store32(entry + ROM_DICT_CODEC_AT, codec);
    rom_fixture_add_bytes(f, PGS_ROM_DICT_BYTES, packed, packed_size);
    return rom_fixture_add(f, PGS_ROM_DICTS, entry, sizeof(entry));
}

/* Adds a dictionary, raw or as an LZ4 block. */
static inline uint32_t rom_fixture_add_dict(struct rom_fixture *f, uint32_t codec,
                                            const void *dict, uint32_t size)
{
    static unsigned char packed[ROM_FIXTURE_TABLE_MAX];

    if (codec == PGS_CODEC_RAW)
        return rom_fixture_add_packed_dict(f, codec, dict, size, dict, size);
    return rom_fixture_add_packed_dict(
        f, codec, dict, size, packed,
        rom_fixture_lz4(NULL, 0, dict, size, packed, sizeof(packed)));
}

/* Adds a slot, and the entry of a group where it begins one. */
static inline uint32_t rom_fixture_add_slot(struct rom_fixture *f, uint32_t coding_no,
                                            const void *bytes, uint32_t size)
{
    unsigned size_bits = 8 * f->slot_entry_size - ROM_SLOT_CODING_BITS;

    if (f->slot_count % ROM_GROUP_SLOTS == 0)
        rom_fixture_add_number(f, PGS_ROM_GROUPS, f->tables[PGS_ROM_DATA].size, ROM_GROUP_SIZE);
    rom_fixture_add_number(f, PGS_ROM_SLOTS, coding_no << size_bits | (size - 1),
                           f->slot_entry_size);
    rom_fixture_add_bytes(f, PGS_ROM_DATA, bytes, size);
    return f->slot_count++;
}

/* Adds a page whose entry is `entry`; `page` is NULL where it is left out. */
static inline void rom_fixture_add_page(struct rom_fixture *f, uint32_t entry, const void *page)
{
    uint32_t page_size = UINT32_C(1) << f->page_shift, page_no = f->page_count++;

    CHECK(page_no < ROM_FIXTURE_PAGES_MAX && page_size <= ROM_FIXTURE_PAGE_MAX);
    f->absent[page_no] = page == NULL;
    if (page != NULL)
        memcpy(f->pages + (size_t)page_no * page_size, page, page_size);
    rom_fixture_add_number(f, PGS_ROM_PAGES, entry, f->page_entry_size);
    rom_fixture_add_number(f, PGS_ROM_CHECKSUMS,
                           page != NULL ? pgs_xxh32(page, page_size, page_no) : 0,
                           ROM_CHECKSUM_SIZE);
}

/* The Merkle tree hash as RFC 6962 defines it: by halves, from the root. */
static inline void rom_fixture_tree(const unsigned char *pages, const unsigned char *absent,
                                    size_t page_size, size_t count, unsigned char *hash)
{
    unsigned char both[64], kind = count > 1;
    struct pgs_sha256 sha;
    size_t left = 1;

    pgs_sha256_init(&sha);
    if (count > 1) {
        while (2 * left < count)
            left *= 2;
        rom_fixture_tree(pages, absent, page_size, left, both);
        rom_fixture_tree(pages + left * page_size, absent + left, page_size, count - left,
                         both + 32);
    }
    if (count != 0)
        pgs_sha256_add(&sha, &kind, 1);
    if (count > 1)
        pgs_sha256_add(&sha, both, sizeof(both));
    else if (count == 1 && !absent[0])
        pgs_sha256_add(&sha, pages, page_size);
    pgs_sha256_end(&sha, hash);
}

/* Makes the header's checksum right again, wherever the header says it ends. */
static inline void rom_fixture_seal(struct rom_fixture *f)
{
    uint32_t header_size = rom_load32(f->rom + ROM_HEADER_SIZE_AT);

    rom_store32(f->rom + header_size, pgs_xxh32(f->rom, header_size, 0));
}

/* Where a table is in the ROM image. */
static inline unsigned char *rom_fixture_table(struct rom_fixture *f, unsigned table_no)
{
    return f->rom + rom_load32(f->rom + ROM_TABLES_AT + ROM_TABLE_SIZE * table_no);
}

/* Lays out what was added. */
static inline void rom_fixture_close(struct rom_fixture *f)
{
    unsigned char *header = f->rom;
    uint32_t at = ROM_FIXED_SIZE;
    unsigned i;

    memset(header, 0, ROM_FIXED_SIZE);
    for (i = 0; i < PGS_ROM_TABLE_COUNT; i++) {
        if (i == PGS_ROM_SIGNATURE) {
            f->header_size = (at + ROM_CHECKSUM_STRIDE - 1) / ROM_CHECKSUM_STRIDE *
                             ROM_CHECKSUM_STRIDE;
            at = f->header_size + ROM_CHECKSUM_SIZE;
        }
        rom_store32(header + ROM_TABLES_AT + ROM_TABLE_SIZE * i + ROM_TABLE_OFFSET_AT, at);
        rom_store32(header + ROM_TABLES_AT + ROM_TABLE_SIZE * i + ROM_TABLE_COUNT_AT,
                    f->tables[i].count);
        memcpy(f->rom + at, f->tables[i].bytes, f->tables[i].size);
        at += f->tables[i].size;
        memset(f->rom + at, i < PGS_ROM_SIGNATURE ? 0 : 0xff, f->gap + ROM_CHECKSUM_STRIDE);
        at += f->gap;
    }
    f->size = at;
    rom_store32(header, ROM_MAGIC_LOW);
    rom_store32(header + 4, ROM_MAGIC_HIGH);
    rom_store16(header + ROM_FORMAT_VERSION_AT, ROM_FORMAT_VERSION);
    header[ROM_PAGE_SHIFT_AT] = (unsigned char)f->page_shift;
    header[ROM_PAGE_ENTRY_SIZE_AT] = (unsigned char)f->page_entry_size;
    header[ROM_SLOT_ENTRY_SIZE_AT] = (unsigned char)f->slot_entry_size;
    header[ROM_ERASED_VALUE_AT] = 0xff;
    rom_store32(header + ROM_HEADER_SIZE_AT, f->header_size);
    rom_store32(header + ROM_ROM_SIZE_AT, f->size);
    rom_store32(header + ROM_BASE_ADDRESS_AT, (uint32_t)f->base_address);
    rom_store32(header + ROM_BASE_ADDRESS_AT + 4, (uint32_t)(f->base_address >> 32));
    rom_fixture_tree(f->pages, f->absent, (size_t)1 << f->page_shift, f->page_count,
                     header + ROM_ROOT_AT);
    rom_fixture_seal(f);
}

#endif
