/* SPDX-License-Identifier: MIT */
#include "check.h"

#include "codec/checksum_internal.h"
#include "pagestep/codec.h"

enum { PAGE = 4096, SIZE_TESTED = 3 * PAGE };

static unsigned char bytes[SIZE_TESTED + 64];

/* A processor without a variant cannot check it; "plain" is always there. */
static void test_variants_agree(void)
{
    struct noise noise = {1};
    size_t size, offset;

    noise_fill(&noise, bytes, sizeof(bytes));
    for (size = 0; size <= SIZE_TESTED; size += 13) {
        for (offset = 0; offset < 64; offset += 21) {
            const struct pgs_checksum_variant *variant = pgs_checksum_variants;
            uint64_t wanted = pgs_checksum(bytes + offset, size);
            for (; variant->name != NULL; variant++)
                if (variant->is_supported())
                    CHECK(variant->run(bytes + offset, size) == wanted);
        }
    }
}

static void check_every_bit_counts(size_t size)
{
    struct noise noise = {2};
    size_t bit;
    int round;

    for (round = 0; round < 2; round++) {
        uint64_t wanted = pgs_checksum(bytes, size);
        unsigned changed_bits = 0;
        for (bit = 0; bit < size * 8; bit++) {
            uint64_t got;
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            got = pgs_checksum(bytes, size);
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            CHECK(got != wanted);
            changed_bits += (unsigned)__builtin_popcountll(got ^ wanted);
        }
        /* Half of the 64 bits on average: 32 +- 0.5. */
        CHECK(changed_bits > size * 8 * 63 / 2);
        CHECK(changed_bits < size * 8 * 65 / 2);
        memset(bytes, 0, size); /* and all of it again with zeroes */
    }
    noise_fill(&noise, bytes, sizeof(bytes));
}

static void test_every_bit_counts(void)
{
    check_every_bit_counts(PAGE);
    check_every_bit_counts(1003); /* its last bytes fill no stripe */
}

/* Where half of a mixed word is zero, its product is, whatever the other half:
 * the word must count all the same. */
static void test_words_without_a_product_count(void)
{
    static uint64_t words[PAGE / 8];
    size_t lane;

    for (lane = 0; lane < 8; lane++) {
        uint64_t zero, one;
        words[lane] = pgs_checksum_keys[lane] & UINT32_MAX; /* the low half of the mixed word */
        zero = pgs_checksum(words, PAGE);
        words[lane] |= UINT64_C(1) << 63;
        one = pgs_checksum(words, PAGE);
        CHECK(zero != one);
        words[lane] = 0;
    }
}

/* Not for ever, but a change of the values should be one that was meant. */
static void test_golden(void)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    struct noise noise = {6};

    noise_fill(&noise, bytes, PAGE);
    CHECK(pgs_checksum(bytes, PAGE) == UINT64_C(0x9fe5a62b4d0bb973));
    CHECK(pgs_checksum(bytes, 64) == UINT64_C(0x816119e4b4878520));
    CHECK(pgs_checksum(bytes, 0) == UINT64_C(0x3ee7a5716011938f));
#endif
}

static void test_order_and_length_count(void)
{
    static unsigned char swapped[PAGE];
    struct noise noise = {3};
    uint64_t wanted;
    size_t unit, round;

    noise_fill(&noise, bytes, PAGE);
    wanted = pgs_checksum(bytes, PAGE);
    for (unit = 8; unit <= 1024; unit *= 2) {
        for (round = 0; round < 500; round++) {
            size_t a = noise_below(&noise, PAGE / unit) * unit;
            size_t b = noise_below(&noise, PAGE / unit) * unit;
            if (a == b)
                continue;
            memcpy(swapped, bytes, PAGE);
            memcpy(swapped + a, bytes + b, unit);
            memcpy(swapped + b, bytes + a, unit);
            CHECK(pgs_checksum(swapped, PAGE) != wanted);
        }
    }
    memset(swapped, 0, PAGE);
    CHECK(pgs_checksum(swapped, 64) != pgs_checksum(swapped, 128));
    CHECK(pgs_checksum(swapped, 0) != pgs_checksum(swapped, 64));
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Pages that differ in two bytes only, or in one word by a small number:
 * 64 bits have room for a million of them without a collision. */
static void test_no_collisions_among_sparse_pages(void)
{
    enum { COUNT = 300000 };
    uint64_t *sums = malloc(COUNT * sizeof(*sums));
    size_t i, distinct = 0;

    memset(bytes, 0, PAGE);
    for (i = 0; i < COUNT; i++) {
        size_t a = (i * 7) % PAGE, b = (i / PAGE * 61 + a + 1) % PAGE;
        bytes[a] = (unsigned char)(1 + i % 3);
        bytes[b] = 0x80;
        sums[i] = pgs_checksum(bytes, PAGE);
        bytes[a] = bytes[b] = 0;
    }
    qsort(sums, COUNT, sizeof(*sums), compare_words);
    for (i = 1; i < COUNT; i++)
        distinct += sums[i] != sums[i - 1];
    CHECK(distinct > COUNT - 20); /* a few pages come twice */
    free(sums);
}

static void test_stays_in_bounds(void)
{
    const struct pgs_checksum_variant *variant = pgs_checksum_variants;
    size_t size;

    for (; variant->name != NULL; variant++) {
        for (size = 0; size <= 2 * PAGE && variant->is_supported(); size += 17) {
            struct guarded end = guarded_open(size);
            variant->run(end.bytes, size);
            guarded_close(&end);
        }
    }
}

int main(void)
{
    RUN(test_variants_agree);
    RUN(test_every_bit_counts);
    RUN(test_words_without_a_product_count);
    RUN(test_golden);
    RUN(test_order_and_length_count);
    RUN(test_no_collisions_among_sparse_pages);
    RUN(test_stays_in_bounds);
    return 0;
}
