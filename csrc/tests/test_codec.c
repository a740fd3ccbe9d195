/* SPDX-License-Identifier: MIT */
#include "check.h"

#include "codec/codec_internal.h"
#include "pagestep/codec.h"
#include "pagestep/error.h"

enum { PAGE_MAX = 65536, DICT_MAX = 1 << 20 };

static const uint64_t ADDRESS = UINT64_C(0xffffffff81000000);

/* Something like code: phrases that come again, calls, noise between. */
static void make_code(struct noise *noise, unsigned char *bytes, size_t size)
{
    unsigned char phrases[16][24];
    size_t at = 0;
    unsigned i;

    struct noise fixed = {4711}; /* dictionary and pages share their phrases */
    for (i = 0; i < 16; i++)
        noise_fill(&fixed, phrases[i], sizeof(phrases[i]));
    while (at < size) {
        unsigned char call[5] = {0xe8, 0, 0, 0, 0};
        const unsigned char *from = phrases[noise_below(noise, 16)];
        size_t length = 1 + noise_below(noise, 24);
        if (noise_below(noise, 4) == 0) {
            uint32_t offset = (uint32_t)noise_next(noise) & 0xffffff;
            memcpy(call + 1, &offset, 4);
            from = call;
            length = 5;
        }
        if (length > size - at)
            length = size - at;
        memcpy(bytes + at, from, length);
        at += length;
    }
}

static struct pgs_codec_params params_of(uint32_t codec_id, int32_t level, uint32_t filter_id,
                                         uint32_t page_size, const void *dict, uint32_t dict_size)
{
    struct pgs_codec_params params = {
        .struct_size = sizeof(params),
        .codec_id = codec_id,
        .level = level,
        .filter_id = filter_id,
        .page_size = page_size,
        .dict_size = dict_size,
        .dict = dict,
    };
    return params;
}

struct pair {
    pgs_codec *codec;
    pgs_coder *encoder, *decoder;
};

static struct pair pair_open(struct pgs_codec_params params)
{
    struct pair pair;

    CHECK_EQ(pgs_codec_open(&params, &pair.codec), PGS_OK);
    CHECK_EQ(pgs_coder_open(pair.codec, 1, &pair.encoder), PGS_OK);
    CHECK_EQ(pgs_coder_open(pair.codec, 0, &pair.decoder), PGS_OK);
    return pair;
}

static void pair_close(struct pair *pair)
{
    pgs_coder_close(pair->encoder);
    pgs_coder_close(pair->decoder);
    pgs_codec_close(pair->codec);
}

/* Encodes into and decodes from buffers that end where memory ends. */
static void round_trip(struct pair *pair, const unsigned char *page, uint32_t page_size,
                       uint64_t address, size_t *size_ret)
{
    static unsigned char encoded[2 * PAGE_MAX];
    struct guarded source = guarded_open(page_size);
    struct guarded out = guarded_open(page_size);
    size_t size;

    memcpy(source.bytes, page, page_size);
    CHECK_EQ(pgs_encode(pair->encoder, source.bytes, address, encoded, sizeof(encoded), &size),
             PGS_OK);
    CHECK_BYTES(source.bytes, page, page_size);
    if (size != 0) {
        struct guarded exact = guarded_open(size);
        memcpy(exact.bytes, encoded, size);
        CHECK_EQ(pgs_decode(pair->decoder, exact.bytes, size, address, out.bytes), PGS_OK);
        CHECK_BYTES(out.bytes, page, page_size);
        memset(out.bytes, 0xa5, page_size);
        CHECK_EQ(pgs_decode(pair->encoder, exact.bytes, size, address, out.bytes), PGS_OK);
        CHECK_BYTES(out.bytes, page, page_size);
        guarded_close(&exact);
    }
    guarded_close(&source);
    guarded_close(&out);
    *size_ret = size;
}

