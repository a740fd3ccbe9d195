/* SPDX-License-Identifier: MIT
 *
 * Damages a ROM image and reads it:
 *
 *     test_rom_damage ROM FLAT READERS bits
 *     test_rom_damage ROM FLAT READERS COUNT SEED
 *
 * ROM is an image, FLAT all its pages one after the other (of one left out,
 * any bytes). READERS are some of small, zstd and host, with commas between:
 * the freestanding reader without and with zstd, and the host's. Either every
 * single bit is flipped, or COUNT times something at random: bits flipped, the
 * end cut off, a run of bytes put elsewhere. Each time the image is refused, or
 * every page that it may have touched is either right or an error. Prints how
 * often which, for each reader. tests/rom/test_damage.py runs it with
 * AddressSanitizer; the image's end is its buffer's.
 */
#include "check.h"

#include "pagestep/rom_reader.h"
#include "pagestep/rom_zstd.h"
#include "rom/rom_internal.h"

enum { RUN_MAX_LOG2 = 12, FLIPS_MAX = 8 };

enum kind { SMALL, ZSTD, HOST, KINDS };
static const char *const kind_names[KINDS] = {"small", "zstd", "host"};

/* What is to be read, and where each page is in the image as it was. */
struct truth {
    unsigned char *bytes, *flat;
    size_t size;
    struct pgs_rom rom; /* tables only */
    size_t header_end;
    struct page {
        uint32_t slot; /* UINT32_MAX: none */
        size_t data_from, data_to;
        int is_absent;
    } *pages;
};

static struct {
    size_t refused, pages_right, pages_refused;
} seen;

static unsigned char *read_file(const char *path, size_t *size_ret)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;

    CHECK(file != NULL);
    CHECK_EQ(fseek(file, 0, SEEK_END), 0);
    *size_ret = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*size_ret);
    CHECK_EQ(fread(bytes, 1, *size_ret, file), *size_ret);
    fclose(file);
    return bytes;
}

static void find_page(struct truth *truth, uint32_t page_no)
{
    const struct pgs_rom *rom = &truth->rom;
    struct page *page = &truth->pages[page_no];
    uint32_t top_bit = UINT32_C(1) << (8 * rom->page_entry_size - 1);
    uint32_t entry = rom_entry(rom->tables[PGS_ROM_PAGES].at, page_no, rom->page_entry_size), slot;

    page->is_absent = entry == (top_bit | (top_bit - 1));
    page->slot = UINT32_MAX;
    if (entry >= top_bit)
        return;
    page->slot = entry;
    page->data_from = (size_t)(rom->tables[PGS_ROM_DATA].at - rom->base);
    for (slot = 0; slot < entry; slot++)
        page->data_from += rom_slot_at(rom, slot).size;
    page->data_to = page->data_from + rom_slot_at(rom, entry).size;
}

static struct truth learn(const char *rom_path, const char *flat_path)
{
    struct truth truth;
    pgs_rom_reader *reader;
    size_t flat_size;
    uint32_t page_no;

    truth.bytes = read_file(rom_path, &truth.size);
    truth.flat = read_file(flat_path, &flat_size);
    CHECK_EQ(pgs_rom_reader_open(truth.bytes, truth.size, 1, &reader), PGS_OK);
    truth.rom = *pgs_rom_reader_rom(reader);
    pgs_rom_reader_close(reader);
    CHECK_EQ(flat_size, (size_t)truth.rom.page_count * truth.rom.page_size);
    truth.header_end = rom_load32(truth.bytes + ROM_HEADER_SIZE_AT) + ROM_CHECKSUM_SIZE;
    truth.pages = calloc(truth.rom.page_count, sizeof(*truth.pages));
    for (page_no = 0; page_no < truth.rom.page_count; page_no++)
        find_page(&truth, page_no);
    return truth;
}

/* -- which pages damage may touch ------------------------------------------------------ */

/* Of the image, from its first byte to before the last. */
struct range {
    size_t from, to;
};

static int overlaps(struct range range, size_t from, size_t to)
{
    return range.from < to && from < range.to;
}

static int touches_entries(const struct truth *truth, struct range range, unsigned table_no,
                           size_t entry_size, size_t first, size_t count)
{
    const struct pgs_rom_table *table = &truth->rom.tables[table_no];
    size_t from = (size_t)(table->at - truth->bytes);
    size_t end = first + count < table->count ? first + count : table->count;

    return overlaps(range, from + first * entry_size, from + end * entry_size);
}

