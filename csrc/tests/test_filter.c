/* SPDX-License-Identifier: MIT */
#include "branches.h"

#include "codec/filter_internal.h"
#include "pagestep/codec.h"
#include "pagestep/error.h"

enum { SIZE_MAX_TESTED = 300 };

static void test_undo_inverts_apply(void)
{
    static unsigned char bytes[4096 + 8], saved[4096 + 8];
    uint32_t id;
    size_t round;

    for (id = 0; id < FILTER_COUNT; id++) {
        struct noise noise = {id + 1};
        size_t changed = 0;
        for (round = 0; round < 20000; round++) {
            size_t size = round % 64 == 0 ? 4096 : noise_below(&noise, SIZE_MAX_TESTED);
            size_t offset = noise_below(&noise, 8);
            uint64_t address = noise_next(&noise) >> noise_below(&noise, 64);
            branches_fill(&noise, id, bytes, sizeof(bytes));
            memcpy(saved, bytes, sizeof(bytes));
            CHECK_EQ(pgs_filter_apply(id, bytes + offset, size, address), PGS_OK);
            changed += memcmp(bytes, saved, sizeof(bytes)) != 0;
            CHECK_EQ(pgs_filter_undo(id, bytes + offset, size, address), PGS_OK);
            CHECK_BYTES(bytes, saved, sizeof(bytes));
            CHECK_EQ(pgs_filter_undo(id, bytes + offset, size, address), PGS_OK);
            CHECK_EQ(pgs_filter_apply(id, bytes + offset, size, address), PGS_OK);
            CHECK_BYTES(bytes, saved, sizeof(bytes));
        }
        CHECK(id == PGS_FILTER_NONE ? changed == 0 : changed > 1000);
    }
}

/* The vectors of this machine and plain C do the same. */
static void test_x86_variants_agree(void)
{
    static unsigned char bytes[4096], same[4096];
    struct noise noise = {77};
    size_t round;

    for (round = 0; round < 5000; round++) {
        size_t size = round % 32 == 0 ? 4096 : noise_below(&noise, SIZE_MAX_TESTED);
        branches_fill(&noise, PGS_FILTER_X86, bytes, sizeof(bytes));
        memcpy(same, bytes, sizeof(bytes));
        CHECK_EQ(pgs_filter_apply(PGS_FILTER_X86, bytes, size, round), PGS_OK);
        pgs_filter_x86_plain.apply(same, size, round);
        CHECK_BYTES(bytes, same, sizeof(bytes));
        CHECK_EQ(pgs_filter_undo(PGS_FILTER_X86, bytes, size, round), PGS_OK);
        pgs_filter_x86_plain.undo(same, size, round);
        CHECK_BYTES(bytes, same, sizeof(bytes));
    }
}

/* Words are converted for themselves: what is done to a page is done to any
 * piece of it, however the vectors divide it. */
static void test_pieces_are_like_the_whole(void)
{
    static const uint32_t ids[] = {PGS_FILTER_ARM, PGS_FILTER_ARM64};
    static unsigned char whole[512], piece[512], original[512];
    size_t i, from, size;

    for (i = 0; i < 2; i++) {
        struct noise noise = {i + 5};
        branches_fill(&noise, ids[i], original, sizeof(original));
        for (from = 0; from < sizeof(original); from += 4)
            original[from + 3] = noise_below(&noise, 3) ? original[from + 3] : i ? 0x95 : 0xeb;
        memcpy(whole, original, sizeof(whole));
        CHECK_EQ(pgs_filter_apply(ids[i], whole, sizeof(whole), 0x8000), PGS_OK);
        for (from = 0; from < 64; from += 4) {
            for (size = 0; size <= 80; size++) {
                memcpy(piece, original + from, size);
                CHECK_EQ(pgs_filter_apply(ids[i], piece, size, 0x8000 + from), PGS_OK);
                CHECK_BYTES(piece, whole + from, size & ~(size_t)3);
                CHECK_BYTES(piece + (size & ~(size_t)3), original + from + (size & ~(size_t)3),
                            size & 3);
            }
        }
    }
}

static void test_stays_in_bounds(void)
{
    uint32_t id;
    size_t size, round;

    for (id = 0; id < FILTER_COUNT; id++) {
        struct noise noise = {id + 100};
        for (size = 0; size < SIZE_MAX_TESTED; size++) {
            struct guarded end = guarded_open(size);
            for (round = 0; round < 4; round++) {
                if (size > 0)
                    branches_fill(&noise, id, end.bytes, size);
                CHECK_EQ(pgs_filter_apply(id, end.bytes, size, 12345), PGS_OK);
                CHECK_EQ(pgs_filter_undo(id, end.bytes, size, 12345), PGS_OK);
            }
            guarded_close(&end);
        }
    }
}

static void test_unknown_id(void)
{
    unsigned char byte = 0;
    CHECK_EQ(pgs_filter_apply(6, &byte, 1, 0), PGS_E_INVALID);
    CHECK_EQ(pgs_filter_undo(UINT32_MAX, &byte, 1, 0), PGS_E_INVALID);
}

/* A call and another, from different places to the same target, become the
 * same bytes: that is what the filter is for. */