static void round_trips_of(struct pgs_codec_params params)
{
    static unsigned char page[PAGE_MAX];
    struct noise noise = {params.page_size + params.dict_size};
    struct pair pair = pair_open(params);
    size_t size, i;

    for (i = 0; i < 4; i++) {
        make_code(&noise, page, params.page_size);
        round_trip(&pair, page, params.page_size, ADDRESS + i * params.page_size, &size);
        CHECK(size != 0 && size < params.page_size);
    }
    noise_fill(&noise, page, params.page_size);
    round_trip(&pair, page, params.page_size, ADDRESS, &size);
    memset(page, 0, params.page_size);
    round_trip(&pair, page, params.page_size, 0, &size);
    CHECK(size != 0 && size < 300);
    pair_close(&pair);
}

static const struct {
    uint32_t codec_id;
    int32_t level;
} CODECS[] = {
    {PGS_CODEC_LZ4, 0},  {PGS_CODEC_LZ4, 1},   {PGS_CODEC_LZ4, 9},  {PGS_CODEC_LZ4, 12},
    {PGS_CODEC_ZSTD, 1}, {PGS_CODEC_ZSTD, 3},  {PGS_CODEC_ZSTD, 9}, {PGS_CODEC_ZSTD, 15},
    {PGS_CODEC_ZSTD, 19}, {PGS_CODEC_ZSTD, 22}, {PGS_CODEC_LZ4, -1}, {PGS_CODEC_ZSTD, -1},
};

static void test_round_trips(void)
{
    static const uint32_t page_sizes[] = {512, 4096, 65536};
    static const uint32_t dict_sizes[] = {0, 1, 7, 100, 32768, 65535, 65536, 70001, DICT_MAX};
    unsigned char *dict = malloc(DICT_MAX);
    struct noise noise = {1};
    size_t c, p, d;

    make_code(&noise, dict, DICT_MAX);
    for (c = 0; c < sizeof(CODECS) / sizeof(CODECS[0]); c++)
        for (p = 0; p < sizeof(page_sizes) / sizeof(page_sizes[0]); p++)
            for (d = 0; d < sizeof(dict_sizes) / sizeof(dict_sizes[0]); d++)
                round_trips_of(params_of(CODECS[c].codec_id, CODECS[c].level,
                                         d % 2 == 0 ? PGS_FILTER_X86 : PGS_FILTER_NONE,
                                         page_sizes[p], dict, dict_sizes[d]));
    free(dict);
}

static void test_dictionary_helps(void)
{
    static unsigned char dict[65536], page[4096], encoded[8192];
    struct noise noise = {2};
    size_t c;

    make_code(&noise, dict, sizeof(dict));
    make_code(&noise, page, sizeof(page));
    for (c = 0; c < sizeof(CODECS) / sizeof(CODECS[0]); c++) {
        size_t with, without;
        struct pair pair = pair_open(params_of(CODECS[c].codec_id, CODECS[c].level, 0, 4096, dict,
                                               sizeof(dict)));
        CHECK_EQ(pgs_encode(pair.encoder, page, 0, encoded, sizeof(encoded), &with), 0);
        pair_close(&pair);
        pair = pair_open(params_of(CODECS[c].codec_id, CODECS[c].level, 0, 4096, NULL, 0));
        CHECK_EQ(pgs_encode(pair.encoder, page, 0, encoded, sizeof(encoded), &without), 0);
        pair_close(&pair);
        CHECK(with + 100 < without);
    }
}

