/* SPDX-License-Identifier: MIT
 *
 * What opening and reading share: entries of the tables.
 */
#ifndef PGS_ROM_INTERNAL_H
#define PGS_ROM_INTERNAL_H

#include "pagestep/rom.h"

#include "rom_bytes.h"
#include "rom_layout.h"

/* A slot's bytes and coding, as its entry says; not checked. */
struct rom_slot {
    uint32_t size, coding_no;
};

/* Where a page's bytes are, and its coding: four bytes of the header block. */
struct rom_place {
    const unsigned char *bytes, *coding;
    uint32_t size, coding_no;
};

/* Finds a page by its entry. PGS_E_RANGE, PGS_E_CORRUPT, PGS_E_ROM_ABSENT. */
int pgs_rom_locate(const struct pgs_rom *rom, uint32_t page_no, struct rom_place *place);

/* An entry of 2 or 4 bytes. */
ROM_INLINE uint32_t rom_entry(const unsigned char *table, uint32_t index, unsigned entry_size)
{
    const unsigned char *at = table + (size_t)index * entry_size;
    return entry_size == 2 ? rom_load16(at) : rom_load32(at);
}

static inline struct rom_slot rom_slot_at(const struct pgs_rom *rom, uint32_t slot)
{
    unsigned size_bits = rom->slot_entry_size * 8u - ROM_SLOT_CODING_BITS;
    uint32_t entry = rom_entry(rom->tables[PGS_ROM_SLOTS].at, slot, rom->slot_entry_size);
    struct rom_slot found;

    found.size = (entry & ((UINT32_C(1) << size_bits) - 1)) + 1;
    found.coding_no = entry >> size_bits;
    return found;
}

/* A page's checksum, 0 for one that was left out. */
static inline uint32_t rom_checksum_at(const struct pgs_rom *rom, uint32_t page_no)
{
    return rom_load32(rom->tables[PGS_ROM_CHECKSUMS].at + (size_t)ROM_CHECKSUM_SIZE * page_no);
}

/* Where a group's first slot is, from the start of the page data. */
static inline uint32_t rom_group_at(const struct pgs_rom *rom, uint32_t slot)
{
    return rom_load32(rom->tables[PGS_ROM_GROUPS].at +
                      (size_t)ROM_GROUP_SIZE * (slot / ROM_GROUP_SLOTS));
}

#endif
