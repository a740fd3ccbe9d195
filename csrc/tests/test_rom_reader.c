/* SPDX-License-Identifier: MIT
 *
 * The host's reader of ROM images, from one thread and from many, and stores
 * whose objects have their pages in ROM.
 */
#include "fake_backing.h"
#include "rom_fixture.h"

enum {
    PAGES = 64,
    PAGE_SHIFT = 12,
    PAGE_SIZE = 1 << PAGE_SHIFT,
    DICT_SIZE = 8192,
    ABSENT_PAGE = 9, /* and every eighth after it but one */
    KIB = 1024
};

static struct rom_fixture fixture;

/* What the pages' bytes are taken from, so that they share some. */
static unsigned char dictionary[DICT_SIZE];

/* A page like code: pieces of the dictionary, calls, and a little noise. */
static void make_page(struct noise *noise, unsigned char *page)
{
    uint32_t at = 0;
    while (at < PAGE_SIZE) {
        uint32_t size = 16 + noise_word(noise) % 64;
        size = size < PAGE_SIZE - at ? size : PAGE_SIZE - at;
        memcpy(page + at, dictionary + noise_below(noise, DICT_SIZE - 80), size);
        page[at] = noise_word(noise) % 2 ? 0xE8 : 0xEB;
        at += size;
    }
}

/* How pages are stored, in turn. */
static const struct way {
    uint32_t codec, filter, dict_no;
} ways[] = {{PGS_CODEC_LZ4, PGS_FILTER_X86, 0},   {PGS_CODEC_ZSTD, PGS_FILTER_ARM, 0},
            {PGS_CODEC_ZSTD, PGS_FILTER_X86, 0},  {PGS_CODEC_RAW, PGS_FILTER_NONE, 255},
            {PGS_CODEC_LZ4, PGS_FILTER_THUMB, 1}, {PGS_CODEC_ZSTD, PGS_FILTER_RISCV, 255},
            {PGS_CODEC_LZ4, PGS_FILTER_NONE, 1},  {PGS_CODEC_ZSTD, PGS_FILTER_ARM64, 1}};
enum { WAYS = sizeof ways / sizeof *ways };

static uint32_t add_slot(const struct way *way, uint32_t coding_no, const unsigned char *page,
                         uint64_t address)
{
    struct pgs_codec_params params = {.struct_size = sizeof params, .codec_id = way->codec,
                                      .level = -1, .filter_id = way->filter,
                                      .page_size = PAGE_SIZE,
                                      .dict_size = way->dict_no == 255 ? 0 : DICT_SIZE,
                                      .dict = dictionary};
    unsigned char coded[PAGE_SIZE];
    pgs_codec *codec;
    pgs_coder *coder;
    size_t size;
    CHECK_EQ(pgs_codec_open(&params, &codec), PGS_OK);
    CHECK_EQ(pgs_coder_open(codec, 1, &coder), PGS_OK);
    CHECK_EQ(pgs_encode(coder, page, address, coded, sizeof coded, &size), PGS_OK);
    CHECK(size > 0);
    pgs_coder_close(coder);
    pgs_codec_close(codec);
    return rom_fixture_add_slot(&fixture, coding_no, coded, (uint32_t)size);
}

/* Page 8 k is a repeated word, page 8 k + 1 (but page 1) left out, the others
 * are coded in turn. */