static void test_raw_and_same(void)
{
    static unsigned char page[4096], encoded[4096], out[4096];
    struct noise noise = {3};
    struct pair raw = pair_open(params_of(PGS_CODEC_RAW, -1, PGS_FILTER_X86, 4096, NULL, 0));
    struct pair same = pair_open(params_of(PGS_CODEC_SAME, 0, PGS_FILTER_X86, 4096, NULL, 0));
    size_t size;

    make_code(&noise, page, sizeof(page));
    round_trip(&raw, page, 4096, ADDRESS, &size);
    CHECK_EQ(size, 4096);
    CHECK_EQ(pgs_encode(raw.encoder, page, ADDRESS, encoded, 4096, &size), 0);
    CHECK_BYTES(encoded, page, 4096); /* never filtered */
    CHECK_EQ(pgs_encode(raw.encoder, page, ADDRESS, encoded, 4095, &size), 0);
    CHECK_EQ(size, 0);
    CHECK_EQ(pgs_decode(raw.decoder, encoded, 4095, ADDRESS, out), PGS_E_CORRUPT);

    CHECK_EQ(pgs_encode(same.encoder, page, ADDRESS, encoded, 4096, &size), 0);
    CHECK_EQ(size, 0);
    pgs_fill(page, 4096, UINT64_C(0xe8e9010203040506));
    CHECK_EQ(pgs_encode(same.encoder, page, ADDRESS, encoded, 7, &size), 0);
    CHECK_EQ(size, 0);
    CHECK_EQ(pgs_encode(same.encoder, page, ADDRESS, encoded, 8, &size), 0);
    CHECK_EQ(size, 8);
    CHECK_BYTES(encoded, "\x06\x05\x04\x03\x02\x01\xe9\xe8", 8);
    round_trip(&same, page, 4096, ADDRESS, &size);
    CHECK_EQ(size, 8);
    CHECK_EQ(pgs_decode(same.decoder, encoded, 7, ADDRESS, out), PGS_E_CORRUPT);
    CHECK_EQ(pgs_decode(same.decoder, encoded, 9, ADDRESS, out), PGS_E_CORRUPT);
    pair_close(&raw);
    pair_close(&same);
}

static void test_same_filled(void)
{
    static unsigned char page[4096];
    uint64_t word = 1;
    size_t at;

    CHECK_EQ(pgs_same_filled(page, 0, &word), 1);
    pgs_fill(page, 4096, 0);
    CHECK_EQ(pgs_same_filled(page, 4096, &word), 1);
    CHECK_EQ(word, 0);
    pgs_fill(page, 4096, UINT64_C(0x8000000000000001));
    CHECK_EQ(pgs_same_filled(page, 4096, &word), 1);
    CHECK(word == UINT64_C(0x8000000000000001));
    CHECK_EQ(page[0], 1);
    CHECK_EQ(page[7], 0x80);
    CHECK_EQ(pgs_same_filled(page, 8, &word), 1);
    for (at = 0; at < 4096; at++) {
        page[at] ^= 0x10;
        CHECK_EQ(pgs_same_filled(page, 4096, &word), 0);
        page[at] ^= 0x10;
    }
}

/* The largest room that does not do, and the smallest that does. */
static void test_dst_cap_is_exact(void)
{
    static unsigned char dict[4096], page[4096], whole[8192], part[8192];
    struct noise noise = {5};
    size_t c, size, again, cap;

    make_code(&noise, dict, sizeof(dict));
    make_code(&noise, page, sizeof(page));
    for (c = 0; c < 2 * sizeof(CODECS) / sizeof(CODECS[0]); c++) {
        struct pair pair = pair_open(params_of(CODECS[c / 2].codec_id, CODECS[c / 2].level,
                                               PGS_FILTER_X86, 4096, dict, c % 2 ? 4096 : 0));
        CHECK_EQ(pgs_encode(pair.encoder, page, ADDRESS, whole, sizeof(whole), &size), 0);
        for (cap = size - 3; cap < size; cap++) {
            struct guarded room = guarded_open(cap);
            CHECK_EQ(pgs_encode(pair.encoder, page, ADDRESS, room.bytes, cap, &again), 0);
            CHECK_EQ(again, 0);
            guarded_close(&room);
        }
        CHECK_EQ(pgs_encode(pair.encoder, page, ADDRESS, part, 0, &again), 0);
        CHECK_EQ(again, 0);
        /* LZ4's bound is not tight, so it may want a little more room. */
        CHECK_EQ(pgs_encode(pair.encoder, page, ADDRESS, part, size + 16, &again), 0);
        CHECK_EQ(again, size);
        CHECK_BYTES(part, whole, size);
        pair_close(&pair);
    }
}

