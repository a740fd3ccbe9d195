/* SPDX-License-Identifier: MIT
 *
 * Opening: header, tables, slots, codings and dictionaries are checked in the
 * order that docs/FORMAT.md says, so that reading a page need only check the
 * page's own entry.
 */
#include "rom_internal.h"

/* What must be right before any other number is looked at. */
static int check_block(const unsigned char *base, size_t size)
{
    uint32_t header_size, rom_size;

    if (size < ROM_FIXED_SIZE + ROM_CHECKSUM_SIZE || rom_load32(base) != ROM_MAGIC_LOW ||
        rom_load32(base + 4) != ROM_MAGIC_HIGH)
        return PGS_E_ROM_MAGIC;
    if (rom_load16(base + ROM_FORMAT_VERSION_AT) != ROM_FORMAT_VERSION ||
        rom_load32(base + ROM_FEATURES_INCOMPATIBLE_AT) != 0)
        return PGS_E_ROM_FEATURE;
    rom_size = rom_load32(base + ROM_ROM_SIZE_AT);
    header_size = rom_load32(base + ROM_HEADER_SIZE_AT);
    if (rom_size > size || rom_size < ROM_CHECKSUM_SIZE ||
        header_size > rom_size - ROM_CHECKSUM_SIZE)
        return PGS_E_ROM_TRUNCATED;
    if (header_size % ROM_CHECKSUM_STRIDE != 0 || header_size < ROM_FIXED_SIZE ||
        pgs_xxh32(base, header_size, 0) != rom_load32(base + header_size) ||
        base[ROM_PAGE_SHIFT_AT] < ROM_PAGE_SHIFT_MIN ||
        base[ROM_PAGE_SHIFT_AT] > ROM_PAGE_SHIFT_MAX)
        return PGS_E_ROM_HEADER;
    return PGS_OK;
}

/* Tables stand in the order of their numbers and do not overlap. An entry size
 * of 0 is one that the header gives. */
static int place_tables(struct pgs_rom *rom)
{
    static const unsigned char sizes[PGS_ROM_TABLE_COUNT] = {
        [PGS_ROM_CODINGS] = ROM_CODING_SIZE, [PGS_ROM_DICTS] = ROM_DICT_SIZE,
        [PGS_ROM_SEGMENTS] = ROM_SEGMENT_SIZE, [PGS_ROM_NAMES] = 1, [PGS_ROM_SIGNATURE] = 1,
        [PGS_ROM_WORDS] = ROM_WORD_SIZE, [PGS_ROM_CHECKSUMS] = ROM_CHECKSUM_SIZE,
        [PGS_ROM_GROUPS] = ROM_GROUP_SIZE, [PGS_ROM_DICT_BYTES] = 1, [PGS_ROM_DATA] = 1};
    const unsigned char *entry = rom->base + ROM_TABLES_AT;
    uint32_t rom_size = rom_load32(rom->base + ROM_ROM_SIZE_AT), end = ROM_FIXED_SIZE;
    unsigned i;

    for (i = 0; i < PGS_ROM_TABLE_COUNT; i++, entry += ROM_TABLE_SIZE) {
        uint32_t offset = rom_load32(entry + ROM_TABLE_OFFSET_AT);
        uint32_t count = rom_load32(entry + ROM_TABLE_COUNT_AT);
        unsigned size = sizes[i];

        if (size == 0)
            size = i == PGS_ROM_PAGES ? rom->page_entry_size : rom->slot_entry_size;
        if (offset < end || offset > rom_size || (uint64_t)count * size > rom_size - offset)
            return PGS_E_ROM_TABLE;
        rom->tables[i].at = rom->base + offset;
        rom->tables[i].count = count;
        end = offset + count * size;
    }
    return PGS_OK;
}

/* Of the sizes of entries 2 and 4 are allowed. */
static int check_counts(const struct pgs_rom *rom)
{
    const struct pgs_rom_table *tables = rom->tables;

    if ((((rom->page_entry_size - 2u) | (rom->slot_entry_size - 2u)) & ~2u) != 0 ||
        tables[PGS_ROM_CODINGS].count > PGS_ROM_CODING_COUNT_MAX ||
        tables[PGS_ROM_DICTS].count > PGS_ROM_DICT_COUNT_MAX ||
        tables[PGS_ROM_PAGES].count != tables[PGS_ROM_CHECKSUMS].count ||
        tables[PGS_ROM_GROUPS].count !=
            (tables[PGS_ROM_SLOTS].count + ROM_GROUP_SLOTS - 1) / ROM_GROUP_SLOTS)
        return PGS_E_ROM_HEADER;
    return PGS_OK;
}

/* Fills in everything but kit and dictionaries. */
static int parse(const unsigned char *base, size_t size, struct pgs_rom *rom)
{
    int error = check_block(base, size);

    if (error != PGS_OK)
        return error;
    rom->base = base;
    rom->address = rom_load32(base + ROM_BASE_ADDRESS_AT);
    rom->page_size = UINT32_C(1) << base[ROM_PAGE_SHIFT_AT];
    rom->page_entry_size = base[ROM_PAGE_ENTRY_SIZE_AT];
    rom->slot_entry_size = base[ROM_SLOT_ENTRY_SIZE_AT];
    error = place_tables(rom);
    if (error != PGS_OK)
        return error;
    rom->page_count = rom->tables[PGS_ROM_PAGES].count;
    return check_counts(rom);
}