static void make_rom(void)
{
    struct noise noise = noise_seeded();
    unsigned char page[PAGE_SIZE];
    rom_fixture_init(&fixture, PAGE_SHIFT, 2, 2);
    noise_fill(&noise, dictionary, sizeof dictionary);
    for (uint32_t i = 0; i < DICT_SIZE; i += 64) /* so that it shrinks */
        memset(dictionary + i + 32, (int)i, 32);
    rom_fixture_add_dict(&fixture, PGS_CODEC_RAW, dictionary, DICT_SIZE);
    rom_fixture_add_dict(&fixture, PGS_CODEC_LZ4, dictionary, DICT_SIZE);
    for (uint32_t i = 0; i < WAYS; i++)
        rom_fixture_add_coding(&fixture, ways[i].codec, ways[i].filter, ways[i].dict_no);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t address = fixture.base_address + (uint64_t)i * PAGE_SIZE, word = i * 0x0123456789u;
        if (i % 8 == 0) {
            unsigned char bytes[8];
            rom_store32(bytes, (uint32_t)word);
            rom_store32(bytes + 4, (uint32_t)(word >> 32));
            pgs_fill(page, PAGE_SIZE, word);
            rom_fixture_add_page(&fixture,
                                 0x8000 | rom_fixture_add(&fixture, PGS_ROM_WORDS, bytes, 8), page);
        } else if (i % 8 == 1 && i != 1) {
            rom_fixture_add_page(&fixture, 0xffff, NULL);
        } else {
            make_page(&noise, page);
            uint32_t slot = add_slot(&ways[i % WAYS], i % WAYS, page, address);
            rom_fixture_add_page(&fixture, slot, page);
        }
    }
    rom_fixture_close(&fixture);
}

static pgs_rom_reader *open_reader(uint32_t coder_sets)
{
    pgs_rom_reader *reader;
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size, coder_sets, &reader), PGS_OK);
    return reader;
}

static const unsigned char *expected(uint64_t page_no)
{
    return fixture.pages + page_no * PAGE_SIZE;
}

static void check_page(pgs_rom_reader *reader, uint64_t page_no)
{
    unsigned char page[PAGE_SIZE];
    int error = pgs_rom_reader_pages(reader, &page_no, 1, page, NULL);
    CHECK_EQ(error, fixture.absent[page_no] ? PGS_E_ROM_ABSENT : PGS_OK);
    if (!error)
        CHECK_BYTES(page, expected(page_no), PAGE_SIZE);
}

/* -- the reader --------------------------------------------------------------- */

static void test_every_page(void)
{
    pgs_rom_reader *reader = open_reader(1);
    CHECK_EQ(pgs_rom_reader_rom(reader)->page_count, PAGES);
    CHECK_EQ(pgs_rom_reader_rom(reader)->page_size, PAGE_SIZE);
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(reader, i);
    pgs_rom_reader_close(reader);
}

static void test_batches(void)
{
    static unsigned char out[4 * PAGE_SIZE];
    pgs_rom_reader *reader = open_reader(1);
    const uint64_t page_nos[4] = {2, ABSENT_PAGE, UINT64_C(1) << 32 | 3, 5};
    int32_t statuses[4];
    CHECK_EQ(pgs_rom_reader_pages(reader, page_nos, 4, out, statuses), PGS_E_ROM_ABSENT);
    CHECK(statuses[0] == PGS_OK && statuses[1] == PGS_E_ROM_ABSENT &&
          statuses[2] == PGS_E_RANGE && statuses[3] == PGS_OK);
    CHECK_BYTES(out, expected(2), PAGE_SIZE);
    CHECK_BYTES(out + 3 * PAGE_SIZE, expected(5), PAGE_SIZE);
    memset(out, 0, sizeof out);
    CHECK_EQ(pgs_rom_reader_pages(reader, page_nos, 4, out, NULL), PGS_E_ROM_ABSENT);
    CHECK_BYTES(out, expected(2), PAGE_SIZE);
    CHECK_EQ(out[3 * PAGE_SIZE] | out[3 * PAGE_SIZE + 1], 0);
    CHECK_EQ(pgs_rom_reader_pages(reader, page_nos, 0, out, statuses), PGS_OK);
    pgs_rom_reader_close(reader);
}

