/* SPDX-License-Identifier: MIT
 *
 * Reading one page: what the index says of it, its bytes, its checksum.
 * Slots, codings and dictionaries were checked when the image was opened, page
 * entries were not.
 */
#include "rom_internal.h"

static int locate_slot(const struct pgs_rom *rom, uint32_t slot, struct rom_place *place)
{
    uint32_t each = slot & ~(uint32_t)(ROM_GROUP_SLOTS - 1);
    struct rom_slot found;

    if (slot >= rom->tables[PGS_ROM_SLOTS].count)
        return PGS_E_CORRUPT;
    place->bytes = rom->tables[PGS_ROM_DATA].at + rom_group_at(rom, slot);
    for (; found = rom_slot_at(rom, each), each != slot; each++)
        place->bytes += found.size;
    place->size = found.size;
    place->coding_no = found.coding_no;
    place->coding = rom->tables[PGS_ROM_CODINGS].at + ROM_CODING_SIZE * found.coding_no;
    return PGS_OK;
}

int pgs_rom_locate(const struct pgs_rom *rom, uint32_t page_no, struct rom_place *place)
{
    static const unsigned char same[ROM_CODING_SIZE] = {PGS_CODEC_SAME, PGS_FILTER_NONE,
                                                        ROM_NO_DICT};
    const struct pgs_rom_table *words = &rom->tables[PGS_ROM_WORDS];
    uint32_t top_bit = UINT32_C(1) << (rom->page_entry_size * 8u - 1);
    uint32_t entry;

    if (page_no >= rom->page_count)
        return PGS_E_RANGE;
    entry = rom_entry(rom->tables[PGS_ROM_PAGES].at, page_no, rom->page_entry_size);
    if (entry < top_bit)
        return locate_slot(rom, entry, place);
    entry -= top_bit;
    if (entry == top_bit - 1)
        return PGS_E_ROM_ABSENT;
    if (entry >= words->count)
        return PGS_E_CORRUPT;
    place->bytes = words->at + (size_t)ROM_WORD_SIZE * entry;
    place->size = ROM_WORD_SIZE;
    place->coding_no = PGS_ROM_NO_CODING;
    place->coding = same;
    return PGS_OK;
}

/* Bytes at hand are one repeated word, or the page itself. A dictionary whose
 * entry says that it is one of these may be stored larger than it is. */
int pgs_rom_raw_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    (void)ctx;
    (void)coding_no;
    (void)dict;
    if (src_size > out_size)
        return PGS_E_CORRUPT;
    rom_copy_apart(out, src, src_size);
    rom_copy(out + src_size, out, out_size - src_size);
    return PGS_OK;
}

void pgs_rom_undo_none(unsigned char *bytes, size_t size, uint32_t address)
{
    (void)bytes;
    (void)size;
    (void)address;
}

int pgs_rom_page(const struct pgs_rom *rom, uint32_t page_no, void *out)
{
    const struct pgs_rom_kit *kit = rom->kit;
    struct rom_place place;
    int error = pgs_rom_locate(rom, page_no, &place);
    unsigned dict_no;

    if (error != PGS_OK)
        return error;
    dict_no = place.coding[ROM_CODING_DICT_NO_AT];
    error = kit->decode[place.coding[ROM_CODING_CODEC_AT]](
        kit->ctx, place.coding_no, place.bytes, place.size,
        dict_no == ROM_NO_DICT ? NULL : &rom->dicts[dict_no], out, rom->page_size);
    if (error != PGS_OK)
        return error;
    kit->undo[place.coding[ROM_CODING_FILTER_AT]](out, rom->page_size,
                                                  rom->address + page_no * rom->page_size);
    if (pgs_xxh32(out, rom->page_size, page_no) != rom_checksum_at(rom, page_no))
        return PGS_E_CORRUPT;
    return PGS_OK;
}

const void *pgs_rom_in_place(const struct pgs_rom *rom, uint32_t page_no)
{
    struct rom_place place;

    if (pgs_rom_locate(rom, page_no, &place) != PGS_OK ||
        place.coding[ROM_CODING_CODEC_AT] != PGS_CODEC_RAW || place.size != rom->page_size ||
        ((uintptr_t)place.bytes & (rom->page_size - 1)) != 0)
        return NULL;
    return place.bytes;
}
