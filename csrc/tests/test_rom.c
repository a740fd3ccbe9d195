/* SPDX-License-Identifier: MIT
 *
 * The ROM reader on whole images: valid ones, and each way of being invalid
 * with the error that says so.
 */
#include "rom_fixture.h"

#include "pagestep/codec.h"

enum { RAM_MAX = 1 << 16, WHAT_MAX = 48 };

static struct rom_fixture f;
static unsigned char ram[RAM_MAX];

/* Something like code: words that come again, some of them calls. */
static void make_page(struct noise *noise, unsigned char *page, size_t size)
{
    size_t at;

    for (at = 0; at + 8 <= size; at += 8) {
        memcpy(page + at, "\x48\x89\xe5\xe8\0\x10\0\0", 8);
        page[at + noise_below(noise, 8)] ^= (unsigned char)noise_below(noise, 16);
    }
}

static uint32_t add_coded(uint32_t coding_no, const void *dict, size_t dict_size, uint32_t filter,
                          const unsigned char *page)
{
    static unsigned char filtered[ROM_FIXTURE_PAGE_MAX], packed[2 * ROM_FIXTURE_PAGE_MAX];
    size_t page_size = (size_t)1 << f.page_shift, packed_size;

    memcpy(filtered, page, page_size);
    CHECK_EQ(pgs_filter_apply(filter, filtered, page_size,
                              f.base_address + f.page_count * page_size), PGS_OK);
    packed_size = rom_fixture_lz4(dict, dict_size, filtered, page_size, packed, sizeof(packed));
    CHECK(packed_size < page_size);
    return rom_fixture_add_slot(&f, coding_no, packed, (uint32_t)packed_size);
}

/* An image with everything that the small reader knows: codings 0 raw, 1 LZ4,
 * 2 with a raw dictionary, 3 with a coded one and a filter; pages 0 one
 * repeated word, 1 left out, 2 raw, 3 like page 2, then coded ones. */