/* Whether a page can be another one, where no byte outside the range changed. */
static int touches(const struct truth *truth, struct range range, uint32_t page_no)
{
    const struct page *page = &truth->pages[page_no];
    const struct pgs_rom *rom = &truth->rom;
    uint32_t group = page->slot / ROM_GROUP_SLOTS;

    if (range.from < truth->header_end ||
        touches_entries(truth, range, PGS_ROM_DICT_BYTES, 1, 0, UINT32_MAX) ||
        touches_entries(truth, range, PGS_ROM_CHECKSUMS, ROM_CHECKSUM_SIZE, page_no, 1) ||
        touches_entries(truth, range, PGS_ROM_PAGES, rom->page_entry_size, page_no, 1))
        return 1;
    if (page->slot == UINT32_MAX)
        return touches_entries(truth, range, PGS_ROM_WORDS, ROM_WORD_SIZE, 0, UINT32_MAX);
    return touches_entries(truth, range, PGS_ROM_GROUPS, ROM_GROUP_SIZE, group, 1) ||
           touches_entries(truth, range, PGS_ROM_SLOTS, rom->slot_entry_size,
                           (size_t)group * ROM_GROUP_SLOTS, ROM_GROUP_SLOTS) ||
           overlaps(range, page->data_from, page->data_to);
}

/* -- reading what is damaged ----------------------------------------------------------- */

struct reader {
    struct pgs_rom rom;
    pgs_rom_reader *host; /* NULL: the freestanding one */
    struct pgs_rom_kit kit;
    struct pgs_rom_zstd zstd;
    void *ram, *zstd_ram;
};

static void add_zstd(struct reader *reader)
{
    size_t ram_size = pgs_rom_zstd_ram_size(PGS_ROM_DICT_COUNT_MAX);

    reader->zstd_ram = malloc(ram_size);
    CHECK_EQ(pgs_rom_zstd_init(&reader->zstd, reader->zstd_ram, ram_size), PGS_OK);
    reader->kit.ctx = &reader->zstd;
    reader->kit.decode[PGS_CODEC_ZSTD] = pgs_rom_zstd_decode;
}

static int reader_open(struct reader *reader, enum kind kind, const unsigned char *bytes,
                       size_t size)
{
    size_t ram_size;
    int error;

    reader->host = NULL;
    reader->ram = reader->zstd_ram = NULL;
    if (kind == HOST) {
        error = pgs_rom_reader_open(bytes, size, 1, &reader->host);
        if (error == PGS_OK)
            reader->rom = *pgs_rom_reader_rom(reader->host);
        return error;
    }
    error = pgs_rom_ram_size(bytes, size, &ram_size);
    if (error != PGS_OK)
        return error;
    reader->ram = malloc(ram_size + (ram_size == 0));
    reader->kit = pgs_rom_kit_small;
    if (kind == ZSTD)
        add_zstd(reader);
    error = pgs_rom_open(bytes, size, &reader->kit, reader->ram, ram_size, &reader->rom);
    return error == PGS_OK && kind == ZSTD ? pgs_rom_zstd_digest(&reader->zstd, &reader->rom)
                                           : error;
}

static void reader_close(struct reader *reader)
{
    pgs_rom_reader_close(reader->host);
    free(reader->ram);
    free(reader->zstd_ram);
}

static int reader_page(struct reader *reader, uint32_t page_no, unsigned char *page)
{
    const uint64_t number = page_no;

    if (reader->host != NULL)
        return pgs_rom_reader_pages(reader->host, &number, 1, page, NULL);
    (void)pgs_rom_in_place(&reader->rom, page_no);
    return pgs_rom_page(&reader->rom, page_no, page);
}

/* Reads what a change within `range` may have touched. */
static void read_damaged(const struct truth *truth, enum kind kind, const unsigned char *bytes,
                         size_t size, struct range range)
{
    struct reader reader;
    int error = reader_open(&reader, kind, bytes, size);
    unsigned char *page = malloc(truth->rom.page_size);
    uint32_t page_no;

    CHECK(error == PGS_OK || error == PGS_E_NOMEM ||
          (error <= PGS_E_ROM_MAGIC && error >= PGS_E_ROM_CODEC));
    seen.refused += error != PGS_OK;
    if (error == PGS_OK) {
        CHECK_EQ(reader.rom.page_size, truth->rom.page_size);
        CHECK_EQ(reader.rom.page_count, truth->rom.page_count);
    }
    for (page_no = 0; error == PGS_OK && page_no < truth->rom.page_count; page_no++) {
        int page_error;

        if (!touches(truth, range, page_no))
            continue;
        page_error = reader_page(&reader, page_no, page);
        CHECK(page_error == PGS_OK || page_error == PGS_E_CORRUPT ||
              page_error == PGS_E_ROM_ABSENT);
        if (page_error == PGS_OK) {
            CHECK(!truth->pages[page_no].is_absent);
            CHECK_BYTES(page, truth->flat + (size_t)page_no * truth->rom.page_size,
                        truth->rom.page_size);
        }
        seen.pages_right += page_error == PGS_OK;
        seen.pages_refused += page_error != PGS_OK;
    }
    reader_close(&reader);
    free(page);
}