static void test_how_pages_are_stored(void)
{
    pgs_rom_reader *reader = open_reader(1);
    uint32_t codec_id, size, total = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        int error = pgs_rom_reader_stored(reader, i, &codec_id, &size);
        CHECK_EQ(error, fixture.absent[i] ? PGS_E_ROM_ABSENT : PGS_OK);
        if (error)
            continue;
        CHECK_EQ(codec_id, i % 8 ? ways[i % WAYS].codec : (uint32_t)PGS_CODEC_SAME);
        CHECK(size == (i % 8 ? size : 8) && size <= PAGE_SIZE);
        total += i % 8 ? size : 0;
    }
    CHECK_EQ(total, fixture.tables[PGS_ROM_DATA].size);
    CHECK_EQ(pgs_rom_reader_stored(reader, PAGES, &codec_id, &size), PGS_E_RANGE);
    pgs_rom_reader_close(reader);
}

static void test_memory(void)
{
    pgs_rom_reader *one = open_reader(1), *three = open_reader(3);
    size_t each = (pgs_rom_reader_memory_bytes(three) - pgs_rom_reader_memory_bytes(one)) / 2;
    /* A set has a window for each codec and dictionary; not for each coding. */
    CHECK(each > 4 * (DICT_SIZE + PAGE_SIZE));
    CHECK(pgs_rom_reader_memory_bytes(one) > each + DICT_SIZE);
    CHECK(pgs_rom_reader_memory_bytes(one) < each + DICT_SIZE + 16 * KIB);
    pgs_rom_reader_close(one);
    pgs_rom_reader_close(three);
    pgs_rom_reader_close(NULL);
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size, 0, &one), PGS_E_INVALID);
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size, PGS_ROM_CODER_SETS_MAX + 1, &one),
             PGS_E_INVALID);
    CHECK(one == NULL);
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size - 70, 1, &one), PGS_E_ROM_TRUNCATED);
}

/* Whatever is damaged, no page is handed out that is not what it was. */
static void test_damage(void)
{
    struct noise noise = noise_seeded();
    unsigned char page[PAGE_SIZE];
    uint32_t opened = 0, refused = 0, from = fixture.header_size + 4;
    for (int round = 0; round < 1500; round++) {
        unsigned char *at = fixture.rom + from + noise_below(&noise, fixture.size - from);
        unsigned char bit = (unsigned char)(1u << noise_below(&noise, 8));
        pgs_rom_reader *reader;
        *at ^= bit;
        if (!pgs_rom_reader_open(fixture.rom, fixture.size, 1, &reader)) {
            opened++;
            for (uint64_t i = noise_below(&noise, 4); i < PAGES; i += 4) {
                if (!pgs_rom_reader_pages(reader, &i, 1, page, NULL))
                    CHECK_BYTES(page, expected(i), PAGE_SIZE);
                else if (!fixture.absent[i])
                    refused++;
            }
        }
        pgs_rom_reader_close(reader);
        *at ^= bit;
    }
    CHECK(opened > 100 && refused > 100);
}

/* Opens the image where its bytes end before a wall, and reads page 0. */
static int open_at_wall(void)
{
    struct guarded rom = guarded_open(fixture.size);
    static unsigned char page[PAGE_SIZE];
    const uint64_t page_no = 0;
    pgs_rom_reader *reader;
    memcpy(rom.bytes, fixture.rom, fixture.size);
    int error = pgs_rom_reader_open(rom.bytes, fixture.size, 1, &reader);
    if (!error)
        error = pgs_rom_reader_pages(reader, &page_no, 1, page, NULL);
    pgs_rom_reader_close(reader);
    guarded_close(&rom);
    return error;
}

/* Codec 1 is never stored. Where an entry names it all the same there may be
 * fewer bytes than the word that it stands for. */
