/* SPDX-License-Identifier: MIT */
#include "check.h"

#include "pagestep/codec.h"
#include "pagestep/error.h"

enum { PAGE = 4096, COUNT = 100, SHARED = 256 };

static unsigned char pages[COUNT * PAGE], shared[SHARED];

/* Noise, in which every page has some pieces of `shared` at random places. */
static void make_pages(uint64_t seed)
{
    struct noise noise = {seed};
    size_t page, piece;

    noise_fill(&noise, shared, SHARED);
    noise_fill(&noise, pages, sizeof(pages));
    for (page = 0; page < COUNT; page++) {
        for (piece = 0; piece < 12; piece++) {
            size_t from = noise_below(&noise, SHARED - 40);
            memcpy(pages + page * PAGE + noise_below(&noise, PAGE - 40), shared + from, 40);
        }
    }
}

static void test_finds_what_is_shared(void)
{
    struct guarded dict = guarded_open(1024);
    size_t size, i, at, found = 0;

    make_pages(1);
    CHECK_EQ(pgs_dict_cover(pages, COUNT, PAGE, dict.bytes, 1024, &size), PGS_OK);
    CHECK(size > SHARED && size <= 1024);
    for (i = 0; i + 16 <= SHARED; i++)
        for (at = 0; at + 16 <= size; at++)
            if (memcmp(dict.bytes + at, shared + i, 16) == 0) {
                found++;
                break;
            }
    CHECK(found > (SHARED - 16) * 3 / 4);
    guarded_close(&dict);
}

static void test_keeps_to_its_room(void)
{
    size_t cap, size;

    make_pages(2);
    for (cap = 0; cap < 600; cap += 7) {
        struct guarded dict = guarded_open(cap);
        CHECK_EQ(pgs_dict_cover(pages, COUNT, PAGE, dict.bytes, cap, &size), PGS_OK);
        CHECK(size <= cap);
        guarded_close(&dict);
    }
}

/* Golden: the same pages give the same bytes on any machine, for ever or
 * until the method is changed on purpose. */
static void test_is_the_same_everywhere(void)
{
    unsigned char dict[1024];
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    size_t size, i;

    make_pages(3);
    CHECK_EQ(pgs_dict_cover(pages, COUNT, PAGE, dict, sizeof(dict), &size), PGS_OK);
    for (i = 0; i < size; i++)
        hash = (hash ^ dict[i]) * UINT64_C(0x100000001b3);
    CHECK_EQ(size, 465);
    CHECK(hash == UINT64_C(0x2289b83f7f97fd1a));
}

static void test_nothing_shared(void)
{
    struct noise noise = {4};
    unsigned char dict[1024];
    size_t size = 1;

    noise_fill(&noise, pages, sizeof(pages));
    CHECK_EQ(pgs_dict_cover(pages, COUNT, PAGE, dict, sizeof(dict), &size), PGS_OK);
    CHECK_EQ(size, 0);
    CHECK_EQ(pgs_dict_cover(pages, 0, PAGE, dict, sizeof(dict), &size), PGS_OK);
    CHECK_EQ(size, 0);
}

static void test_bad_arguments(void)
{
    unsigned char dict[2048];
    size_t size;

    CHECK_EQ(pgs_dict_cover(pages, 1, 64, dict, 1024, &size), PGS_E_INVALID);
    CHECK_EQ(pgs_dict_cover(pages, 1, 4090, dict, 1024, &size), PGS_E_INVALID);
    CHECK_EQ(pgs_dict_cover(pages, SIZE_MAX, PAGE, dict, 1024, &size), PGS_E_INVALID);
    CHECK_EQ(pgs_dict_add_tables(shared, 255, pages, COUNT, PAGE, dict, 2048, &size),
             PGS_E_INVALID);
    CHECK_EQ(pgs_dict_add_tables(shared, 256, pages, COUNT, PAGE, dict, 511, &size), PGS_E_INVALID);
    CHECK_EQ(pgs_dict_add_tables(shared, 256, pages, 0, PAGE, dict, 2048, &size), PGS_E_INVALID);
}

/* Tables go before the content, and are found again; pages come back with and
 * without them. (What they gain is tested where real pages are.) */
static void test_tables(void)
{
    static unsigned char dict[SHARED + PGS_DICT_TABLES_MAX], encoded[2 * PAGE], out[PAGE];
    struct pgs_codec_params params = {.struct_size = sizeof(params),
                                      .codec_id = PGS_CODEC_ZSTD,
                                      .level = 19,
                                      .page_size = PAGE};
    size_t i, size, tables;
    int with;

    make_pages(5);
    for (i = 0; i < sizeof(pages); i++)
        pages[i] &= 0x1f; /* else nothing could be gained, and no tables be made */
    CHECK_EQ(pgs_dict_add_tables(shared, SHARED, pages, COUNT, PAGE, dict, sizeof(dict), &size),
             PGS_OK);
    tables = pgs_dict_tables_size(dict, size);
    CHECK(tables > 8 && tables <= PGS_DICT_TABLES_MAX);
    CHECK_EQ(tables + SHARED, size);
    CHECK_BYTES(dict + tables, shared, SHARED);
    CHECK_EQ(pgs_dict_tables_size(shared, SHARED), 0);
    CHECK_EQ(pgs_dict_tables_size(dict, 7), 0);
    CHECK_EQ(pgs_dict_tables_size(dict, 20), 0);
    for (with = 0; with < 2; with++) {
        pgs_codec *codec;
        pgs_coder *coder;
        params.dict = with ? dict : shared;
        params.dict_size = (uint32_t)(with ? size : SHARED);
        CHECK_EQ(pgs_codec_open(&params, &codec), PGS_OK);
        CHECK_EQ(pgs_coder_open(codec, 1, &coder), PGS_OK);
        for (i = 0; i < COUNT; i++) {
            size_t encoded_size;
            const unsigned char *page = pages + i * PAGE;
            CHECK_EQ(pgs_encode(coder, page, 0, encoded, sizeof(encoded), &encoded_size), PGS_OK);
            CHECK_EQ(pgs_decode(coder, encoded, encoded_size, 0, out), PGS_OK);
            CHECK_BYTES(out, page, PAGE);
        }
        pgs_coder_close(coder);
        pgs_codec_close(codec);
    }
    memset(dict + 8, 0xff, 40); /* damaged tables */
    params.dict = dict;
    params.dict_size = (uint32_t)size;
    {
        pgs_codec *codec;
        CHECK_EQ(pgs_codec_open(&params, &codec), PGS_E_INVALID);
    }
}

int main(void)
{
    RUN(test_finds_what_is_shared);
    RUN(test_keeps_to_its_room);
    RUN(test_is_the_same_everywhere);
    RUN(test_nothing_shared);
    RUN(test_bad_arguments);
    RUN(test_tables);
    return 0;
}
