/* SPDX-License-Identifier: MIT
 *
 * The ROM reader's parts, each against another: checksum and hash against
 * vectors of other implementations, LZ4 against liblz4, filters against the
 * core's, the tree against RFC 6962's own words.
 */
#include "branches.h"
#include "rom_fixture.h"

#include "pagestep/codec.h"

enum { PAGE_MAX = 65536, DICT_MAX = 70000, PACKED_MAX = PAGE_MAX + PAGE_MAX / 255 + 16 };

/* The bytes that the vectors below are of. */
static void fill_ramp(unsigned char *bytes, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i * 7 + 3);
}

/* Made with libxxhash. */
static void test_xxh32(void)
{
    static const struct {
        uint32_t size, seed, hash;
    } vectors[] = {
        {16, 0, 0x8845547d},    {16, 1, 0xb9de69c0},    {16, UINT32_MAX, 0xe84813cf},
        {32, 0, 0xe988ccb7},    {32, 1, 0x7e2d2f82},    {32, UINT32_MAX, 0xd38f34b0},
        {48, 0, 0x28670c90},    {48, 1, 0xc4069aee},    {48, UINT32_MAX, 0x4451bdaf},
        {64, 0, 0xecd2ac44},    {64, 1, 0x9f399169},    {64, UINT32_MAX, 0xb8c0ba1e},
        {512, 0, 0x7dd9ef33},   {512, 1, 0x46f1ddfa},   {512, UINT32_MAX, 0x12c68d51},
        {4096, 0, 0x4e81883c},  {4096, 1, 0xed20b56c},  {4096, UINT32_MAX, 0x5cc4b6f2},
        {65536, 0, 0x10554e0d}, {65536, 1, 0xe9a89366}, {65536, UINT32_MAX, 0xe59627d0},
    };
    size_t i, shift;

    for (i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        for (shift = 0; shift < 4; shift++) { /* at any alignment, and not a byte more */
            struct guarded bytes = guarded_open_at(vectors[i].size + shift, shift == 0);
            fill_ramp(bytes.bytes + shift, vectors[i].size);
            CHECK_EQ(pgs_xxh32(bytes.bytes + shift, vectors[i].size, vectors[i].seed),
                     vectors[i].hash);
            guarded_close(&bytes);
        }
    }
}