static void test_short_words(void)
{
    static const unsigned char zeros[16];
    unsigned char page[PAGE_SIZE] = {0}, *entry;
    rom_fixture_init(&fixture, PAGE_SHIFT, 2, 2);
    fixture.gap = 0;
    rom_fixture_add_coding(&fixture, PGS_CODEC_SAME, PGS_FILTER_NONE, ROM_NO_DICT);
    rom_fixture_add_page(&fixture, rom_fixture_add_slot(&fixture, 0, zeros, 1), page);
    rom_fixture_close(&fixture);
    CHECK_EQ(open_at_wall(), PGS_E_CORRUPT);

    rom_fixture_init(&fixture, PAGE_SHIFT, 2, 2);
    fixture.gap = 0;
    rom_fixture_add_dict(&fixture, PGS_CODEC_RAW, zeros, sizeof zeros);
    rom_fixture_close(&fixture);
    entry = rom_fixture_table(&fixture, PGS_ROM_DICTS);
    rom_store32(entry + ROM_DICT_CODEC_AT, PGS_CODEC_SAME);
    rom_store32(entry + ROM_DICT_OFFSET_AT, 12);
    rom_store32(entry + ROM_DICT_STORED_SIZE_AT, 4);
    rom_fixture_seal(&fixture);
    CHECK_EQ(open_at_wall(), PGS_E_ROM_DICT);
}

/* A dictionary that claims to be large, and a coding that no slot uses. */
static void test_what_nobody_uses(void)
{
    unsigned char *dict, *coding;
    pgs_rom_reader *reader;
    rom_fixture_add_coding(&fixture, 77, 99, 44);
    rom_fixture_close(&fixture);
    reader = open_reader(1);
    for (uint64_t i = 0; i < PAGES; i++)
        check_page(reader, i);
    pgs_rom_reader_close(reader);

    dict = rom_fixture_table(&fixture, PGS_ROM_DICTS) + ROM_DICT_SIZE;
    rom_store32(dict + ROM_DICT_SIZE_AT, UINT32_C(0xfffffff0));
    rom_fixture_seal(&fixture);
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size, 1, &reader), PGS_E_ROM_DICT);
    rom_store32(dict + ROM_DICT_SIZE_AT, PGS_ROM_DICT_SIZE_MAX); /* it decodes to less */
    rom_fixture_seal(&fixture);
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size, 1, &reader), PGS_E_ROM_DICT);

    coding = rom_fixture_table(&fixture, PGS_ROM_CODINGS) + 2 * ROM_CODING_SIZE;
    rom_fixture_close(&fixture);
    coding[ROM_CODING_CODEC_AT] = 77;
    rom_fixture_seal(&fixture);
    CHECK_EQ(pgs_rom_reader_open(fixture.rom, fixture.size, 1, &reader), PGS_E_ROM_CODEC);
}

struct reading {
    pgs_rom_reader *reader;
    pthread_t thread;
    uint64_t seed;
};

static void *read_many(void *arg)
{
    struct reading *reading = arg;
    struct noise noise = {reading->seed};
    for (int i = 0; i < 1500; i++)
        check_page(reading->reader, noise_below(&noise, PAGES));
    return NULL;
}

/* Fewer sets than threads: they wait for each other. */
static void test_threads(void)
{
    for (uint32_t coder_sets = 1; coder_sets <= 3; coder_sets++) {
        struct reading readings[5];
        pgs_rom_reader *reader = open_reader(coder_sets);
        for (uint64_t i = 0; i < 5; i++) {
            readings[i] = (struct reading){.reader = reader, .seed = 17 + i};
            CHECK_EQ(pthread_create(&readings[i].thread, NULL, read_many, &readings[i]), 0);
        }
        for (int i = 0; i < 5; i++)
            CHECK_EQ(pthread_join(readings[i].thread, NULL), 0);
        pgs_rom_reader_close(reader);
    }
}

/* -- stores over it ----------------------------------------------------------- */

struct rig {
    pgs_rom_reader *reader;
    struct fake rest;
    struct pgs_backing backing;
    pgs_codec *codec;
    pgs_store *store;
    uint32_t object;
};

/* What is left out of the ROM image, where there is something else for it. */
static unsigned char rest_byte(uint64_t page_no, uint32_t at)
{
    return (unsigned char)(page_no * 31 + at / 5);
}

static const unsigned char *in_store(uint64_t page_no)
{
    static unsigned char page[PAGE_SIZE];
    for (uint32_t at = 0; at < PAGE_SIZE; at++)
        page[at] = rest_byte(page_no, at);
    return fixture.absent[page_no] ? page : expected(page_no);
}

