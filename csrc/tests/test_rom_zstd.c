/* SPDX-License-Identifier: MIT
 *
 * The freestanding reader with libzstd's decoder: pages and dictionaries, the
 * RAM that it takes, and bytes that are no frame.
 */
#define ZSTD_STATIC_LINKING_ONLY /* magicless frames */
#include "rom_fixture.h"

#include "pagestep/codec.h"
#include "pagestep/rom_zstd.h"

#include <zdict.h>
#include <zstd.h>

enum {
    PAGE_SHIFT = 12,
    PAGE_SIZE = 1 << PAGE_SHIFT,
    PAGES = 60,
    CONTENT_SIZE = 4096,
    DICT_SIZE_MAX = 8192,
    SAMPLES = 64,
    LARGE = PGS_ROM_DICT_SIZE_MAX,
    DICTS = 3,
    DIGESTS = 2 /* of dictionaries 1 and 2 */
};

static struct rom_fixture f;
static unsigned char ram[4 * DICT_SIZE_MAX];

/* 0 is content only, stored raw; 1 has tables, stored raw; 2 has tables, and is
 * stored as a frame. */
static struct {
    unsigned char bytes[DICT_SIZE_MAX];
    size_t size;
} dicts[DICTS];

/* Words of one image's own, so that each dictionary helps its pages alone. */
static void make_bytes(struct noise *noise, uint64_t kind, unsigned char *bytes, size_t size)
{
    struct noise words = {kind + 1};
    unsigned char common[1024];
    size_t at;

    noise_fill(&words, common, sizeof(common));
    for (at = 0; at + 16 <= size; at += 16) {
        memcpy(bytes + at, common + noise_below(noise, sizeof(common) - 16), 16);
        bytes[at] = noise_word(noise) % 2 ? 0xe8 : (unsigned char)noise_word(noise);
    }
}

/* One frame as the format has it, by libzstd. */
static size_t make_frame(const void *dict, size_t dict_size, const void *from, size_t size,
                         void *to, size_t cap)
{
    ZSTD_CCtx *cctx = ZSTD_createCCtx();
    size_t packed_size;

    ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, 19);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_format, ZSTD_f_zstd1_magicless);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(cctx, ZSTD_c_dictIDFlag, 0);
    ZSTD_CCtx_loadDictionary(cctx, dict, dict_size);
    packed_size = ZSTD_compress2(cctx, to, cap, from, size);
    ZSTD_freeCCtx(cctx);
    CHECK(!ZSTD_isError(packed_size));
    return packed_size;
}

static void make_dicts(struct noise *noise)
{
    static unsigned char content[CONTENT_SIZE], samples[SAMPLES * PAGE_SIZE];
    const ZDICT_params_t params = {.compressionLevel = 19, .dictID = 1};
    size_t sizes[SAMPLES], i;

    for (i = 0; i < SAMPLES; i++)
        sizes[i] = PAGE_SIZE;
    for (i = 0; i < DICTS; i++) {
        make_bytes(noise, i, content, sizeof(content));
        make_bytes(noise, i, samples, sizeof(samples));
        memcpy(dicts[i].bytes, content, sizeof(content));
        dicts[i].size = sizeof(content);
        if (i == 0)
            continue;
        /* One that is stored as a frame has a checksum, and so a multiple of 16. */
        dicts[i].size = ZDICT_finalizeDictionary(dicts[i].bytes, DICT_SIZE_MAX, content,
                                                 sizeof(content), samples, sizes, SAMPLES, params);
        CHECK(!ZDICT_isError(dicts[i].size));
        dicts[i].size -= dicts[i].size % ROM_CHECKSUM_STRIDE;
    }
}

