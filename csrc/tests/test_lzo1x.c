/* SPDX-License-Identifier: MIT */
#include "check.h"

#include "pagestep/codec.h"
#include "pagestep/error.h"

/* Made with `lzop -1` and `lzop -9` from what far_content() and
 * mixed_content() return. */
static const char FAR_HEX[] =
    "0018ccd7455db429d3b32c4a77041b1995e6560c963381fae4126f63bdcdda97ca1c0653c0bb2ad1"
    "52950000200000000000000000000000000000000000000000000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000870400101f400a02ce"
    "15d21446100000000000000000000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000000000000000009f4c0a100000000000"
    "000000000000bc9809101534390008cbf997afe5d0b960724d9025188b3e5f50d54c3d5db429d3b3"
    "2c110000";

static const char MIXED_HEX[] =
    "2b5db429d353c0bb2ad152ccd7451b1995e6560c96b1ca1c0653c0640105f2fae4126f63bd256c01"
    "b7044a7704550486b8009c0490005304d3b32c0405bc0201cdda97ca98018c034002bb029633810c"
    "136d033e7c095c0d6c01a80394059c0385016d6403ac0fb400b00f8c03bc148801f50e8c9c0c6c06"
    "8101b69400e404a10c118d0280880c5801b40a79109abc03a0026808284504f2490ddbb903334c00"
    "61034d70002a610220840acd097d271c02a10839b9005aa905e74d089f700327a002ac0b690a5b28"
    "ed0322b0067502ee94026401a405500855003d8d07217802700e8c0428cc0028240529cc047c04b0"
    "0769045d8d02bb9104312875010cb81429ac067906fe272400286c07ec1e28ac01a8078801f00329"
    "1c01a801288c022a890850512c414d0035283108698003fd1b00283507822894062840027d04d878"
    "018904786501acd825a40eb4007d020ba8014908ff440e6402a10a02fc3e880db004110000";

enum { OUT_MAX = 65536 };

struct bytes {
    size_t size;
    unsigned char at[OUT_MAX];
};

static void add(struct bytes *to, const void *from, size_t size)
{
    CHECK(size <= OUT_MAX - to->size);
    memcpy(to->at + to->size, from, size);
    to->size += size;
}

static void add_noise(struct bytes *to, uint64_t seed, size_t size)
{
    struct noise noise = {seed};
    CHECK(size <= OUT_MAX - to->size);
    noise_fill(&noise, to->at + to->size, size);
    to->size += size;
}

static void add_fill(struct bytes *to, unsigned char byte, size_t size)
{
    CHECK(size <= OUT_MAX - to->size);
    memset(to->at + to->size, byte, size);
    to->size += size;
}

static void add_hex(struct bytes *to, const char *hex)
{
    for (; hex[0] != 0 && hex[1] != 0; hex += 2) {
        const char pair[3] = {hex[0], hex[1], 0};
        unsigned char byte = (unsigned char)strtoul(pair, NULL, 16);
        add(to, &byte, 1);
    }
}

static void far_content(struct bytes *to)
{
    to->size = 0;
    add_noise(to, 11, 40);
    add_fill(to, 0, 17000);
    add_noise(to, 11, 40);
    add_noise(to, 12, 5);
    add_fill(to, 0, 20000);
    add_noise(to, 11, 30);
    add_noise(to, 13, 20);
    add(to, to->at + 3, 6);
}

static void mixed_content(struct bytes *to)
{
    unsigned char base[40];
    struct noise noise = {11};
    unsigned i;

    to->size = 0;
    noise_fill(&noise, base, sizeof(base));
    noise.state = 77;
    for (i = 0; i < 160; i++) {
        size_t word = (size_t)(noise_next(&noise) >> 56) % 12;
        add(to, base + word * 3, 3 + word % 4);
        if ((noise_next(&noise) >> 56) % 3 == 0) {
            unsigned char byte = (unsigned char)(noise_next(&noise) >> 56);
            add(to, &byte, 1);
        }
    }
}