static void sha256_is(const void *bytes, size_t size, size_t piece, const char *hex)
{
    const unsigned char *at = bytes;
    unsigned char digest[32];
    struct pgs_sha256 sha;
    char text[65];
    size_t i;

    pgs_sha256_init(&sha);
    for (i = 0; i < size; i += piece)
        pgs_sha256_add(&sha, at + i, size - i < piece ? size - i : piece);
    pgs_sha256_end(&sha, digest);
    for (i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    CHECK_BYTES(text, hex, strlen(hex));
}

/* Those of FIPS 180-4, and beginnings of others around the ends of blocks. */
static void test_sha256(void)
{
    static const struct {
        size_t size;
        const char *hex;
    } ramps[] = {
        {55, "e7313d333c272e63"},  {56, "4324d65f3c103567"},  {63, "81c80242132f230c"},
        {64, "39e3d7b6b5d075d3"},  {65, "aacca6ff74fdbb29"},  {119, "9ce7368e4daf3234"},
        {120, "7836b787757e95e5"}, {1000, "1e9bc38cbf860b9e"},
    };
    static unsigned char bytes[1000000];
    size_t i, piece;

    sha256_is("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_is("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 56,
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(bytes, 'a', sizeof(bytes));
    sha256_is(bytes, sizeof(bytes), 4096,
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    fill_ramp(bytes, 1000);
    for (i = 0; i < sizeof(ramps) / sizeof(ramps[0]); i++)
        for (piece = 1; piece <= 130; piece++)
            sha256_is(bytes, ramps[i].size, piece, ramps[i].hex);
}

/* More bits than 32 can count: as if 2^29 bytes were hashed, whose state is
 * that of none. */
static void test_sha256_of_much(void)
{
    static const unsigned char last_block[64] = {[0] = 0x80, [59] = 1};
    unsigned char digest[32];
    struct pgs_sha256 sha, by_hand;
    size_t i;

    pgs_sha256_init(&sha);
    sha.size = UINT64_C(1) << 29;
    pgs_sha256_end(&sha, digest);
    pgs_sha256_init(&by_hand);
    pgs_sha256_add(&by_hand, last_block, sizeof(last_block));
    for (i = 0; i < 32; i++)
        CHECK_EQ(digest[i], by_hand.state[i / 4] >> (24 - 8 * (i % 4)) & 255);
}

/* -- LZ4 ------------------------------------------------------------------------------- */

/* Content of four kinds: noise, one byte, short phrases, phrases with noise. */
static void make_content(struct noise *noise, unsigned kind, unsigned char *bytes, size_t size)
{
    unsigned char phrases[16][24];
    struct noise fixed = {4711}; /* dictionary and pages share their phrases */
    size_t at, length;

    noise_fill(&fixed, phrases, sizeof(phrases));
    noise_fill(noise, bytes, size);
    if (kind == 1)
        memset(bytes, 0x90, size);
    for (at = 0; kind >= 2 && at < size; at += length) {
        length = 1 + noise_below(noise, 24);
        length = length < size - at ? length : size - at;
        if (kind == 2 || noise_below(noise, 3) != 0)
            memcpy(bytes + at, phrases[noise_below(noise, 16)], length);
    }
}

/* Decodes where memory ends, or begins, with input, dictionary and output. */
static int decode_walled(int at_end, const unsigned char *src, size_t src_size,
                         const unsigned char *dict, size_t dict_size, unsigned char *page,
                         size_t page_size)
{
    struct guarded from = guarded_open_at(src_size, at_end);
    struct guarded before = guarded_open_at(dict_size, at_end);
    struct guarded out = guarded_open_at(page_size, at_end);
    struct pgs_rom_dict of = {before.bytes, (uint32_t)dict_size};
    int error;

    if (src_size != 0)
        memcpy(from.bytes, src, src_size);
    if (dict_size != 0)
        memcpy(before.bytes, dict, dict_size);
    error = pgs_rom_lz4_decode(NULL, 0, from.bytes, src_size, dict_size != 0 ? &of : NULL,
                               out.bytes, page_size);
    CHECK(error == PGS_OK || error == PGS_E_CORRUPT);
    memcpy(page, out.bytes, page_size);
    guarded_close(&from);
    guarded_close(&before);
    guarded_close(&out);
    return error;
}

static unsigned char dict[DICT_MAX], page[PAGE_MAX], packed[PACKED_MAX], out[PAGE_MAX];

static void test_lz4_reads_what_liblz4_wrote(void)
{
    static const size_t dict_sizes[] = {0, 1, 15, 1000, 65535, 65536, DICT_MAX};
    struct noise noise = {12};
    size_t page_size, d, packed_size;
    unsigned kind;

    make_content(&noise, 3, dict, DICT_MAX);
    for (page_size = 512; page_size <= PAGE_MAX; page_size *= 2) {
        for (d = 0; d < sizeof(dict_sizes) / sizeof(dict_sizes[0]); d++) {
            for (kind = 0; kind < 4; kind++) {
                make_content(&noise, kind, page, page_size);
                packed_size = rom_fixture_lz4(dict, dict_sizes[d], page, page_size, packed,
                                              sizeof(packed));
                memset(out, 0, page_size);
                CHECK_EQ(decode_walled(d & 1, packed, packed_size, dict, dict_sizes[d], out,
                                       page_size), PGS_OK);
                CHECK_BYTES(out, page, page_size);
                CHECK_EQ(decode_walled(1, packed, packed_size, dict, dict_sizes[d], out,
                                       page_size - 1), PGS_E_CORRUPT);
            }
        }
    }
}

/* The longest distance, 65535, and a match that begins in the dictionary and
 * goes on over the page. */
static void test_lz4_distances(void)
{
    static const unsigned char far[] = {0x00, 0xff, 0xff, 0x50, 1, 2, 3, 4, 5};
    static const unsigned char over[] = {0x2f, 8, 9, 0x05, 0x00, 0x00, 0x00};
    static const unsigned char expect[] = {8, 9, 'a', 'b', 'c', 8, 9, 'a', 'b', 'c', 8, 9, 'a',
                                           'b', 'c', 8, 9, 'a', 'b', 'c', 8};

    make_content(&(struct noise){3}, 0, dict, DICT_MAX);
    CHECK_EQ(decode_walled(0, far, sizeof(far), dict, 65535, out, 9), PGS_OK);
    CHECK_BYTES(out, dict, 4);
    CHECK_EQ(decode_walled(1, far, sizeof(far), dict, DICT_MAX, out, 9), PGS_OK);
    CHECK_BYTES(out, dict + DICT_MAX - 65535, 4);
    CHECK_EQ(decode_walled(0, far, sizeof(far), dict, 65534, out, 9), PGS_E_CORRUPT);
    CHECK_EQ(decode_walled(0, far, sizeof(far), NULL, 0, out, 9), PGS_E_CORRUPT);
    CHECK_EQ(decode_walled(0, over, sizeof(over), (const unsigned char *)"abc", 3, out, 21),
             PGS_OK);
    CHECK_BYTES(out, expect, 21);
    CHECK_EQ(decode_walled(0, over, sizeof(over), (const unsigned char *)"bc", 2, out, 21),
             PGS_E_CORRUPT);
}

static void test_lz4_refuses(void)
{
    static const struct {
        const char *what, *bytes;
        size_t size;
    } bad[] = {
        {"nothing", "", 0},
        {"literals cut", "\x50" "ab", 3},
        {"literals longer than the page", "\x90" "abcdefghi", 10},
        {"length without end", "\xf0\xff\xff", 3},
        {"length that is cut", "\xf0", 1},
        {"distance cut", "\x10" "a\x01", 3},
        {"distance of 0", "\x13" "a\x00\x00", 4},
        {"distance before the start", "\x13" "a\x02\x00", 4},
        {"match length cut", "\x1f" "a\x01\x00", 4},
        {"match longer than the page", "\x14" "a\x01\x00", 4},
        {"less than the page", "\x70" "abcdefg", 8},
    };
    size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int error = decode_walled(i & 1, (const unsigned char *)bad[i].bytes, bad[i].size, NULL, 0,
                                  out, 8);
        if (error != PGS_E_CORRUPT)
            fprintf(stderr, "not refused: %s\n", bad[i].what);
        CHECK_EQ(error, PGS_E_CORRUPT);
    }
}

/* Cut, changed and random input: nothing is touched that is not ours, and
 * what liblz4 accepts gives the same bytes. */
static void test_lz4_any_bytes(void)
{
    struct noise noise = noise_seeded();
    size_t round, cut, packed_size, good = 0;

    make_content(&noise, 3, dict, 1000);
    make_content(&noise, 3, page, 512);
    packed_size = rom_fixture_lz4(dict, 1000, page, 512, packed, sizeof(packed));
    for (cut = 0; cut < packed_size; cut++)
        CHECK_EQ(decode_walled(cut & 1, packed, cut, dict, 1000, out, 512), PGS_E_CORRUPT);
    for (round = 0; round < 20000; round++) {
        size_t size = packed_size, changes = 1 + noise_below(&noise, 3);
        unsigned char bytes[1024];
        int error, wanted;

        CHECK(packed_size <= sizeof(bytes));
        memcpy(bytes, packed, packed_size);
        if (round % 4 == 0)
            noise_fill(&noise, bytes, size = noise_below(&noise, packed_size));
        for (; size != 0 && changes != 0; changes--)
            bytes[noise_below(&noise, size)] ^= (unsigned char)(1u << noise_below(&noise, 8));
        error = decode_walled(round & 1, bytes, size, dict, 1000, out, 512);
        wanted = LZ4_decompress_safe_usingDict((const char *)bytes, (char *)page, (int)size, 512,
                                               (const char *)dict, 1000);
        if (wanted != 512)
            continue;
        CHECK_EQ(error, PGS_OK);
        CHECK_BYTES(out, page, 512);
        good++;
    }
    CHECK(good > 1000);
}

/* -- Branch filters -------------------------------------------------------------------- */

static void test_filters_undo_the_cores(void)
{
    static unsigned char bytes[PAGE_MAX], saved[PAGE_MAX];
    uint32_t id;
    size_t round;

    for (id = 0; id < FILTER_COUNT; id++) {
        struct noise noise = {id + 31};
        size_t changed = 0;
        for (round = 0; round < 6000; round++) {
            size_t size = round % 64 == 0 ? (size_t)512 << noise_below(&noise, 8)
                                          : noise_below(&noise, 700);
            uint64_t address = noise_next(&noise) >> noise_below(&noise, 64);
            struct guarded room = guarded_open_at(size, round & 1);

            if (round % 3 == 0)
                address &= ~UINT64_C(511);
            if (round % 5 == 0) /* where the low part comes to its end */
                address = (address | UINT32_MAX) - noise_below(&noise, 1024);
            if (round % 2 == 0)
                noise_fill(&noise, bytes, size);
            else if (size != 0)
                branches_fill(&noise, id, bytes, size);
            memcpy(saved, bytes, size);
            CHECK_EQ(pgs_filter_apply(id, bytes, size, address), PGS_OK);
            changed += memcmp(bytes, saved, size) != 0;
            memcpy(room.bytes, bytes, size);
            pgs_rom_kit_small.undo[id](room.bytes, size, (uint32_t)address);
            CHECK_BYTES(room.bytes, saved, size);
            /* And for bytes that no filter wrote. */
            memcpy(room.bytes, saved, size);
            pgs_rom_kit_small.undo[id](room.bytes, size, (uint32_t)address);
            CHECK_EQ(pgs_filter_undo(id, saved, size, address), PGS_OK);
            CHECK_BYTES(room.bytes, saved, size);
            guarded_close(&room);
        }
        CHECK(id == PGS_FILTER_NONE ? changed == 0 : changed > 1000);
    }
}

/* -- The tree -------------------------------------------------------------------------- */

static void test_root_of_any_count(void)
{
    static struct rom_fixture f;
    struct pgs_rom_tree tree;
    struct noise noise = {70};
    struct pgs_rom rom;
    uint32_t count, i, bad_page;

    for (count = 0; count <= 70; count++) {
        rom_fixture_init(&f, 9, 2, 2);
        rom_fixture_add_coding(&f, PGS_CODEC_RAW, PGS_FILTER_NONE, ROM_NO_DICT);
        for (i = 0; i < count; i++) {
            noise_fill(&noise, page, 512);
            if (noise_below(&noise, 8) == 0)
                rom_fixture_add_page(&f, 0xffff, NULL);
            else
                rom_fixture_add_page(&f, rom_fixture_add_slot(&f, 0, page, 512), page);
        }
        rom_fixture_close(&f);
        CHECK_EQ(pgs_rom_open(f.rom, f.size, &pgs_rom_kit_small, NULL, 0, &rom), PGS_OK);
        memset(&tree, 0xa5, sizeof(tree));
        CHECK_EQ(pgs_rom_verify(&rom, &tree, out, &bad_page), PGS_OK);
        CHECK_EQ(bad_page, count);
        f.rom[ROM_ROOT_AT + count % 32] ^= 1;
        CHECK_EQ(pgs_rom_verify(&rom, &tree, out, &bad_page), PGS_E_CORRUPT);
    }
}

/* What pgs_rom_verify keeps of the tree has a node for each bit of a page
 * count, and one more while a leaf is added. Each page has 6 bytes at least of
 * a ROM image, whose size has 32 bits. */
static void test_tree_is_high_enough(void)
{
    struct pgs_rom_tree tree;
    const uint32_t count_max = UINT32_MAX / (ROM_CHECKSUM_SIZE + 2);

    CHECK_EQ(sizeof(tree.nodes) / sizeof(tree.nodes[0]), PGS_ROM_TREE_HEIGHT_MAX);
    CHECK(count_max < (UINT32_C(1) << PGS_ROM_TREE_HEIGHT_MAX) - 1);
}

int main(void)
{
    RUN(test_xxh32);
    RUN(test_sha256);
    RUN(test_sha256_of_much);
    RUN(test_lz4_reads_what_liblz4_wrote);
    RUN(test_lz4_distances);
    RUN(test_lz4_refuses);
    RUN(test_lz4_any_bytes);
    RUN(test_filters_undo_the_cores);
    RUN(test_root_of_any_count);
    RUN(test_tree_is_high_enough);
    return 0;
}