static int check_coding(const struct pgs_rom *rom, uint32_t coding_no)
{
    const unsigned char *coding = rom->tables[PGS_ROM_CODINGS].at + ROM_CODING_SIZE * coding_no;
    unsigned codec, filter, dict_no;

    if (coding_no >= rom->tables[PGS_ROM_CODINGS].count)
        return PGS_E_ROM_EXTENT;
    codec = coding[ROM_CODING_CODEC_AT];
    filter = coding[ROM_CODING_FILTER_AT];
    dict_no = coding[ROM_CODING_DICT_NO_AT];
    if (dict_no >= rom->tables[PGS_ROM_DICTS].count && dict_no != ROM_NO_DICT)
        return PGS_E_ROM_EXTENT;
    if (codec >= PGS_ROM_CODEC_COUNT || filter >= PGS_ROM_FILTER_COUNT ||
        rom->kit->decode[codec] == NULL || rom->kit->undo[filter] == NULL)
        return PGS_E_ROM_CODEC;
    return PGS_OK;
}

/* Slots lie without gaps or overlaps, each no larger than a page, and can be
 * decoded. */
static int check_slots(const struct pgs_rom *rom)
{
    uint32_t at = 0, slot, data_size = rom->tables[PGS_ROM_DATA].count;

    for (slot = 0; slot < rom->tables[PGS_ROM_SLOTS].count; slot++) {
        struct rom_slot found = rom_slot_at(rom, slot);
        int error = check_coding(rom, found.coding_no);

        if (error != PGS_OK)
            return error;
        if ((slot % ROM_GROUP_SLOTS == 0 && rom_group_at(rom, slot) != at) ||
            found.size > rom->page_size || found.size > data_size - at)
            return PGS_E_ROM_EXTENT;
        at += found.size;
    }
    return at == data_size ? PGS_OK : PGS_E_ROM_EXTENT;
}

static int open_dict(struct pgs_rom *rom, unsigned dict_no, unsigned char **ram, size_t *ram_size)
{
    const struct pgs_rom_table *bytes = &rom->tables[PGS_ROM_DICT_BYTES];
    const unsigned char *entry = rom->tables[PGS_ROM_DICTS].at + ROM_DICT_SIZE * dict_no;
    struct pgs_rom_dict *dict = &rom->dicts[dict_no];
    uint32_t offset = rom_load32(entry + ROM_DICT_OFFSET_AT);
    uint32_t stored_size = rom_load32(entry + ROM_DICT_STORED_SIZE_AT);
    uint32_t codec = rom_load32(entry + ROM_DICT_CODEC_AT);

    if (offset > bytes->count || stored_size > bytes->count - offset)
        return PGS_E_ROM_TABLE;
    dict->size = rom_load32(entry + ROM_DICT_SIZE_AT);
    dict->bytes = bytes->at + offset;
    if (codec == PGS_CODEC_RAW)
        return dict->size == stored_size ? PGS_OK : PGS_E_ROM_DICT;
    if (codec >= PGS_ROM_CODEC_COUNT || rom->kit->decode[codec] == NULL)
        return PGS_E_ROM_CODEC;
    if (dict->size > *ram_size)
        return PGS_E_NOMEM;
    if (dict->size % ROM_CHECKSUM_STRIDE != 0 ||
        rom->kit->decode[codec](rom->kit->ctx, PGS_ROM_NO_CODING, dict->bytes, stored_size, NULL,
                                *ram, dict->size) != PGS_OK ||
        pgs_xxh32(*ram, dict->size, 0) != rom_load32(entry + ROM_DICT_CHECKSUM_AT))
        return PGS_E_ROM_DICT;
    dict->bytes = *ram;
    *ram += dict->size;
    *ram_size -= dict->size;
    return PGS_OK;
}

int pgs_rom_open(const void *base, size_t size, const struct pgs_rom_kit *kit, void *ram,
                 size_t ram_size, struct pgs_rom *rom_ret)
{
    unsigned char *ram_left = ram;
    int error = parse(base, size, rom_ret);
    unsigned i;

    rom_ret->kit = kit;
    if (error == PGS_OK)
        error = check_slots(rom_ret);
    for (i = 0; error == PGS_OK && i < rom_ret->tables[PGS_ROM_DICTS].count; i++)
        error = open_dict(rom_ret, i, &ram_left, &ram_size);
    return error;
}

int pgs_rom_ram_size(const void *base, size_t size, size_t *ram_size_ret)
{
    struct pgs_rom rom;
    int error = parse(base, size, &rom);
    unsigned i;

    *ram_size_ret = 0;
    for (i = 0; error == PGS_OK && i < rom.tables[PGS_ROM_DICTS].count; i++) {
        const unsigned char *entry = rom.tables[PGS_ROM_DICTS].at + ROM_DICT_SIZE * i;
        uint32_t dict_size = rom_load32(entry + ROM_DICT_SIZE_AT);

        if (dict_size > PGS_ROM_DICT_SIZE_MAX)
            error = PGS_E_ROM_DICT;
        else if (rom_load32(entry + ROM_DICT_CODEC_AT) != PGS_CODEC_RAW)
            *ram_size_ret += dict_size;
    }
    return error;
}