/* Decodes between two walls, and checks what comes out. */
static void decodes_to(const struct bytes *stream, const struct bytes *wanted)
{
    struct guarded src = guarded_open(stream->size), dst = guarded_open(wanted->size);
    size_t size;

    memcpy(src.bytes, stream->at, stream->size);
    CHECK_EQ(pgs_lzo1x_decode(src.bytes, stream->size, dst.bytes, wanted->size, &size), PGS_OK);
    CHECK_EQ(size, wanted->size);
    CHECK_BYTES(dst.bytes, wanted->at, size);
    guarded_close(&src);
    guarded_close(&dst);
    if (wanted->size > 0) {
        dst = guarded_open(wanted->size - 1);
        CHECK_EQ(pgs_lzo1x_decode(stream->at, stream->size, dst.bytes, wanted->size - 1, &size),
                 PGS_E_CORRUPT);
        CHECK_EQ(size, 0);
        guarded_close(&dst);
    }
}

static int refused(const void *stream, size_t stream_size, size_t cap)
{
    struct guarded src = guarded_open(stream_size), dst = guarded_open(cap);
    size_t size = 1;
    int error;

    memcpy(src.bytes, stream, stream_size);
    error = pgs_lzo1x_decode(src.bytes, stream_size, dst.bytes, cap, &size);
    CHECK(error == PGS_E_CORRUPT || error == PGS_OK);
    CHECK(error == PGS_OK ? size <= cap : size == 0);
    guarded_close(&src);
    guarded_close(&dst);
    return error == PGS_E_CORRUPT;
}

static struct bytes stream, wanted;

static void test_streams_of_lzop(void)
{
    stream.size = 0;
    add_hex(&stream, FAR_HEX);
    far_content(&wanted);
    decodes_to(&stream, &wanted);
    stream.size = 0;
    add_hex(&stream, MIXED_HEX);
    mixed_content(&wanted);
    decodes_to(&stream, &wanted);
}

#define ADD(bytes) add(&stream, bytes, sizeof(bytes) - 1)
#define END "\x11\x00\x00"

static void test_empty(void)
{
    stream.size = wanted.size = 0;
    ADD(END);
    decodes_to(&stream, &wanted);
}

/* First bytes 18, 20, 21 and 22: runs of 1, 3, 4 and 5 literals, and what
 * the state after each makes of a byte below 16. */
static void test_first_byte(void)
{
    stream.size = wanted.size = 0;
    ADD("\x12" "a" "\x00\x00" END); /* state 1: two bytes, distance 1 */
    add(&wanted, "aaa", 3);
    decodes_to(&stream, &wanted);
    stream.size = wanted.size = 0;
    ADD("\x14" "abc" "\x0a\x00" "xy" END); /* state 3: distance 3, then two literals */
    add(&wanted, "abcabxy", 7);
    decodes_to(&stream, &wanted);
    stream.size = 0;
    ADD("\x15" "abcd" "\x00\x00" END); /* state 4: distance 2049 */
    CHECK(refused(stream.at, stream.size, 100));
    stream.size = 0;
    ADD("\x16" "abcde" "\x00\x00" END);
    CHECK(refused(stream.at, stream.size, 100));
}

/* A run of literals, then three bytes from 2049 and from 3072 back. */
static void test_short_after_run(void)
{
    size_t i;

    for (i = 0; i < 2; i++) {
        stream.size = wanted.size = 0;
        add_noise(&wanted, 5, 3072);
        ADD("\x00"); /* 3 + 15 + 255 * 11 + 249 = 3072 */
        add_fill(&stream, 0, 11);
        ADD("\xf9");
        add(&stream, wanted.at, 3072);
        if (i == 0)
            ADD("\x00\x00" END);
        else
            ADD("\x0c\xff" END);
        add(&wanted, wanted.at + (i == 0 ? 1023 : 0), 3);
        decodes_to(&stream, &wanted);
    }
}