static uint32_t add_coded(uint32_t coding_no, uint32_t dict_no, uint32_t filter,
                          const unsigned char *page)
{
    static unsigned char filtered[PAGE_SIZE], packed[2 * PAGE_SIZE];
    size_t packed_size;

    memcpy(filtered, page, PAGE_SIZE);
    CHECK_EQ(pgs_filter_apply(filter, filtered, PAGE_SIZE,
                              f.base_address + (uint64_t)f.page_count * PAGE_SIZE), PGS_OK);
    if (dict_no == ROM_NO_DICT)
        packed_size = make_frame(NULL, 0, filtered, PAGE_SIZE, packed, sizeof(packed));
    else
        packed_size = make_frame(dicts[dict_no].bytes, dicts[dict_no].size, filtered, PAGE_SIZE,
                                 packed, sizeof(packed));
    CHECK(packed_size < PAGE_SIZE);
    return rom_fixture_add_slot(&f, coding_no, packed, (uint32_t)packed_size);
}

/* Coding n has dictionary n; 3 has none, 4 dictionary 1 again and a filter, 5
 * is raw. */
static void make_image(void)
{
    static unsigned char page[PAGE_SIZE], packed[2 * DICT_SIZE_MAX];
    struct noise noise = {1};
    uint32_t i;

    make_dicts(&noise);
    rom_fixture_init(&f, PAGE_SHIFT, 2, 2);
    for (i = 0; i < DICTS; i++) {
        rom_fixture_add_coding(&f, PGS_CODEC_ZSTD, PGS_FILTER_NONE, i);
        if (i < 2)
            rom_fixture_add_dict(&f, PGS_CODEC_RAW, dicts[i].bytes, (uint32_t)dicts[i].size);
    }
    rom_fixture_add_packed_dict(
        &f, PGS_CODEC_ZSTD, dicts[2].bytes, (uint32_t)dicts[2].size, packed,
        make_frame(NULL, 0, dicts[2].bytes, dicts[2].size, packed, sizeof(packed)));
    rom_fixture_add_coding(&f, PGS_CODEC_ZSTD, PGS_FILTER_NONE, ROM_NO_DICT);
    rom_fixture_add_coding(&f, PGS_CODEC_ZSTD, PGS_FILTER_X86, 1);
    rom_fixture_add_coding(&f, PGS_CODEC_RAW, PGS_FILTER_NONE, ROM_NO_DICT);
    for (i = 0; i < PAGES; i++) {
        static const uint32_t dict_nos[] = {0, 1, 2, ROM_NO_DICT, 1};
        uint32_t coding_no = i % 6, slot;

        make_bytes(&noise, coding_no == 4 ? 1 : coding_no, page, PAGE_SIZE);
        slot = coding_no == 5
                   ? rom_fixture_add_slot(&f, coding_no, page, PAGE_SIZE)
                   : add_coded(coding_no, dict_nos[coding_no],
                               coding_no == 4 ? PGS_FILTER_X86 : PGS_FILTER_NONE, page);
        rom_fixture_add_page(&f, slot, page);
    }
    rom_fixture_close(&f);
}

/* -- a reader with its decoder, in RAM that ends before a wall ---------------------- */

struct reading {
    struct guarded ram;
    struct pgs_rom_zstd zstd;
    struct pgs_rom_kit kit;
    struct pgs_rom rom;
};

static void decoder_open(struct reading *reading, size_t ram_size)
{
    reading->ram = guarded_open(ram_size);
    CHECK_EQ(pgs_rom_zstd_init(&reading->zstd, reading->ram.bytes, ram_size), PGS_OK);
    reading->kit = pgs_rom_kit_small;
    reading->kit.ctx = &reading->zstd;
    reading->kit.decode[PGS_CODEC_ZSTD] = pgs_rom_zstd_decode;
}

static void reading_open(struct reading *reading, size_t ram_size)
{
    decoder_open(reading, ram_size);
    CHECK_EQ(pgs_rom_open(f.rom, f.size, &reading->kit, ram, sizeof(ram), &reading->rom), PGS_OK);
}

static void reading_close(struct reading *reading)
{
    guarded_close(&reading->ram);
}