static void same_target(uint32_t id, size_t size, const unsigned char *first,
                        const unsigned char *second, uint64_t distance)
{
    unsigned char a[16], b[16];

    memcpy(a, first, size);
    memcpy(b, second, size);
    CHECK_EQ(pgs_filter_apply(id, a, size, 0x80010000), PGS_OK);
    CHECK_EQ(pgs_filter_apply(id, b, size, 0x80010000 + distance), PGS_OK);
    CHECK_BYTES(a, b, size);
    CHECK(memcmp(a, first, size) != 0);
}

#define SAME_TARGET(id, distance, first, second)                                                   \
    same_target(id, sizeof(first) - 1, (const unsigned char *)(first),                             \
                (const unsigned char *)(second), distance)

static void test_targets_become_absolute(void)
{
    SAME_TARGET(PGS_FILTER_X86, 0x100, "\xe8\x10\x02\x00\x00", "\xe8\x10\x01\x00\x00");
    SAME_TARGET(PGS_FILTER_X86, 0x10, "\xe9\x00\x00\x00\x00", "\xe9\xf0\xff\xff\xff");
    SAME_TARGET(PGS_FILTER_ARM, 0x10, "\x08\x00\x00\xeb", "\x04\x00\x00\xeb");
    SAME_TARGET(PGS_FILTER_ARM, 0x10, "\x00\x00\x00\xeb", "\xfc\xff\xff\xeb");
    SAME_TARGET(PGS_FILTER_ARM64, 0x10, "\x08\x00\x00\x94", "\x04\x00\x00\x94");
    SAME_TARGET(PGS_FILTER_ARM64, 0x10, "\x00\x00\x00\x94", "\xfc\xff\xff\x97");
    SAME_TARGET(PGS_FILTER_THUMB, 0x10, "\x00\xf0\x10\xf8", "\x00\xf0\x08\xf8");
    SAME_TARGET(PGS_FILTER_THUMB, 0x10, "\x00\xf0\x00\xf8", "\xff\xf7\xf8\xff");
    SAME_TARGET(PGS_FILTER_RISCV, 0x10, "\xef\x00\x00\x02", "\xef\x00\x00\x01"); /* jal ra */
    SAME_TARGET(PGS_FILTER_RISCV, 0x10, "\xef\x00\x00\x00", "\xef\xf0\x1f\xff");
    /* auipc t0; jalr, ld, sd through t0: the offset is 0x1010, then 0x1000 */
    SAME_TARGET(PGS_FILTER_RISCV, 0x10, "\x97\x12\x00\x00\x67\x80\x02\x01",
                "\x97\x12\x00\x00\x67\x80\x02\x00");
    SAME_TARGET(PGS_FILTER_RISCV, 0x10, "\x97\x12\x00\x00\x83\xb2\x02\x01",
                "\x97\x12\x00\x00\x83\xb2\x02\x00");
    SAME_TARGET(PGS_FILTER_RISCV, 0x10, "\x97\x12\x00\x00\x23\xb8\x62\x00",
                "\x97\x12\x00\x00\x23\xb0\x62\x00");
    /* a negative low part: 0x1000 - 0x800 is 0x800 ahead, then 0x7f0 */
    SAME_TARGET(PGS_FILTER_RISCV, 0x10, "\x97\x12\x00\x00\x67\x80\x02\x80",
                "\x97\x02\x00\x00\x67\x80\x02\x7f");
}

static void leaves_alone(uint32_t id, const void *instruction, size_t size)
{
    unsigned char bytes[16];

    memcpy(bytes, instruction, size);
    CHECK_EQ(pgs_filter_apply(id, bytes, size, 0x80012344), PGS_OK);
    CHECK_BYTES(bytes, instruction, size);
}

static void test_leaves_alone(void)
{
    leaves_alone(PGS_FILTER_X86, "\xe8\x00\x00\x00", 4);         /* straddles the end */
    leaves_alone(PGS_FILTER_X86, "\xe8\x00\x00\x00\x01", 5);     /* out of range: 2^24 */
    leaves_alone(PGS_FILTER_X86, "\xe8\xff\xff\xff\xfe", 5);     /* one below -2^24 */
    leaves_alone(PGS_FILTER_X86, "\xea\x00\x00\x00\x00", 5);     /* another opcode */
    leaves_alone(PGS_FILTER_ARM, "\x00\x00\x00\xea", 4);         /* B */
    leaves_alone(PGS_FILTER_ARM, "\x00\x00\x00\x0b", 4);         /* BLEQ */
    leaves_alone(PGS_FILTER_ARM64, "\x00\x00\x00\x14", 4);       /* B */
    leaves_alone(PGS_FILTER_THUMB, "\x00\xf0\x00\x80", 4);       /* a conditional branch */
    leaves_alone(PGS_FILTER_RISCV, "\x6f\x00\x00\x02", 4);       /* a jump without link */
    leaves_alone(PGS_FILTER_RISCV, "\x97\x12\x00\x00\x67\x00\x03\x01", 8); /* another base */
    leaves_alone(PGS_FILTER_RISCV, "\x97\x12\x00\x00\x67\x80\x02", 7);     /* straddles */
}

int main(void)
{
    RUN(test_undo_inverts_apply);
    RUN(test_x86_variants_agree);
    RUN(test_pieces_are_like_the_whole);
    RUN(test_stays_in_bounds);
    RUN(test_unknown_id);
    RUN(test_targets_become_absolute);
    RUN(test_leaves_alone);
    return 0;
}