/* Unharmed, every page is right. */
static void read_whole(const struct truth *truth, enum kind kind)
{
    const struct range whole = {0, truth->size};
    uint32_t page_no, absent_count = 0;

    memset(&seen, 0, sizeof(seen));
    for (page_no = 0; page_no < truth->rom.page_count; page_no++)
        absent_count += truth->pages[page_no].is_absent != 0;
    read_damaged(truth, kind, truth->bytes, truth->size, whole);
    CHECK_EQ(seen.refused, 0);
    CHECK_EQ(seen.pages_refused, absent_count);
}

/* -- damage ---------------------------------------------------------------------------- */

static void flip_every_bit(const struct truth *truth, enum kind kind)
{
    unsigned char *bytes = malloc(truth->size); /* so that its end is watched */
    size_t bit;

    memcpy(bytes, truth->bytes, truth->size);
    for (bit = 0; bit < 8 * truth->size; bit++) {
        const struct range range = {bit / 8, bit / 8 + 1};

        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        read_damaged(truth, kind, bytes, truth->size, range);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(bytes);
}

static void cut_off(const struct truth *truth, enum kind kind, struct noise *noise)
{
    size_t size = noise_below(noise, truth->size);
    unsigned char *bytes = malloc(size + (size == 0));
    const struct range range = {0, truth->size};

    memcpy(bytes, truth->bytes, size);
    read_damaged(truth, kind, bytes, size, range);
    free(bytes);
}

/* Either bits, near one another, or a run of bytes; more often a short one. Some
 * in the index on purpose, which is but a small part of the image. */
static struct range change(const struct truth *truth, unsigned char *bytes, struct noise *noise)
{
    size_t index_end = (size_t)(truth->rom.tables[PGS_ROM_DICT_BYTES].at - truth->bytes);
    size_t room = noise_below(noise, 8) == 0 ? index_end : truth->size;
    size_t length = 1 + noise_below(noise, (size_t)1 << noise_below(noise, RUN_MAX_LOG2 + 1));
    struct range range;
    size_t flips;

    length = length < room / 2 ? length : room / 2;
    range.from = noise_below(noise, room - length);
    range.to = range.from + length;
    if (noise_below(noise, 4) == 0) {
        memmove(bytes + range.from, truth->bytes + noise_below(noise, truth->size - length),
                length);
        return range;
    }
    for (flips = 1 + noise_below(noise, FLIPS_MAX); flips != 0; flips--)
        bytes[range.from + noise_below(noise, length)] ^=
            (unsigned char)(1u << noise_below(noise, 8));
    return range;
}

static void damage_at_random(const struct truth *truth, enum kind kind, size_t count,
                             struct noise *noise)
{
    unsigned char *bytes = malloc(truth->size);
    size_t i;

    memcpy(bytes, truth->bytes, truth->size);
    for (i = 0; i < count; i++) {
        struct range range;

        if (i % 50 == 0) {
            cut_off(truth, kind, noise);
            continue;
        }
        range = change(truth, bytes, noise);
        read_damaged(truth, kind, bytes, truth->size, range);
        memcpy(bytes + range.from, truth->bytes + range.from, range.to - range.from);
    }
    free(bytes);
}

int main(int argc, char **argv)
{
    struct truth truth;
    int kind;

    if (argc < 5) {
        fprintf(stderr, "usage: %s ROM FLAT READERS bits|(COUNT SEED)\n", argv[0]);
        return 2;
    }
    truth = learn(argv[1], argv[2]);
    for (kind = 0; kind < KINDS; kind++) {
        if (strstr(argv[3], kind_names[kind]) == NULL)
            continue;
        read_whole(&truth, (enum kind)kind);
        if (argc > 5) {
            struct noise noise = {strtoull(argv[5], NULL, 0)};
            damage_at_random(&truth, (enum kind)kind, strtoull(argv[4], NULL, 0), &noise);
        } else {
            flip_every_bit(&truth, (enum kind)kind);
        }
        printf("%zu images refused, %zu pages right, %zu refused\n", seen.refused,
               seen.pages_right, seen.pages_refused);
    }
    free(truth.bytes);
    free(truth.flat);
    free(truth.pages);
    return 0;
}