/* Of pages whose dictionary is the one that is broken none can be read. */
static void check_pages(const struct reading *reading, uint32_t broken_dict_no)
{
    struct guarded out = guarded_open(PAGE_SIZE);
    uint32_t i;

    for (i = 0; i < PAGES; i++) {
        int is_broken = broken_dict_no != ROM_NO_DICT &&
                        (i % 6 == broken_dict_no || (i % 6 == 4 && broken_dict_no == 1));

        memset(out.bytes, 0, PAGE_SIZE);
        CHECK_EQ(pgs_rom_page(&reading->rom, i, out.bytes), is_broken ? PGS_E_CORRUPT : PGS_OK);
        if (!is_broken)
            CHECK_BYTES(out.bytes, f.pages + (size_t)i * PAGE_SIZE, PAGE_SIZE);
    }
    guarded_close(&out);
}

/* -- pages and RAM ------------------------------------------------------------------- */

/* With and without digests, and with room for less than there is to digest. */
static void test_reads_every_page(void)
{
    uint32_t room;

    make_image();
    for (room = 0; room <= PGS_ROM_DICT_COUNT_MAX; room++) {
        struct reading reading;

        reading_open(&reading, pgs_rom_zstd_ram_size(room));
        check_pages(&reading, ROM_NO_DICT);
        CHECK_EQ(pgs_rom_zstd_digest(&reading.zstd, &reading.rom),
                 room < DIGESTS ? PGS_E_NOMEM : PGS_OK);
        CHECK_EQ(reading.zstd.digest_count, room < DIGESTS ? room : (uint32_t)DIGESTS);
        check_pages(&reading, ROM_NO_DICT);
        reading_close(&reading);
    }
}

/* A digest is what pages are read by: where its dictionary is another one, they
 * are wrong. */
static void test_digests_are_used(void)
{
    struct reading reading;
    static unsigned char page[PAGE_SIZE];

    make_image();
    reading_open(&reading, pgs_rom_zstd_ram_size(DIGESTS));
    CHECK_EQ(pgs_rom_zstd_digest(&reading.zstd, &reading.rom), PGS_OK);
    reading.zstd.digests[0] = reading.zstd.digests[1];
    CHECK_EQ(pgs_rom_page(&reading.rom, 1, page), PGS_E_CORRUPT);
    CHECK_EQ(pgs_rom_page(&reading.rom, 2, page), PGS_OK);
    CHECK_EQ(pgs_rom_zstd_digest(&reading.zstd, &reading.rom), PGS_OK); /* begins anew */
    check_pages(&reading, ROM_NO_DICT);
    reading_close(&reading);
}

static void test_ram_too_small(void)
{
    size_t least = pgs_rom_zstd_ram_size(0), each = pgs_rom_zstd_ram_size(1) - least;
    struct guarded room = guarded_open(least);
    struct pgs_rom_zstd zstd;
    struct reading reading;

    CHECK_EQ(pgs_rom_zstd_ram_size(4), least + 4 * each);
    CHECK(least > 1 << 14 && each > 1 << 12 && each % 8 == 0);
    CHECK_EQ(pgs_rom_zstd_init(&zstd, room.bytes, least), PGS_OK);
    CHECK_EQ(pgs_rom_zstd_init(&zstd, room.bytes, least - 1), PGS_E_NOMEM);
    CHECK_EQ(pgs_rom_zstd_init(&zstd, room.bytes, 0), PGS_E_NOMEM);
    CHECK_EQ(pgs_rom_zstd_init(&zstd, room.bytes - 4, least), PGS_E_INVALID);
    guarded_close(&room);

    make_image();
    reading_open(&reading, pgs_rom_zstd_ram_size(DIGESTS));
    CHECK_EQ(pgs_rom_zstd_init(&reading.zstd, reading.ram.bytes,
                               pgs_rom_zstd_ram_size(DIGESTS) - 1), PGS_OK);
    CHECK_EQ(pgs_rom_zstd_digest(&reading.zstd, &reading.rom), PGS_E_NOMEM);
    check_pages(&reading, ROM_NO_DICT);
    reading_close(&reading);
}

/* -- dictionaries -------------------------------------------------------------------- */