/* Bytes from 64: lengths 3 to 8, distances to 2048, literals behind. */
static void test_near(void)
{
    size_t length;

    for (length = 3; length <= 8; length++) {
        unsigned field = length < 5 ? 0x40 | (unsigned)(length - 3) << 5
                                    : 0x80 | (unsigned)(length - 5) << 5;
        unsigned char near[2] = {(unsigned char)(field | 7 << 2 | 1), 0xff}; /* 2048 back */
        stream.size = wanted.size = 0;
        add_noise(&wanted, 6, 2051);
        ADD("\x00");
        add_fill(&stream, 0, 7);
        ADD("\xf8"); /* 3 + 15 + 255 * 7 + 248 = 2051 */
        add(&stream, wanted.at, 2051);
        add(&stream, near, 2);
        ADD("z" END);
        add(&wanted, wanted.at + 3, length);
        add(&wanted, "z", 1);
        decodes_to(&stream, &wanted);
    }
}

/* Bytes 16 to 63, with short and long lengths and with bit 14 of the
 * distance. */
static void test_far(void)
{
    stream.size = wanted.size = 0;
    add(&wanted, "abcdef", 6);
    add_fill(&wanted, 'f', 40000);
    ADD("\x17" "abcdef" "\x20");
    add_fill(&stream, 0, 156);
    ADD("\xbb\x00\x00"); /* 33 + 255 * 156 + 187 = 40000, one back */
    ADD("\x1c\x18\x71"); /* 6 from 32768 + 7238 = 40006 */
    add(&wanted, "abcdef", 6);
    ADD("\x13\xa4\xe2"); /* 5 from 16384 + 14505 */
    add(&wanted, "fffff", 5);
    ADD("\x18\x05\x46\x71" "uv" END); /* 9 + 5 from 32768 + 7249 = 40017, and 2 literals */
    add(&wanted, "abcdefffffffffuv", 16);
    decodes_to(&stream, &wanted);
}

static void test_refuses(void)
{
    static const struct {
        const char *what;
        const char *bytes;
        size_t size;
    } bad[] = {
        {"nothing", "", 0},
        {"no end", "\x12" "a", 2},
        {"end cut", "\x11\x00", 2},
        {"more behind the end", END "\x00", 4},
        {"end of another length", "\x12" "a" "\x12\x00\x00", 5},
        {"distance before the start", "\x12" "a" "\x04\x00" END, 7},
        {"match before the start", "\x40\x00" END, 5},
        {"literals cut", "\x15" "ab", 3},
        {"endless length", "\x00\x00\x00\x00\x00\x00\x00\x00", 8},
        {"length without end", "\x12" "a" "\x20\x00\x00\x00", 6},
        {"byte of distance cut", "\x12" "a" "\x40", 3},
        {"two of distance cut", "\x12" "a" "\x21\x00", 4},
        {"literals behind a match cut", "\x12" "a" "\x21\x03\x00" "xy", 7},
    };
    size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (!refused(bad[i].bytes, bad[i].size, 1000))
            fprintf(stderr, "not refused: %s\n", bad[i].what);
        CHECK(refused(bad[i].bytes, bad[i].size, 1000));
    }
}

static void test_damage(void)
{
    struct noise noise = {9};
    size_t i;
    int round;

    for (round = 0; round < 2; round++) {
        stream.size = 0;
        add_hex(&stream, round ? FAR_HEX : MIXED_HEX);
        for (i = 0; i < stream.size; i++)
            CHECK(refused(stream.at, i, OUT_MAX));
        for (i = 0; i < 4000; i++) {
            size_t at = noise_below(&noise, stream.size);
            unsigned char bit = (unsigned char)(1 << noise_below(&noise, 8));
            stream.at[at] ^= bit;
            refused(stream.at, stream.size, 1 + noise_below(&noise, OUT_MAX - 1));
            stream.at[at] ^= bit;
        }
    }
}

int main(void)
{
    RUN(test_streams_of_lzop);
    RUN(test_empty);
    RUN(test_first_byte);
    RUN(test_short_after_run);
    RUN(test_near);
    RUN(test_far);
    RUN(test_refuses);
    RUN(test_damage);
    return 0;
}