static int rig_open(struct rig *rig, uint64_t budget_bytes, int has_rest)
{
    struct pgs_store_params params = {.struct_size = sizeof params, .page_size = PAGE_SIZE,
                                      .budget_bytes = budget_bytes, .pool_percent = 25};
    struct pgs_codec_params codec = {.struct_size = sizeof codec, .page_size = PAGE_SIZE,
                                     .level = -1, .codec_id = PGS_CODEC_LZ4};
    *rig = (struct rig){.reader = open_reader(2)};
    rig->rest = (struct fake){.bytes = calloc(PAGES, PAGE_SIZE), .page_count = PAGES,
                              .page_size = PAGE_SIZE};
    for (uint64_t i = 0; i < PAGES * (uint64_t)PAGE_SIZE; i++)
        rig->rest.bytes[i] = rest_byte(i / PAGE_SIZE, i % PAGE_SIZE);
    struct pgs_backing rest = fake_backing(&rig->rest, 0);
    CHECK_EQ(pgs_backing_rom(rig->reader, has_rest ? &rest : NULL, &rig->backing), PGS_OK);
    CHECK_EQ(pgs_codec_open(&codec, &rig->codec), PGS_OK);
    int error = pgs_store_open(&params, &rig->store);
    return error ? error
                 : pgs_object_add(rig->store, PAGES, fixture.base_address, &rig->backing,
                                  rig->codec, &rig->object);
}

static void rig_close(struct rig *rig)
{
    pgs_store_close(rig->store);
    pgs_codec_close(rig->codec);
    pgs_rom_reader_close(rig->reader);
    free(rig->rest.bytes);
}

static struct pgs_stats rig_stats(const struct rig *rig)
{
    struct pgs_stats stats;
    pgs_store_stats(rig->store, &stats);
    CHECK(stats.used_bytes_max <= stats.budget_bytes);
    return stats;
}

static int rig_read(const struct rig *rig, uint64_t page_no)
{
    unsigned char page[PAGE_SIZE];
    int error = pgs_read_page(rig->store, rig->object, page_no, 0, page);
    if (!error)
        CHECK_BYTES(page, in_store(page_no), PAGE_SIZE);
    return error;
}

static void test_store_and_rest(void)
{
    struct rig rig;
    CHECK_EQ(rig_open(&rig, 2048 * KIB, 1), PGS_OK);
    CHECK_EQ(rig.rest.page_ins, PAGES / 8 - 1); /* learnt; pages in ROM are not read */
    CHECK_EQ(rig_stats(&rig).same_pages, PAGES / 8);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_EQ(rig_read(&rig, i), PGS_OK);
    struct pgs_stats stats = rig_stats(&rig);
    CHECK_EQ(stats.faults[PGS_SOURCE_SAME], PAGES / 8);
    CHECK_EQ(stats.faults[PGS_SOURCE_BACKING], PAGES / 8 - 1);
    CHECK_EQ(stats.faults[PGS_SOURCE_ROM], PAGES - PAGES / 8 - (PAGES / 8 - 1));
    CHECK_EQ(stats.fault_bytes[PGS_SOURCE_ROM], fixture.tables[PGS_ROM_DATA].size);
    rig_close(&rig);
    CHECK_EQ(rig.rest.closes, 1);
}

struct storing {
    struct rig *rig;
    pthread_t thread;
    uint64_t seed;
};

static void *store_many(void *arg)
{
    struct storing *storing = arg;
    struct noise noise = {storing->seed};
    unsigned char page[PAGE_SIZE];
    for (int i = 0; i < 1500; i++) {
        uint64_t at = noise_below(&noise, PAGES);
        if (fixture.absent[at])
            continue;
        CHECK_EQ(pgs_read_page(storing->rig->store, storing->rig->object, at, 0, page), PGS_OK);
        CHECK_BYTES(page, expected(at), PAGE_SIZE);
        if (i % 3 == 0)
            pgs_discard(storing->rig->store, storing->rig->object, &at, 1, NULL);
    }
    return NULL;
}