/* As large as any may be, so that its frame has many blocks. */
static void test_largest_dictionary(void)
{
    static unsigned char dict[LARGE], packed[2 * LARGE], large_ram[LARGE];
    struct noise noise = {3};
    struct reading reading;
    size_t packed_size;

    make_bytes(&noise, 7, dict, sizeof(dict));
    memset(dict + LARGE / 4, 0, LARGE / 2); /* so that a fixture's table holds it */
    packed_size = make_frame(NULL, 0, dict, sizeof(dict), packed, sizeof(packed));
    rom_fixture_init(&f, PAGE_SHIFT, 2, 2);
    rom_fixture_add_packed_dict(&f, PGS_CODEC_ZSTD, dict, sizeof(dict), packed, packed_size);
    rom_fixture_close(&f);
    decoder_open(&reading, pgs_rom_zstd_ram_size(0));
    CHECK_EQ(pgs_rom_open(f.rom, f.size, &reading.kit, large_ram, sizeof(large_ram), &reading.rom),
             PGS_OK);
    CHECK_BYTES(reading.rom.dicts[0].bytes, dict, sizeof(dict));
    CHECK_EQ(pgs_rom_open(f.rom, f.size, &reading.kit, large_ram, sizeof(large_ram) - 1,
                          &reading.rom), PGS_E_NOMEM);
    rom_fixture_table(&f, PGS_ROM_DICT_BYTES)[packed_size / 2] ^= 1;
    CHECK_EQ(pgs_rom_open(f.rom, f.size, &reading.kit, large_ram, sizeof(large_ram), &reading.rom),
             PGS_E_ROM_DICT);
    reading_close(&reading);
}

/* Tables that are none: found when they are digested, else by each page. */
static void test_broken_tables(void)
{
    struct reading reading;

    make_image();
    memset(rom_fixture_table(&f, PGS_ROM_DICT_BYTES) + dicts[0].size + 8, 0xff, 32);
    reading_open(&reading, pgs_rom_zstd_ram_size(DIGESTS));
    check_pages(&reading, 1);
    CHECK_EQ(pgs_rom_zstd_digest(&reading.zstd, &reading.rom), PGS_E_ROM_DICT);
    check_pages(&reading, 1);
    reading_close(&reading);
}

/* Two that begin at the same byte, and a coding that nobody uses. */
static void test_dictionaries_of_one_beginning(void)
{
    struct reading reading;
    unsigned char *entry;

    make_image();
    rom_fixture_add_coding(&f, PGS_CODEC_ZSTD, PGS_FILTER_NONE, 44);
    rom_fixture_close(&f);
    entry = rom_fixture_table(&f, PGS_ROM_DICTS);
    rom_store32(entry + ROM_DICT_OFFSET_AT, (uint32_t)dicts[0].size);
    rom_store32(entry + ROM_DICT_STORED_SIZE_AT, (uint32_t)dicts[1].size - 512);
    rom_store32(entry + ROM_DICT_SIZE_AT, (uint32_t)dicts[1].size - 512);
    rom_fixture_seal(&f);
    reading_open(&reading, pgs_rom_zstd_ram_size(DIGESTS + 1));
    CHECK_EQ(pgs_rom_zstd_digest(&reading.zstd, &reading.rom), PGS_OK);
    CHECK_EQ(reading.zstd.digest_count, DIGESTS + 1);
    check_pages(&reading, 0);
    reading_close(&reading);
}

/* -- bytes that are no frame --------------------------------------------------------- */

/* Decodes bytes that end before a wall to `out_size` bytes that do. */
static int decode_at_wall(struct reading *reading, const unsigned char *src, size_t src_size,
                          size_t out_size)
{
    const struct pgs_rom_dict dict = {dicts[1].bytes, (uint32_t)dicts[1].size};
    struct guarded in = guarded_open(src_size), out = guarded_open(out_size);
    int error;

    memcpy(in.bytes, src, src_size);
    error = pgs_rom_zstd_decode(&reading->zstd, 0, in.bytes, src_size, &dict, out.bytes, out_size);
    guarded_close(&in);
    guarded_close(&out);
    return error;
}