static void test_bytes_do_not_depend_on_history(void)
{
    enum { COUNT = 40 };
    static unsigned char dict[32768], pages[COUNT][4096], first[8192], later[8192];
    struct noise noise = {6};
    size_t c, i, size, again;

    make_code(&noise, dict, sizeof(dict));
    for (i = 0; i < COUNT; i++)
        make_code(&noise, pages[i], 4096);
    for (c = 0; c < 2 * sizeof(CODECS) / sizeof(CODECS[0]); c++) {
        struct pgs_codec_params params =
            params_of(CODECS[c / 2].codec_id, CODECS[c / 2].level, PGS_FILTER_X86, 4096, dict,
                      c % 2 ? sizeof(dict) : 0);
        struct pair worn = pair_open(params);
        for (i = 0; i < COUNT; i++) {
            struct pair fresh = pair_open(params);
            CHECK_EQ(pgs_encode(worn.encoder, pages[i], i * 4096, later, sizeof(later), &again), 0);
            CHECK_EQ(pgs_encode(fresh.encoder, pages[i], i * 4096, first, sizeof(first), &size), 0);
            CHECK_EQ(again, size);
            CHECK_BYTES(later, first, size);
            pair_close(&fresh);
        }
        pair_close(&worn);
    }
}

static void test_bad_params(void)
{
    static const unsigned char dict[8];
    struct pgs_codec_params good = params_of(PGS_CODEC_LZ4, 0, 0, 4096, NULL, 0);
    struct pgs_codec_params bad;
    pgs_codec *codec = (pgs_codec *)&good;

#define REFUSES(field, value, error)                                                               \
    do {                                                                                           \
        bad = good;                                                                                \
        bad.field = (value);                                                                       \
        CHECK_EQ(pgs_codec_open(&bad, &codec), error);                                             \
        CHECK(codec == NULL);                                                                      \
    } while (0)
    REFUSES(struct_size, sizeof(good) - 1, PGS_E_INVALID);
    REFUSES(codec_id, 4, PGS_E_INVALID);
    REFUSES(level, -2, PGS_E_INVALID);
    REFUSES(level, 13, PGS_E_INVALID);
    REFUSES(filter_id, 6, PGS_E_INVALID);
    REFUSES(page_size, 0, PGS_E_INVALID);
    REFUSES(page_size, 256, PGS_E_INVALID);
    REFUSES(page_size, 4095, PGS_E_INVALID);
    REFUSES(page_size, 131072, PGS_E_INVALID);
    REFUSES(dict_size, 8, PGS_E_INVALID); /* and no dict */
    good.dict = dict;
    REFUSES(dict_size, (1 << 20) + 1, PGS_E_INVALID);
    good.dict_size = 8;
    REFUSES(codec_id, PGS_CODEC_RAW, PGS_E_UNSUPPORTED);
    REFUSES(codec_id, PGS_CODEC_SAME, PGS_E_UNSUPPORTED);
    good = params_of(PGS_CODEC_ZSTD, 3, 0, 4096, NULL, 0);
    REFUSES(level, 0, PGS_E_INVALID);
    REFUSES(level, 23, PGS_E_INVALID);
#undef REFUSES
    CHECK_EQ(pgs_codec_open(NULL, &codec), PGS_E_INVALID);
    pgs_codec_close(NULL);
    pgs_coder_close(NULL);
}

static void test_decode_only_coder(void)
{
    static unsigned char page[4096], encoded[4096], dict[4096];
    struct pair pair = pair_open(params_of(PGS_CODEC_LZ4, 9, 0, 4096, dict, 4096));
    size_t size = 1;

    CHECK_EQ(pgs_encode(pair.decoder, page, 0, encoded, 4096, &size), PGS_E_INVALID);
    CHECK_EQ(size, 0);
    CHECK(pgs_coder_memory_bytes(pair.decoder) >= 8192);
    CHECK(pgs_coder_memory_bytes(pair.decoder) < 9000);
    CHECK(pgs_coder_memory_bytes(pair.encoder) > 2 * 262144);
    CHECK(pgs_codec_memory_bytes(pair.codec) >= 4096);
    pair_close(&pair);
}