/* Several threads are the first to ask for a page at the same time. */
static void test_store_from_threads(void)
{
    struct rig rig;
    struct storing storings[4];
    CHECK_EQ(rig_open(&rig, 1152 * KIB, 1), PGS_OK);
    for (uint64_t i = 0; i < 4; i++) {
        storings[i] = (struct storing){.rig = &rig, .seed = 23 + i};
        CHECK_EQ(pthread_create(&storings[i].thread, NULL, store_many, &storings[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        CHECK_EQ(pthread_join(storings[i].thread, NULL), 0);
    CHECK(rig_stats(&rig).faults[PGS_SOURCE_ROM] > PAGES);
    CHECK_EQ(rig_stats(&rig).corrupt, 0);
    rig_close(&rig);
}

static void test_left_out_pages_alone_fail(void)
{
    struct rig rig;
    CHECK_EQ(rig_open(&rig, 2048 * KIB, 0), PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_EQ(rig_read(&rig, i), fixture.absent[i] ? PGS_E_ROM_ABSENT : PGS_OK);
    rig_close(&rig);
}

/* Its memory is metadata as long as the object is there, and must fit. */
static void test_budget(void)
{
    struct rig rig;
    uint32_t object;
    CHECK_EQ(rig_open(&rig, 2048 * KIB, 1), PGS_OK);
    uint64_t before = rig_stats(&rig).metadata_bytes;
    uint64_t each = pgs_rom_reader_memory_bytes(rig.reader);
    struct pgs_backing again;
    CHECK_EQ(pgs_backing_rom(rig.reader, NULL, &again), PGS_OK);
    CHECK_EQ(pgs_object_add(rig.store, PAGES, 0, &again, rig.codec, &object), PGS_OK);
    CHECK(rig_stats(&rig).metadata_bytes >= before + each);
    CHECK_EQ(pgs_object_remove(rig.store, object), PGS_OK);
    CHECK_EQ(rig_stats(&rig).metadata_bytes, before);
    rig_close(&rig);

    CHECK_EQ(rig_open(&rig, before - each / 2, 1), PGS_E_BUDGET);
    rig.backing.close(rig.backing.ctx);
    rig_close(&rig);
    CHECK_EQ(rig.rest.closes, 1);
}

/* Where the bytes of a page that is stored raw are. */
static unsigned char *in_rom(uint64_t page_no)
{
    unsigned char *at = rom_fixture_table(&fixture, PGS_ROM_DATA);
    unsigned char *end = at + fixture.tables[PGS_ROM_DATA].size - PAGE_SIZE;
    while (at < end && memcmp(at, expected(page_no), PAGE_SIZE) != 0)
        at++;
    return at;
}

/* What was read once must come again: even where the image's own checksum is
 * made to fit. A page never read is what the image says when it is read. */
static void test_rom_changes_under_a_store(void)
{
    struct rig rig;
    CHECK_EQ(rig_open(&rig, 2048 * KIB, 1), PGS_OK);
    const uint64_t raw = 3, seen_page = raw, other = raw + WAYS;
    uint32_t codec_id, size;
    CHECK_EQ(pgs_rom_reader_stored(rig.reader, raw, &codec_id, &size), PGS_OK);
    CHECK_EQ(codec_id, PGS_CODEC_RAW);
    CHECK_EQ(rig_read(&rig, seen_page), PGS_OK);
    CHECK_EQ(pgs_discard(rig.store, rig.object, &seen_page, 1, NULL), PGS_OK);
    for (uint64_t i = raw; i <= other; i += WAYS) {
        unsigned char *page = in_rom(i);
        CHECK_BYTES(page, expected(i), PAGE_SIZE);
        page[100] ^= 1;
        fixture.pages[i * PAGE_SIZE + 100] ^= 1;
        CHECK_EQ(rig_read(&rig, i), PGS_E_CORRUPT);
        rom_store32(rom_fixture_table(&fixture, PGS_ROM_CHECKSUMS) + 4 * i,
                    pgs_xxh32(page, PAGE_SIZE, (uint32_t)i));
    }
    CHECK_EQ(rig_read(&rig, seen_page), PGS_E_CORRUPT);
    CHECK_EQ(rig_read(&rig, other), PGS_OK);
    CHECK_EQ(rig_stats(&rig).corrupt, 3);
    rig_close(&rig);
}

/* A page that was written before it was read is dirty, whatever it holds. */
static void test_written_before_read(void)
{
    struct rig rig;
    const uint64_t at = 4;
    CHECK_EQ(rig_open(&rig, 2048 * KIB, 1), PGS_OK);
    CHECK_EQ(pgs_write(rig.store, rig.object, &at, 1, expected(at + 1), NULL), PGS_OK);
    CHECK_EQ(pgs_discard(rig.store, rig.object, &at, 1, NULL), PGS_E_DIRTY);
    CHECK_EQ(pgs_page_out(rig.store, rig.object, &at, 1, NULL), PGS_OK);
    CHECK_EQ(pgs_discard(rig.store, rig.object, &at, 1, NULL), PGS_E_DIRTY);
    unsigned char page[PAGE_SIZE];
    CHECK_EQ(pgs_read_page(rig.store, rig.object, at, 0, page), PGS_OK);
    CHECK_BYTES(page, expected(at + 1), PAGE_SIZE);
    rig_close(&rig);
}

static void test_scratch_above(void)
{
    struct rig rig;
    struct pgs_backing over;
    char path[] = "/tmp/pagestep-test-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    unlink(path);
    CHECK_EQ(rig_open(&rig, 2048 * KIB, 1), PGS_OK);
    CHECK_EQ(pgs_object_remove(rig.store, rig.object), PGS_OK);
    struct pgs_backing rest = fake_backing(&rig.rest, 0);
    CHECK_EQ(pgs_backing_rom(rig.reader, &rest, &rig.backing), PGS_OK);
    CHECK_EQ(pgs_backing_scratch(&rig.backing, fd, PAGES, PAGE_SIZE, &over), PGS_OK);
    close(fd);
    CHECK(over.memory_bytes(over.ctx) >= pgs_rom_reader_memory_bytes(rig.reader));
    for (uint64_t i = 0; i < PAGES; i++) {
        unsigned char page[PAGE_SIZE], changed[PAGE_SIZE];
        uint32_t size = PAGE_SIZE;
        uint32_t source = fixture.absent[i] ? PGS_SOURCE_BACKING
                          : i % 8           ? PGS_SOURCE_ROM
                                            : PGS_SOURCE_SAME;
        CHECK_EQ(over.source(over.ctx, i, &size), source);
        memcpy(changed, in_store(i), PAGE_SIZE);
        changed[1] ^= 1;
        CHECK_EQ(over.page_out(over.ctx, i, changed), PGS_OK);
        CHECK_EQ(over.source(over.ctx, i, &size), PGS_SOURCE_BACKING);
        CHECK_EQ(over.page_in(over.ctx, i, page), PGS_OK);
        CHECK_BYTES(page, changed, PAGE_SIZE);
    }
    over.close(over.ctx);
    rig_close(&rig);
}

int main(void)
{
    make_rom();
    RUN(test_every_page);
    RUN(test_batches);
    RUN(test_how_pages_are_stored);
    RUN(test_memory);
    RUN(test_damage);
    RUN(test_threads);
    RUN(test_store_and_rest);
    RUN(test_store_from_threads);
    RUN(test_left_out_pages_alone_fail);
    RUN(test_budget);
    RUN(test_written_before_read);
    RUN(test_scratch_above);
    RUN(test_rom_changes_under_a_store);
    make_rom();
    RUN(test_what_nobody_uses);
    RUN(test_short_words);
    return 0;
}