static void test_not_one_frame(void)
{
    static unsigned char page[PAGE_SIZE], frame[2 * PAGE_SIZE];
    struct noise noise = {5};
    struct reading reading;
    size_t size, cut;

    make_dicts(&noise);
    make_bytes(&noise, 1, page, PAGE_SIZE);
    size = make_frame(dicts[1].bytes, dicts[1].size, page, PAGE_SIZE, frame, PAGE_SIZE);
    decoder_open(&reading, pgs_rom_zstd_ram_size(0));
    CHECK_EQ(decode_at_wall(&reading, frame, size, PAGE_SIZE), PGS_OK);
    CHECK_EQ(decode_at_wall(&reading, frame, size, PAGE_SIZE - 1), PGS_E_CORRUPT);
    CHECK_EQ(decode_at_wall(&reading, frame, size, PAGE_SIZE + 1), PGS_E_CORRUPT);
    for (cut = 0; cut < size; cut++)
        CHECK_EQ(decode_at_wall(&reading, frame, cut, PAGE_SIZE), PGS_E_CORRUPT);
    for (cut = 1; cut <= 8; cut++) /* what stands behind it */
        CHECK_EQ(decode_at_wall(&reading, frame, size + cut, PAGE_SIZE), PGS_E_CORRUPT);
    memcpy(frame + size, frame, size); /* two frames */
    CHECK_EQ(decode_at_wall(&reading, frame, 2 * size, 2 * PAGE_SIZE), PGS_E_CORRUPT);
    memcpy(frame + size, "\x50\x2a\x4d\x18\0\0\0\0", 8); /* one that is to be skipped */
    CHECK_EQ(decode_at_wall(&reading, frame, size + 8, PAGE_SIZE), PGS_E_CORRUPT);
    reading_close(&reading);
}

/* A frame that libzstd takes: one segment, with its size where ours have the
 * window's. The format has none such. */
static void test_frame_with_its_size(void)
{
    static const unsigned char frame[] = {0x20, 5, 0x29, 0, 0, 'p', 'a', 'g', 'e', 's'};
    struct reading reading;
    unsigned char page[5];

    decoder_open(&reading, pgs_rom_zstd_ram_size(0));
    CHECK_EQ(ZSTD_decompressDCtx(reading.zstd.decoder, page, 5, frame, sizeof(frame)), 5);
    CHECK_BYTES(page, "pages", 5);
    CHECK_EQ(decode_at_wall(&reading, frame, sizeof(frame), 5), PGS_E_CORRUPT);
    reading_close(&reading);
}

/* Any bytes, and frames with bits flipped: bounded by both walls. */
static void test_hostile_bytes(void)
{
    static unsigned char page[PAGE_SIZE], frame[PAGE_SIZE], bytes[PAGE_SIZE];
    struct noise noise = noise_seeded();
    struct reading reading;
    size_t size, i, refused = 0;

    make_dicts(&noise);
    make_bytes(&noise, 1, page, PAGE_SIZE);
    size = make_frame(dicts[1].bytes, dicts[1].size, page, PAGE_SIZE, frame, PAGE_SIZE);
    decoder_open(&reading, pgs_rom_zstd_ram_size(0));
    for (i = 0; i < 4000; i++) {
        size_t length = i % 2 ? size : noise_below(&noise, 16), flips = 1 + noise_below(&noise, 4);
        int error;

        noise_fill(&noise, bytes, 16);
        bytes[0] = 0;
        if (i % 2)
            memcpy(bytes, frame, size);
        for (; flips != 0; flips--)
            bytes[noise_below(&noise, size)] ^= (unsigned char)(1u << noise_below(&noise, 8));
        error = decode_at_wall(&reading, bytes, length, PAGE_SIZE);
        CHECK(error == PGS_OK || error == PGS_E_CORRUPT);
        refused += error != PGS_OK;
    }
    CHECK(refused > 2000);
    CHECK_EQ(decode_at_wall(&reading, frame, size, PAGE_SIZE), PGS_OK); /* as if nothing had been */
    reading_close(&reading);
}

int main(void)
{
    RUN(test_reads_every_page);
    RUN(test_digests_are_used);
    RUN(test_ram_too_small);
    RUN(test_largest_dictionary);
    RUN(test_broken_tables);
    RUN(test_dictionaries_of_one_beginning);
    RUN(test_not_one_frame);
    RUN(test_frame_with_its_size);
    RUN(test_hostile_bytes);
    return 0;
}