/* A codec that only decodes: the caller's dictionary, and no tables over it. */
static void test_decode_only_codec(void)
{
    static unsigned char page[4096], encoded[4096], out[4096], dict[65536];
    const uint32_t codec_ids[] = {PGS_CODEC_LZ4, PGS_CODEC_ZSTD};
    struct noise noise = {4};
    pgs_codec *codec;
    pgs_coder *coder;
    size_t size;

    make_code(&noise, dict, sizeof(dict));
    memcpy(page, dict + 3000, sizeof(page));
    for (int i = 0; i < 2; i++) {
        struct pgs_codec_params params =
            params_of(codec_ids[i], -1, PGS_FILTER_ARM, 4096, dict, sizeof(dict));
        struct pair pair = pair_open(params);
        CHECK_EQ(pgs_encode(pair.encoder, page, 8192, encoded, sizeof(encoded), &size), PGS_OK);
        CHECK_EQ(pgs_codec_open_to_decode(&params, &codec), PGS_OK);
        CHECK(pgs_codec_memory_bytes(codec) < 1024);
        CHECK_EQ(pgs_coder_open(codec, 1, &coder), PGS_E_INVALID);
        CHECK_EQ(pgs_coder_open(codec, 0, &coder), PGS_OK);
        CHECK_EQ(pgs_decode(coder, encoded, size, 8192, out), PGS_OK);
        CHECK_BYTES(out, page, sizeof(page));
        pgs_coder_close(coder);
        pgs_codec_close(codec);
        pair_close(&pair);
    }
}

/* Every cut, and many flips, of a good stream: refused or decoded, and never
 * out of bounds. */
static void test_damaged_streams(void)
{
    static unsigned char dict[8192], page[4096], encoded[8192];
    struct noise noise = {7};
    size_t c, i, size;

    make_code(&noise, dict, sizeof(dict));
    make_code(&noise, page, sizeof(page));
    for (c = 0; c < 2 * sizeof(CODECS) / sizeof(CODECS[0]); c++) {
        struct pair pair = pair_open(params_of(CODECS[c / 2].codec_id, CODECS[c / 2].level,
                                               PGS_FILTER_X86, 4096, dict, c % 2 ? 8192 : 0));
        struct guarded out = guarded_open(4096);
        CHECK_EQ(pgs_encode(pair.encoder, page, ADDRESS, encoded, sizeof(encoded), &size), 0);
        for (i = 0; i < size; i += 1 + i / 64) {
            struct guarded cut = guarded_open(i);
            memcpy(cut.bytes, encoded, i);
            CHECK_EQ(pgs_decode(pair.decoder, cut.bytes, i, ADDRESS, out.bytes), PGS_E_CORRUPT);
            guarded_close(&cut);
        }
        for (i = 1; i < 6; i++) { /* more behind it than belongs to it */
            struct guarded longer = guarded_open(size + i);
            memcpy(longer.bytes, encoded, size);
            memset(longer.bytes + size, 0, i);
            CHECK_EQ(pgs_decode(pair.decoder, longer.bytes, size + i, ADDRESS, out.bytes),
                     PGS_E_CORRUPT);
            guarded_close(&longer);
        }
        for (i = 0; i < 2000; i++) {
            struct guarded bent = guarded_open(size);
            int result;
            memcpy(bent.bytes, encoded, size);
            bent.bytes[noise_below(&noise, size)] ^= (unsigned char)(1 << noise_below(&noise, 8));
            result = pgs_decode(pair.decoder, bent.bytes, size, ADDRESS, out.bytes);
            CHECK(result == PGS_OK || result == PGS_E_CORRUPT);
            guarded_close(&bent);
        }
        CHECK_EQ(pgs_decode(pair.decoder, encoded, size, ADDRESS, out.bytes), PGS_OK);
        CHECK_BYTES(out.bytes, page, 4096);
        guarded_close(&out);
        pair_close(&pair);
    }
}

static void test_zstd_frame_is_bare(void)
{
    static unsigned char page[4096], encoded[8192], out[4096];
    struct noise noise = {8};
    struct pair pair = pair_open(params_of(PGS_CODEC_ZSTD, 19, 0, 4096, NULL, 0));
    size_t size;

    make_code(&noise, page, sizeof(page));
    CHECK_EQ(pgs_encode(pair.encoder, page, 0, encoded, sizeof(encoded), &size), 0);
    CHECK_EQ(encoded[0], 0);
    CHECK_EQ(encoded[1] >> 3, 2); /* a window of 4 KiB */
    encoded[0] = 0x20;
    CHECK_EQ(pgs_decode(pair.decoder, encoded, size, 0, out), PGS_E_CORRUPT);
    pair_close(&pair);
}