static void make_image(unsigned page_shift, unsigned page_entry_size, unsigned slot_entry_size)
{
    static unsigned char page[ROM_FIXTURE_PAGE_MAX], dicts[2][1024];
    static const unsigned char word[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    size_t page_size = (size_t)1 << page_shift, i;
    uint32_t top_bit = UINT32_C(1) << (8 * page_entry_size - 1);
    struct noise noise = {page_shift};

    rom_fixture_init(&f, page_shift, page_entry_size, slot_entry_size);
    make_page(&noise, dicts[0], sizeof(dicts[0]));
    make_page(&noise, dicts[1], sizeof(dicts[1]));
    rom_fixture_add_dict(&f, PGS_CODEC_RAW, dicts[0], sizeof(dicts[0]) - 3);
    rom_fixture_add_dict(&f, PGS_CODEC_LZ4, dicts[1], sizeof(dicts[1]));
    rom_fixture_add_coding(&f, PGS_CODEC_RAW, PGS_FILTER_NONE, ROM_NO_DICT);
    rom_fixture_add_coding(&f, PGS_CODEC_LZ4, PGS_FILTER_NONE, ROM_NO_DICT);
    rom_fixture_add_coding(&f, PGS_CODEC_LZ4, PGS_FILTER_NONE, 0);
    rom_fixture_add_coding(&f, PGS_CODEC_LZ4, PGS_FILTER_X86, 1);
    rom_fixture_add(&f, PGS_ROM_WORDS, word, sizeof(word));
    for (i = 0; i < page_size; i++)
        page[i] = word[i % 8];
    rom_fixture_add_page(&f, top_bit, page);
    rom_fixture_add_page(&f, top_bit | (top_bit - 1), NULL);
    noise_fill(&noise, page, page_size);
    rom_fixture_add_page(&f, rom_fixture_add_slot(&f, 0, page, (uint32_t)page_size), page);
    rom_fixture_add_page(&f, 0, page);
    for (i = 0; i < 70; i++) {
        uint32_t slot;

        make_page(&noise, page, page_size);
        if (i % 3 == 0)
            slot = add_coded(1, NULL, 0, PGS_FILTER_NONE, page);
        else if (i % 3 == 1)
            slot = add_coded(2, dicts[0], sizeof(dicts[0]) - 3, PGS_FILTER_NONE, page);
        else
            slot = add_coded(3, dicts[1], sizeof(dicts[1]), PGS_FILTER_X86, page);
        rom_fixture_add_page(&f, slot, page);
    }
    rom_fixture_close(&f);
}

/* Opens the image where its bytes end before a wall, and RAM too. */
static int open_kit(const struct pgs_rom_kit *kit, size_t ram_size)
{
    struct guarded rom = guarded_open(f.size), room = guarded_open(ram_size);
    struct pgs_rom opened;
    int error;

    memcpy(rom.bytes, f.rom, f.size);
    error = pgs_rom_open(rom.bytes, f.size, kit, room.bytes, ram_size, &opened);
    guarded_close(&rom);
    guarded_close(&room);
    return error;
}

static int open_error(void)
{
    return open_kit(&pgs_rom_kit_small, RAM_MAX);
}

static struct pgs_rom open_valid(void)
{
    struct pgs_rom rom;
    size_t ram_size;

    CHECK_EQ(pgs_rom_ram_size(f.rom, f.size, &ram_size), PGS_OK);
    CHECK_EQ(pgs_rom_open(f.rom, f.size, &pgs_rom_kit_small, ram, ram_size, &rom), PGS_OK);
    return rom;
}

static void check_pages(const struct pgs_rom *rom)
{
    struct guarded out = guarded_open(rom->page_size);
    uint32_t page_no;

    CHECK_EQ(rom->page_count, f.page_count);
    for (page_no = 0; page_no < rom->page_count; page_no++) {
        int error = pgs_rom_page(rom, page_no, out.bytes);

        CHECK_EQ(error, f.absent[page_no] ? PGS_E_ROM_ABSENT : PGS_OK);
        if (error == PGS_OK)
            CHECK_BYTES(out.bytes, f.pages + (size_t)page_no * rom->page_size, rom->page_size);
    }
    CHECK_EQ(pgs_rom_page(rom, page_no, out.bytes), PGS_E_RANGE);
    CHECK_EQ(pgs_rom_page(rom, UINT32_MAX, out.bytes), PGS_E_RANGE);
    guarded_close(&out);
}

static void test_reads_every_page(void)
{
    static const unsigned shapes[][3] = {{9, 2, 2}, {9, 4, 4}, {12, 2, 2}, {12, 4, 2},
                                         {13, 2, 4}, {10, 2, 4}};
    size_t i;

    for (i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct pgs_rom rom;
        size_t ram_size;

        make_image(shapes[i][0], shapes[i][1], shapes[i][2]);
        CHECK_EQ(pgs_rom_ram_size(f.rom, f.size, &ram_size), PGS_OK);
        CHECK_EQ(ram_size, 1024);
        rom = open_valid();
        CHECK_EQ(rom.page_size, 1u << shapes[i][0]);
        check_pages(&rom);
    }
}

/* Nothing at all: no page, no table with an entry, no RAM. */
static void test_empty_image(void)
{
    static unsigned char page[512];
    struct pgs_rom_tree tree;
    struct pgs_rom rom;
    uint32_t bad_page = 7;

    rom_fixture_init(&f, 9, 2, 2);
    rom_fixture_close(&f);
    CHECK_EQ(pgs_rom_open(f.rom, f.size, &pgs_rom_kit_small, NULL, 0, &rom), PGS_OK);
    CHECK_EQ(pgs_rom_page(&rom, 0, page), PGS_E_RANGE);
    CHECK(pgs_rom_in_place(&rom, 0) == NULL);
    CHECK_EQ(pgs_rom_verify(&rom, &tree, page, &bad_page), PGS_OK);
}

static void test_cut_off(void)
{
    static const unsigned char magic[8] = {0x89, 'P', 'G', 'S', 'R', 'O', 'M', '\n'};
    uint32_t whole;
    size_t ram_size, i;

    make_image(9, 2, 2);
    whole = f.size;
    CHECK_BYTES(f.rom, magic, 8);
    for (f.size = 0; f.size < whole; f.size++) {
        int wanted = f.size < ROM_FIXED_SIZE + ROM_CHECKSUM_SIZE ? PGS_E_ROM_MAGIC
                                                                 : PGS_E_ROM_TRUNCATED;
        CHECK_EQ(open_error(), wanted);
        CHECK_EQ(pgs_rom_ram_size(f.rom, f.size, &ram_size), wanted);
        CHECK_EQ(ram_size, 0);
    }
    for (i = 0; i < 8; i++) {
        f.rom[i] ^= 1;
        CHECK_EQ(open_error(), PGS_E_ROM_MAGIC);
        f.rom[i] ^= 1;
    }
    f.size += 100; /* more at hand than the image has */
    CHECK_EQ(open_error(), PGS_OK);
}

/* The header block is whole, its checksum is not. */
static void test_checksum_cut_off(void)
{
    uint32_t have;

    make_image(9, 2, 2);
    for (have = 0; have < ROM_CHECKSUM_SIZE; have++) {
        f.size = f.header_size + have;
        rom_store32(f.rom + ROM_ROM_SIZE_AT, f.size);
        rom_fixture_seal(&f);
        CHECK_EQ(open_error(), PGS_E_ROM_TRUNCATED);
    }
}

/* Any bit of the header block. */
static void test_header_bits(void)
{
    size_t bit;

    make_image(9, 2, 2);
    for (bit = 0; bit < 8 * (size_t)(f.header_size + ROM_CHECKSUM_SIZE); bit++) {
        f.rom[bit / 8] ^= (unsigned char)(1u << bit % 8);
        CHECK(open_error() < PGS_OK);
        f.rom[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CHECK_EQ(open_error(), PGS_OK);
}

/* A number in the header block, and what a reader says to it. */
struct change {
    uint32_t at;
    unsigned size;
    uint32_t value;
    int wanted;
};

#define TABLE_AT(table_no) (ROM_TABLES_AT + ROM_TABLE_SIZE * (table_no))
#define COUNT_AT(table_no) (TABLE_AT(table_no) + ROM_TABLE_COUNT_AT)

static void store(unsigned char *at, uint32_t value, unsigned size)
{
    unsigned i;

    for (i = 0; i < size; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static void refuses(const struct change *change)
{
    unsigned char saved[4];
    int error;

    memcpy(saved, f.rom + change->at, change->size);
    store(f.rom + change->at, change->value, change->size);
    if (change->at != ROM_ROM_SIZE_AT && change->at != ROM_HEADER_SIZE_AT)
        rom_fixture_seal(&f);
    error = open_error();
    if (error != change->wanted)
        fprintf(stderr, "at %u, value %u\n", (unsigned)change->at, (unsigned)change->value);
    CHECK_EQ(error, change->wanted);
    memcpy(f.rom + change->at, saved, change->size);
    rom_fixture_seal(&f);
}

static void test_refuses_header(void)
{
    static const struct change changes[] = {
        {ROM_FORMAT_VERSION_AT, 2, 0, PGS_E_ROM_FEATURE},
        {ROM_FORMAT_VERSION_AT, 2, 2, PGS_E_ROM_FEATURE},
        {ROM_FORMAT_VERSION_AT, 2, 0x101, PGS_E_ROM_FEATURE},
        {ROM_FEATURES_COMPATIBLE_AT, 4, UINT32_MAX, PGS_OK},
        {ROM_ERASED_VALUE_AT, 3, 0x010101, PGS_OK},
        {ROM_ROM_SIZE_AT, 4, 0, PGS_E_ROM_TRUNCATED},
        {ROM_ROM_SIZE_AT, 4, 3, PGS_E_ROM_TRUNCATED},
        {ROM_ROM_SIZE_AT, 4, UINT32_MAX, PGS_E_ROM_TRUNCATED},
        {ROM_HEADER_SIZE_AT, 4, UINT32_MAX, PGS_E_ROM_TRUNCATED},
        {ROM_HEADER_SIZE_AT, 4, UINT32_MAX - 15, PGS_E_ROM_TRUNCATED},
        {ROM_HEADER_SIZE_AT, 4, 0, PGS_E_ROM_HEADER},
        {ROM_HEADER_SIZE_AT, 4, 208, PGS_E_ROM_HEADER},
        {ROM_PAGE_SHIFT_AT, 1, 8, PGS_E_ROM_HEADER},
        {ROM_PAGE_SHIFT_AT, 1, 17, PGS_E_ROM_HEADER},
        {ROM_PAGE_SHIFT_AT, 1, 9 + 32, PGS_E_ROM_HEADER},
        {ROM_PAGE_SHIFT_AT, 1, 255, PGS_E_ROM_HEADER},
        {ROM_PAGE_ENTRY_SIZE_AT, 1, 0, PGS_E_ROM_HEADER},
        {ROM_PAGE_ENTRY_SIZE_AT, 1, 1, PGS_E_ROM_HEADER},
        {ROM_SLOT_ENTRY_SIZE_AT, 1, 0, PGS_E_ROM_HEADER},
        {ROM_SLOT_ENTRY_SIZE_AT, 1, 1, PGS_E_ROM_HEADER},
        {COUNT_AT(PGS_ROM_CODINGS), 4, 17, PGS_E_ROM_HEADER},
        {COUNT_AT(PGS_ROM_DICTS), 4, 5, PGS_E_ROM_HEADER},
        {COUNT_AT(PGS_ROM_PAGES), 4, 75, PGS_E_ROM_HEADER},
        {COUNT_AT(PGS_ROM_CHECKSUMS), 4, 75, PGS_E_ROM_HEADER},
        {COUNT_AT(PGS_ROM_GROUPS), 4, 1, PGS_E_ROM_HEADER},
        {COUNT_AT(PGS_ROM_GROUPS), 4, 3, PGS_E_ROM_HEADER},
    };
    size_t i;

    make_image(9, 2, 2);
    CHECK_EQ(f.page_count, 74);
    for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
        refuses(&changes[i]);
    for (i = 0; i < 32; i++) {
        const struct change bit = {ROM_FEATURES_INCOMPATIBLE_AT, 4, UINT32_C(1) << i,
                                   PGS_E_ROM_FEATURE};
        refuses(&bit);
    }
}

/* Sizes that cannot be, though the checksum is right where they say it is:
 * no multiple of 16, or within the root, so that nothing else is spoilt. */
static void test_refuses_header_sizes(void)
{
    uint32_t cut;

    for (cut = 1; cut < ROM_CHECKSUM_STRIDE; cut++) {
        make_image(9, 2, 2);
        store(f.rom + ROM_HEADER_SIZE_AT, f.header_size - cut, 4);
        rom_fixture_seal(&f);
        CHECK_EQ(open_error(), PGS_E_ROM_HEADER);
    }
    make_image(9, 2, 2);
    store(f.rom + ROM_HEADER_SIZE_AT, ROM_ROOT_AT, 4);
    rom_fixture_seal(&f);
    CHECK_EQ(open_error(), PGS_E_ROM_HEADER);
}

/* Entry sizes between and beyond 2 and 4, where even the larger tables fit. */
static void test_refuses_entry_sizes(void)
{
    static const unsigned sizes[] = {3, 5, 6, 8, 18, 255};
    size_t i;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct change page = {ROM_PAGE_ENTRY_SIZE_AT, 1, sizes[i], PGS_E_ROM_HEADER};
        const struct change slot = {ROM_SLOT_ENTRY_SIZE_AT, 1, sizes[i], PGS_E_ROM_HEADER};

        rom_fixture_init(&f, 9, 2, 2);
        rom_fixture_close(&f);
        refuses(&page);
        refuses(&slot);
    }
}

static void test_refuses_tables(void)
{
    uint32_t table_no;

    make_image(9, 2, 2);
    for (table_no = 0; table_no < PGS_ROM_TABLE_COUNT; table_no++) {
        uint32_t at = rom_load32(f.rom + TABLE_AT(table_no));
        uint32_t end = at - ROM_FIXTURE_GAP; /* of the table before */
        const struct change changes[] = {
            {TABLE_AT(table_no), 4, 0, PGS_E_ROM_TABLE},
            {TABLE_AT(table_no), 4, f.size + 1, PGS_E_ROM_TABLE},
            {TABLE_AT(table_no), 4, UINT32_MAX, PGS_E_ROM_TABLE},
            {COUNT_AT(table_no), 4, UINT32_MAX, PGS_E_ROM_TABLE},
            {COUNT_AT(table_no), 4, f.size - at + 1, PGS_E_ROM_TABLE},
            {TABLE_AT(table_no), 4, (table_no == 0 ? at : end) - 1, PGS_E_ROM_TABLE},
        };
        size_t i, count = sizeof(changes) / sizeof(changes[0]);

        /* Between the names and the signature there is the header's checksum as well. */
        count -= table_no == PGS_ROM_SIGNATURE;
        for (i = 0; i < count; i++)
            refuses(&changes[i]);
    }
    /* Counts whose bytes, multiplied in 32 bits, would fit. */
    refuses(&(struct change){COUNT_AT(PGS_ROM_CODINGS), 4, UINT32_C(1) << 30, PGS_E_ROM_TABLE});
    refuses(&(struct change){COUNT_AT(PGS_ROM_WORDS), 4, UINT32_C(1) << 29, PGS_E_ROM_TABLE});
    refuses(&(struct change){COUNT_AT(PGS_ROM_PAGES), 4, UINT32_C(1) << 31, PGS_E_ROM_TABLE});
}

/* Changes an entry of the index, which no checksum covers. */
static void refuses_index(unsigned table_no, uint32_t index, unsigned size, uint32_t value,
                          int wanted)
{
    unsigned char *entry = rom_fixture_table(&f, table_no) + (size_t)index * size, saved[4];
    int error;

    memcpy(saved, entry, size);
    store(entry, value, size);
    error = open_error();
    if (error != wanted)
        fprintf(stderr, "table %u, entry %u, value %u\n", table_no, (unsigned)index,
                (unsigned)value);
    CHECK_EQ(error, wanted);
    memcpy(entry, saved, size);
}

static void test_refuses_slots(void)
{
    uint32_t i, data_size, entry;

    make_image(9, 2, 2);
    for (i = 0; i < 2; i++) {
        uint32_t at = rom_load32(rom_fixture_table(&f, PGS_ROM_GROUPS) + 4 * i);
        refuses_index(PGS_ROM_GROUPS, i, 4, at + 1, PGS_E_ROM_EXTENT);
        refuses_index(PGS_ROM_GROUPS, i, 4, at - 1, PGS_E_ROM_EXTENT);
        refuses_index(PGS_ROM_GROUPS, i, 4, UINT32_MAX, PGS_E_ROM_EXTENT);
    }
    for (i = 0; i < f.slot_count; i++) {
        entry = rom_load16(rom_fixture_table(&f, PGS_ROM_SLOTS) + 2 * i);
        refuses_index(PGS_ROM_SLOTS, i, 2, entry + 1, PGS_E_ROM_EXTENT);
        refuses_index(PGS_ROM_SLOTS, i, 2, entry - 1, PGS_E_ROM_EXTENT);
        refuses_index(PGS_ROM_SLOTS, i, 2, 512, PGS_E_ROM_EXTENT);
        refuses_index(PGS_ROM_SLOTS, i, 2, entry | 4 << 12, PGS_E_ROM_EXTENT);
    }
    data_size = f.tables[PGS_ROM_DATA].count;
    refuses(&(struct change){COUNT_AT(PGS_ROM_DATA), 4, data_size + 1, PGS_E_ROM_EXTENT});
    refuses(&(struct change){COUNT_AT(PGS_ROM_DATA), 4, data_size - 1, PGS_E_ROM_EXTENT});
    refuses(&(struct change){COUNT_AT(PGS_ROM_DATA), 4, 0, PGS_E_ROM_EXTENT});
    make_image(9, 2, 4);
    refuses_index(PGS_ROM_SLOTS, 5, 4, (1 << 28) - 1, PGS_E_ROM_EXTENT);
    refuses_index(PGS_ROM_SLOTS, 5, 4, UINT32_MAX, PGS_E_ROM_EXTENT);
}

/* A slot of the full page fits, one byte more does not, though the data has it. */
static void test_slot_is_at_most_a_page(void)
{
    static const unsigned char page[513];
    uint32_t size;

    for (size = 512; size <= 513; size++) {
        rom_fixture_init(&f, 9, 2, 2);
        rom_fixture_add_coding(&f, PGS_CODEC_LZ4, PGS_FILTER_NONE, ROM_NO_DICT);
        rom_fixture_add_slot(&f, 0, page, size);
        rom_fixture_close(&f);
        CHECK_EQ(open_error(), size == 512 ? PGS_OK : PGS_E_ROM_EXTENT);
    }
}

/* Slots so many and large that their sizes come round to those of the data. */
static void test_sizes_do_not_wrap(void)
{
    static const unsigned char data[512];
    uint32_t slot;

    rom_fixture_init(&f, 16, 2, 4);
    rom_fixture_add_coding(&f, PGS_CODEC_LZ4, PGS_FILTER_NONE, ROM_NO_DICT);
    for (slot = 0; slot <= 65536; slot++) {
        if (slot % ROM_GROUP_SLOTS == 0)
            rom_fixture_add_number(&f, PGS_ROM_GROUPS, slot << 16, ROM_GROUP_SIZE);
        rom_fixture_add_number(&f, PGS_ROM_SLOTS, slot < 65536 ? 65535 : sizeof(data) - 1, 4);
    }
    rom_fixture_add_bytes(&f, PGS_ROM_DATA, data, sizeof(data));
    rom_fixture_close(&f);
    CHECK_EQ(open_error(), PGS_E_ROM_EXTENT);
}

static void refuses_coding(uint32_t field, uint32_t value, int wanted)
{
    uint32_t at = rom_load32(f.rom + TABLE_AT(PGS_ROM_CODINGS)) + ROM_CODING_SIZE + field;

    refuses(&(struct change){at, 1, value, wanted});
}

static void test_refuses_codings(void)
{
    struct pgs_rom_kit kit = pgs_rom_kit_small;

    make_image(9, 2, 2);
    refuses_coding(ROM_CODING_CODEC_AT, PGS_CODEC_ZSTD, PGS_E_ROM_CODEC);
    refuses_coding(ROM_CODING_CODEC_AT, PGS_ROM_CODEC_COUNT, PGS_E_ROM_CODEC);
    refuses_coding(ROM_CODING_CODEC_AT, 255, PGS_E_ROM_CODEC);
    refuses_coding(ROM_CODING_FILTER_AT, PGS_ROM_FILTER_COUNT, PGS_E_ROM_CODEC);
    refuses_coding(ROM_CODING_FILTER_AT, 255, PGS_E_ROM_CODEC);
    refuses_coding(ROM_CODING_DICT_NO_AT, 2, PGS_E_ROM_EXTENT);
    refuses_coding(ROM_CODING_DICT_NO_AT, 254, PGS_E_ROM_EXTENT);
    refuses(&(struct change){COUNT_AT(PGS_ROM_CODINGS), 4, 3, PGS_E_ROM_EXTENT});
    kit.undo[PGS_FILTER_X86] = NULL;
    CHECK_EQ(open_kit(&kit, RAM_MAX), PGS_E_ROM_CODEC);
    kit = pgs_rom_kit_small;
    kit.decode[PGS_CODEC_LZ4] = NULL;
    CHECK_EQ(open_kit(&kit, RAM_MAX), PGS_E_ROM_CODEC);
}

static void refuses_dict(uint32_t dict_no, uint32_t field, uint32_t value, int wanted)
{
    uint32_t table = rom_load32(f.rom + TABLE_AT(PGS_ROM_DICTS));

    refuses(&(struct change){table + ROM_DICT_SIZE * dict_no + field, 4, value, wanted});
}

static void test_refuses_dictionaries(void)
{
    uint32_t bytes;
    size_t ram_size;

    make_image(9, 2, 2);
    bytes = f.tables[PGS_ROM_DICT_BYTES].count;
    refuses_dict(0, ROM_DICT_OFFSET_AT, bytes + 1, PGS_E_ROM_TABLE);
    refuses_dict(0, ROM_DICT_OFFSET_AT, UINT32_MAX, PGS_E_ROM_TABLE);
    refuses_dict(0, ROM_DICT_STORED_SIZE_AT, bytes + 1, PGS_E_ROM_TABLE);
    refuses_dict(1, ROM_DICT_STORED_SIZE_AT, UINT32_MAX, PGS_E_ROM_TABLE);
    refuses_dict(0, ROM_DICT_SIZE_AT, 1022, PGS_E_ROM_DICT);
    refuses_dict(0, ROM_DICT_CODEC_AT, PGS_CODEC_ZSTD, PGS_E_ROM_CODEC);
    refuses_dict(0, ROM_DICT_CODEC_AT, UINT32_MAX, PGS_E_ROM_CODEC);
    refuses_dict(1, ROM_DICT_CODEC_AT, PGS_CODEC_RAW, PGS_E_ROM_DICT);
    refuses_dict(1, ROM_DICT_SIZE_AT, 1008, PGS_E_ROM_DICT); /* does not decode */
    refuses_dict(1, ROM_DICT_SIZE_AT, 1040, PGS_E_ROM_DICT);
    refuses_dict(1, ROM_DICT_SIZE_AT, 1023, PGS_E_ROM_DICT); /* no multiple of 16 */
    refuses_dict(1, ROM_DICT_CHECKSUM_AT, 0, PGS_E_ROM_DICT);
    refuses_dict(1, ROM_DICT_STORED_SIZE_AT, 0, PGS_E_ROM_DICT);
    refuses_dict(1, ROM_DICT_SIZE_AT, RAM_MAX + 16, PGS_E_NOMEM);
    refuses_dict(1, ROM_DICT_SIZE_AT, UINT32_MAX - 15, PGS_E_NOMEM);
    CHECK_EQ(open_kit(&pgs_rom_kit_small, 1024), PGS_OK);
    CHECK_EQ(open_kit(&pgs_rom_kit_small, 1023), PGS_E_NOMEM);
    CHECK_EQ(open_kit(&pgs_rom_kit_small, 0), PGS_E_NOMEM);

    store(rom_fixture_table(&f, PGS_ROM_DICTS) + ROM_DICT_SIZE + ROM_DICT_SIZE_AT, 1 << 20, 4);
    rom_fixture_seal(&f);
    CHECK_EQ(pgs_rom_ram_size(f.rom, f.size, &ram_size), PGS_OK);
    CHECK_EQ(ram_size, 1 << 20);
    store(rom_fixture_table(&f, PGS_ROM_DICTS) + ROM_DICT_SIZE + ROM_DICT_SIZE_AT, (1 << 20) + 1,
          4);
    rom_fixture_seal(&f);
    CHECK_EQ(pgs_rom_ram_size(f.rom, f.size, &ram_size), PGS_E_ROM_DICT);
}

/* Each coded dictionary has its own part of the RAM. */
static void test_two_coded_dictionaries(void)
{
    static unsigned char dicts[2][1024], page[512];
    struct noise noise = {2};
    struct pgs_rom rom;
    uint32_t i;

    rom_fixture_init(&f, 9, 2, 2);
    for (i = 0; i < 2; i++) {
        make_page(&noise, dicts[i], sizeof(dicts[i]));
        rom_fixture_add_dict(&f, PGS_CODEC_LZ4, dicts[i], sizeof(dicts[i]));
        rom_fixture_add_coding(&f, PGS_CODEC_LZ4, PGS_FILTER_NONE, i);
        make_page(&noise, page, sizeof(page));
        rom_fixture_add_page(&f, add_coded(i, dicts[i], sizeof(dicts[i]), PGS_FILTER_NONE, page),
                             page);
    }
    rom_fixture_close(&f);
    rom = open_valid();
    check_pages(&rom);
    CHECK_EQ(open_kit(&pgs_rom_kit_small, 2048), PGS_OK);
    CHECK_EQ(open_kit(&pgs_rom_kit_small, 2047), PGS_E_NOMEM);
}

/* The checksum is not defined for what is no multiple of 16. */
static void test_refuses_odd_dictionary(void)
{
    static unsigned char dict[1024];

    rom_fixture_init(&f, 9, 2, 2);
    rom_fixture_add_dict(&f, PGS_CODEC_LZ4, dict, 1000);
    rom_fixture_close(&f);
    CHECK_EQ(open_error(), PGS_E_ROM_DICT);
}

/* Codec 1 is never stored. One that decodes it as a raw page must still not
 * write more than the dictionary's size. */
static void test_refuses_dictionary_of_codec_same(void)
{
    static unsigned char dict[1024];
    unsigned char *entry;

    rom_fixture_init(&f, 9, 2, 2);
    rom_fixture_add_dict(&f, PGS_CODEC_RAW, dict, sizeof(dict));
    rom_fixture_close(&f);
    entry = rom_fixture_table(&f, PGS_ROM_DICTS);
    store(entry + ROM_DICT_CODEC_AT, PGS_CODEC_SAME, 4);
    store(entry + ROM_DICT_SIZE_AT, 16, 4);
    rom_fixture_seal(&f);
    CHECK_EQ(open_kit(&pgs_rom_kit_small, 16), PGS_E_ROM_DICT);
}

static void test_page_entries(void)
{
    static unsigned char page[512];
    struct pgs_rom rom;
    unsigned char *entry;
    uint32_t value;

    make_image(9, 2, 2);
    rom = open_valid();
    entry = rom_fixture_table(&f, PGS_ROM_PAGES) + 2 * 4;
    for (value = 0; value < 1 << 16; value++) {
        int error;

        store(entry, value, 2);
        error = pgs_rom_page(&rom, 4, page);
        if (value == 1)
            CHECK_EQ(error, PGS_OK);
        else if (value == 0xffff)
            CHECK_EQ(error, PGS_E_ROM_ABSENT);
        else
            CHECK_EQ(error, PGS_E_CORRUPT);
    }
}

/* The table of slots or words, shorter by one: what stands behind it is no
 * entry, however much it looks like one. */
static void test_last_entries_are_the_last(void)
{
    static unsigned char page[512];
    uint32_t last_size, data_size;
    struct pgs_rom rom;

    make_image(9, 2, 2);
    rom = open_valid();
    last_size = (rom_load16(rom_fixture_table(&f, PGS_ROM_SLOTS) + 2 * (f.slot_count - 1)) & 4095) +
                1;
    data_size = f.tables[PGS_ROM_DATA].count;
    CHECK(f.slot_count % ROM_GROUP_SLOTS != 1);
    CHECK_EQ(pgs_rom_page(&rom, f.page_count - 1, page), PGS_OK);
    CHECK_EQ(pgs_rom_page(&rom, 0, page), PGS_OK);
    store(f.rom + COUNT_AT(PGS_ROM_SLOTS), f.slot_count - 1, 4);
    store(f.rom + COUNT_AT(PGS_ROM_DATA), data_size - last_size, 4);
    store(f.rom + COUNT_AT(PGS_ROM_WORDS), 0, 4);
    rom_fixture_seal(&f);
    rom = open_valid();
    CHECK_EQ(pgs_rom_page(&rom, f.page_count - 1, page), PGS_E_CORRUPT);
    CHECK_EQ(pgs_rom_page(&rom, 0, page), PGS_E_CORRUPT);
}

/* A page is only what its own checksum says, and only at its own number. */
static void test_data_bits(void)
{
    static unsigned char page[512];
    struct pgs_rom rom;
    unsigned char *data;
    size_t bit, wrong = 0;

    make_image(9, 2, 2);
    rom = open_valid();
    data = rom_fixture_table(&f, PGS_ROM_DATA) + 512; /* slot 1, which page 4 has */
    for (bit = 0; bit < 8 * 100; bit++) {
        int error;

        data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        error = pgs_rom_page(&rom, 4, page);
        if (error == PGS_OK)
            CHECK_BYTES(page, f.pages + 4 * 512, 512);
        else
            CHECK_EQ(error, PGS_E_CORRUPT);
        wrong += error != PGS_OK;
        data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    CHECK(wrong > 700);
    rom_fixture_table(&f, PGS_ROM_CHECKSUMS)[4 * 4] ^= 1;
    CHECK_EQ(pgs_rom_page(&rom, 4, page), PGS_E_CORRUPT);
}

static void test_in_place(void)
{
    static _Alignas(8192) unsigned char at[1 << 20];
    struct pgs_rom rom;
    uint32_t data_at, shift, page_no;

    make_image(13, 2, 4);
    data_at = rom_load32(f.rom + TABLE_AT(PGS_ROM_DATA));
    shift = 8192 - data_at % 8192; /* brings slot 0, which is raw, to its place */
    CHECK(f.size + shift <= sizeof(at));
    memcpy(at + shift, f.rom, f.size);
    CHECK_EQ(pgs_rom_open(at + shift, f.size, &pgs_rom_kit_small, ram, RAM_MAX, &rom), PGS_OK);
    for (page_no = 0; page_no < f.page_count + 2; page_no++)
        CHECK(pgs_rom_in_place(&rom, page_no) ==
              (page_no == 2 || page_no == 3 ? at + shift + data_at : NULL));
    CHECK_BYTES(pgs_rom_in_place(&rom, 2), f.pages + 2 * 8192, 8192);
    memmove(at + shift + 16, at + shift, f.size);
    CHECK_EQ(pgs_rom_open(at + shift + 16, f.size, &pgs_rom_kit_small, ram, RAM_MAX, &rom),
             PGS_OK);
    CHECK(pgs_rom_in_place(&rom, 2) == NULL);
}

/* A slot that is not a raw page, but at a page's place. */
static void not_in_place(uint32_t codec, uint32_t size)
{
    static _Alignas(8192) unsigned char at[1 << 16];
    static unsigned char bytes[8192];
    struct pgs_rom rom;
    uint32_t shift;

    rom_fixture_init(&f, 13, 2, 4);
    rom_fixture_add_coding(&f, codec, PGS_FILTER_NONE, ROM_NO_DICT);
    rom_fixture_add_page(&f, rom_fixture_add_slot(&f, 0, bytes, size), bytes);
    rom_fixture_close(&f);
    shift = 8192 - rom_load32(f.rom + TABLE_AT(PGS_ROM_DATA)) % 8192;
    CHECK(f.size + shift <= sizeof(at));
    memcpy(at + shift, f.rom, f.size);
    CHECK_EQ(pgs_rom_open(at + shift, f.size, &pgs_rom_kit_small, NULL, 0, &rom), PGS_OK);
    CHECK(pgs_rom_in_place(&rom, 0) == NULL);
}

static void test_not_in_place(void)
{
    not_in_place(PGS_CODEC_LZ4, 8192);
    not_in_place(PGS_CODEC_RAW, 8184);
}

static void test_verify(void)
{
    static unsigned char page[512];
    struct pgs_rom_tree tree;
    struct pgs_rom rom;
    uint32_t bad_page = 1234;

    make_image(9, 2, 2);
    rom = open_valid();
    CHECK_EQ(pgs_rom_verify(&rom, &tree, page, &bad_page), PGS_OK);
    rom_fixture_table(&f, PGS_ROM_CHECKSUMS)[4 * 42] ^= 0x80;
    CHECK_EQ(pgs_rom_verify(&rom, &tree, page, &bad_page), PGS_E_CORRUPT);
    CHECK_EQ(bad_page, 42);
    rom_fixture_table(&f, PGS_ROM_CHECKSUMS)[4 * 42] ^= 0x80;
    f.rom[ROM_ROOT_AT + 31] ^= 1;
    CHECK_EQ(pgs_rom_verify(&rom, &tree, page, &bad_page), PGS_E_CORRUPT);
    CHECK_EQ(bad_page, rom.page_count);
    f.rom[ROM_ROOT_AT + 31] ^= 1;
    /* A page said to be left out: only the root knows better. */
    store(rom_fixture_table(&f, PGS_ROM_PAGES) + 2 * 7, 0xffff, 2);
    CHECK_EQ(pgs_rom_verify(&rom, &tree, page, &bad_page), PGS_E_CORRUPT);
    CHECK_EQ(bad_page, rom.page_count);
}

int main(void)
{
    RUN(test_reads_every_page);
    RUN(test_empty_image);
    RUN(test_cut_off);
    RUN(test_checksum_cut_off);
    RUN(test_header_bits);
    RUN(test_refuses_header);
    RUN(test_refuses_header_sizes);
    RUN(test_refuses_entry_sizes);
    RUN(test_refuses_tables);
    RUN(test_refuses_slots);
    RUN(test_slot_is_at_most_a_page);
    RUN(test_sizes_do_not_wrap);
    RUN(test_refuses_codings);
    RUN(test_refuses_dictionaries);
    RUN(test_two_coded_dictionaries);
    RUN(test_refuses_odd_dictionary);
    RUN(test_refuses_dictionary_of_codec_same);
    RUN(test_page_entries);
    RUN(test_last_entries_are_the_last);
    RUN(test_data_bits);
    RUN(test_in_place);
    RUN(test_not_in_place);
    RUN(test_verify);
    return 0;
}