static void test_batches(void)
{
    enum { COUNT = 9, STRIDE = 4000 };
    static unsigned char pages[COUNT * 4096], encoded[COUNT * STRIDE], out[COUNT * 4096];
    uint32_t sizes[COUNT];
    uint64_t offsets[COUNT], addresses[COUNT];
    int32_t statuses[COUNT];
    struct noise noise = {9};
    struct pair pair = pair_open(params_of(PGS_CODEC_LZ4, 9, PGS_FILTER_X86, 4096, NULL, 0));
    size_t i;

    make_code(&noise, pages, sizeof(pages));
    noise_fill(&noise, pages + 4 * 4096, 4096);
    CHECK_EQ(pgs_encode_pages(pair.encoder, pages, COUNT, ADDRESS, encoded, STRIDE, sizes), 0);
    for (i = 0; i < COUNT; i++) {
        CHECK_EQ(sizes[i] == 0, i == 4);
        offsets[i] = i * STRIDE;
        addresses[i] = ADDRESS + i * 4096;
    }
    CHECK_EQ(pgs_decode_pages(pair.decoder, encoded, sizeof(encoded), offsets, sizes, addresses,
                              COUNT, out, statuses),
             PGS_E_CORRUPT);
    for (i = 0; i < COUNT; i++) {
        CHECK_EQ(statuses[i], i == 4 ? PGS_E_CORRUPT : PGS_OK);
        if (i != 4)
            CHECK_BYTES(out + i * 4096, pages + i * 4096, 4096);
    }
    offsets[4] = UINT64_MAX; /* extents that are not within src */
    sizes[4] = 2;
    offsets[5] = sizeof(encoded) - 1;
    sizes[6] = UINT32_MAX;
    CHECK_EQ(pgs_decode_pages(pair.decoder, encoded, sizeof(encoded), offsets, sizes, addresses,
                              COUNT, out, statuses),
             PGS_E_CORRUPT);
    for (i = 0; i < COUNT; i++)
        CHECK_EQ(statuses[i], i >= 4 && i <= 6 ? PGS_E_CORRUPT : PGS_OK);
    CHECK_EQ(pgs_decode_pages(pair.decoder, encoded, sizeof(encoded), offsets, sizes, addresses, 4,
                              out, statuses),
             PGS_OK);
    /* Eight bytes before src, which wraps around to where page 1 does lie. */
    offsets[0] = 0 - (uint64_t)8;
    CHECK_EQ(pgs_decode_pages(pair.decoder, encoded + STRIDE + 8, STRIDE, offsets, sizes + 1,
                              addresses + 1, 1, out, statuses),
             PGS_E_CORRUPT);
    pair_close(&pair);
}

/* What makes decoding fast: the page begins where the dictionary ends. */
static void test_page_follows_dictionary(void)
{
    static unsigned char dict[70000];
    uint32_t size;

    for (size = 1; size < sizeof(dict); size += 4999) {
        struct pair pair = pair_open(params_of(PGS_CODEC_ZSTD, 1, 0, 4096, dict, size));
        CHECK(pair.decoder->dict + size == pair.decoder->page);
        CHECK_EQ((uintptr_t)pair.decoder->page % PGS_BUFFER_ALIGN, 0);
        pair_close(&pair);
    }
}

int main(void)
{
    RUN(test_round_trips);
    RUN(test_dictionary_helps);
    RUN(test_raw_and_same);
    RUN(test_same_filled);
    RUN(test_dst_cap_is_exact);
    RUN(test_bytes_do_not_depend_on_history);
    RUN(test_bad_params);
    RUN(test_decode_only_coder);
    RUN(test_decode_only_codec);
    RUN(test_damaged_streams);
    RUN(test_zstd_frame_is_bare);
    RUN(test_batches);
    RUN(test_page_follows_dictionary);
    return 0;
}
