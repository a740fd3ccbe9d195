/* SPDX-License-Identifier: MIT
 *
 * The checksum: eight 64-bit sums over stripes of eight words. Each word,
 * mixed with a key, adds the product of its halves to its own sum (the NH
 * family of hashes: Black et al., "UMAC", 1999) and, as it is, to its
 * neighbour's, so that a word whose product happens to be nothing still
 * counts: a change in one word always changes a sum. Keys move by one word
 * from stripe to stripe, and the sums are mixed after each block of stripes,
 * so that order counts. In the end the sums are multiplied in pairs to 128
 * bits and folded.
 */
#include "checksum_internal.h"

#include "pagestep/codec.h"

#include <string.h>

#if defined(PGS_CHECKSUM_X86)
#include <immintrin.h>
#endif

enum {
    LANES = 8,
    STRIPE_BYTES = LANES * 8,
    STRIPES_PER_BLOCK = 16,
    BLOCK_BYTES = STRIPE_BYTES * STRIPES_PER_BLOCK,
    KEY_STEP = 1,
    LAST_KEY = STRIPES_PER_BLOCK * KEY_STEP /* of a stripe that is not whole */
};

#define BLOCK_FACTOR UINT64_C(0xd50b6a4d) /* odd: multiplying by it loses nothing */

/* These, and the two below: arbitrary words without structure. */
const uint64_t pgs_checksum_keys[LANES + STRIPES_PER_BLOCK * KEY_STEP] = {
    UINT64_C(0xf3679c008d7d1e3e), UINT64_C(0xd5726a12e4a72c01), UINT64_C(0xa6626331406d4a0c),
    UINT64_C(0xebb8805f54c31ae2), UINT64_C(0xbdfbbde8339a8e5f), UINT64_C(0x5bead36cb575de7e),
    UINT64_C(0x00bea3cdfd6837c8), UINT64_C(0xa0fb6429d05ffc11), UINT64_C(0xfaa15c29fd5fbc85),
    UINT64_C(0x21d2112296996a2c), UINT64_C(0x40a7c0f58c5e8328), UINT64_C(0x8bfb28d64fa02175),
    UINT64_C(0x6be275d7dcda27d8), UINT64_C(0x0e4eba43df2665db), UINT64_C(0xab9ceae790ec458c),
    UINT64_C(0x5c68db253ccac88e), UINT64_C(0x0ae89d3d4173c4ce), UINT64_C(0x4a1458f201f023b5),
    UINT64_C(0x8758c6a712794e9c), UINT64_C(0xc1bfc3b5731fd836), UINT64_C(0xf9aaf33d7f82521e),
    UINT64_C(0x512601990321b5d0), UINT64_C(0x190fda8189f4176f), UINT64_C(0xdc5b6c55e0154bae),
};

static const uint64_t start[LANES] = {
    UINT64_C(0x9d811513cc6c6803), UINT64_C(0xb7390e7a6578bb7e), UINT64_C(0xcfa4f40d01d6c573),
    UINT64_C(0x488cb184f8aa123d), UINT64_C(0x5d136df7ecfeab85), UINT64_C(0xe7f49fb09f44691a),
    UINT64_C(0xfc017ae1ab9ee97b), UINT64_C(0x4d321de13d09d51f),
};

static const uint64_t finish_keys[LANES] = {
    UINT64_C(0xe2b807210c5d0406), UINT64_C(0xef113ea7e4a73bf9), UINT64_C(0x1ffacca1b5d5bb02),
    UINT64_C(0x2321959e6e655e13), UINT64_C(0x17d01f2d4da629ca), UINT64_C(0xcc1819781b9ffec9),
    UINT64_C(0xc607b07b436134a4), UINT64_C(0xbf2eb60c74328f55),
};

/* The 128-bit product's halves, folded into one word. */
static inline uint64_t multiply_fold(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#else
    uint64_t a_low = a & UINT32_MAX, a_high = a >> 32;
    uint64_t b_low = b & UINT32_MAX, b_high = b >> 32;
    uint64_t low = a_low * b_low;
    uint64_t cross = (low >> 32) + a_high * b_low; /* cannot overflow */
    uint64_t middle = (cross & UINT32_MAX) + a_low * b_high;
    uint64_t high = a_high * b_high + (cross >> 32) + (middle >> 32);
    return (middle << 32 | (low & UINT32_MAX)) ^ high;
#endif
}

static uint64_t finish(const uint64_t lanes[LANES], size_t size)
{
    uint64_t hash = (uint64_t)size * UINT64_C(0x9e3779b97f4a7c15);
    unsigned i;

    for (i = 0; i < LANES; i += 2)
        hash += multiply_fold(lanes[i] ^ finish_keys[i], lanes[i + 1] ^ finish_keys[i + 1]);
    hash ^= hash >> 37;
    hash *= UINT64_C(0xbf58476d1ce4e5b9);
    return hash ^ (hash >> 32);
}

static int always(void)
{
    return 1;
}

/* Two words in plain C, for any processor. */
struct pair {
    uint64_t a, b;
};

static inline struct pair pair_load(const void *at)
{
    struct pair p;
    memcpy(&p, at, sizeof(p));
    return p;
}

static inline struct pair pair_of(uint64_t a, uint64_t b)
{
    struct pair p = {a, b};
    return p;
}

static inline struct pair pair_add(struct pair x, struct pair y)
{
    return pair_of(x.a + y.a, x.b + y.b);
}

static inline struct pair pair_xor(struct pair x, struct pair y)
{
    return pair_of(x.a ^ y.a, x.b ^ y.b);
}

static inline struct pair pair_multiply_low(struct pair x, struct pair y)
{
    return pair_of((x.a & UINT32_MAX) * (y.a & UINT32_MAX),
                   (x.b & UINT32_MAX) * (y.b & UINT32_MAX));
}

#define NAME checksum_plain
#define TARGET
#define VECTOR struct pair
#define WORDS 2
#define LOAD(at) pair_load(at)
#define STORE(at, x) memcpy(at, &(x), sizeof(x))
#define ADD(x, y) pair_add(x, y)
#define XOR(x, y) pair_xor(x, y)
#define SHIFT(x, n) pair_of((x).a >> (n), (x).b >> (n))
#define MULTIPLY_LOW(x, y) pair_multiply_low(x, y)
#define HIGH_TO_LOW(x) pair_of((x).a >> 32, (x).b >> 32)
#define LOW_TO_HIGH(x) pair_of((x).a << 32, (x).b << 32)
#define SWAP(x) pair_of((x).b, (x).a)
#define BROADCAST(word) pair_of(word, word)
#include "checksum_template.h"

#if defined(PGS_CHECKSUM_X86)
#define NAME checksum_sse2
#define TARGET
#define VECTOR __m128i
#define WORDS 2
#define LOAD(at) _mm_loadu_si128((const __m128i *)(const void *)(at))
#define STORE(at, x) _mm_storeu_si128((__m128i *)(void *)(at), x)
#define ADD(x, y) _mm_add_epi64(x, y)
#define XOR(x, y) _mm_xor_si128(x, y)
#define SHIFT(x, n) _mm_srli_epi64(x, n)
#define MULTIPLY_LOW(x, y) _mm_mul_epu32(x, y)
#define HIGH_TO_LOW(x) _mm_srli_epi64(x, 32)
#define LOW_TO_HIGH(x) _mm_slli_epi64(x, 32)
#define SWAP(x) _mm_shuffle_epi32(x, 0x4e)
#define BROADCAST(word) _mm_set1_epi64x((long long)(word))
#include "checksum_template.h"

#define NAME checksum_avx2
#define TARGET __attribute__((target("avx2")))
#define VECTOR __m256i
#define WORDS 4
#define LOAD(at) _mm256_loadu_si256((const __m256i *)(const void *)(at))
#define STORE(at, x) _mm256_storeu_si256((__m256i *)(void *)(at), x)
#define ADD(x, y) _mm256_add_epi64(x, y)
#define XOR(x, y) _mm256_xor_si256(x, y)
#define SHIFT(x, n) _mm256_srli_epi64(x, n)
#define MULTIPLY_LOW(x, y) _mm256_mul_epu32(x, y)
#define HIGH_TO_LOW(x) _mm256_srli_epi64(x, 32)
#define LOW_TO_HIGH(x) _mm256_slli_epi64(x, 32)
#define SWAP(x) _mm256_shuffle_epi32(x, 0x4e)
#define BROADCAST(word) _mm256_set1_epi64x((long long)(word))
#include "checksum_template.h"

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}
#endif

const struct pgs_checksum_variant pgs_checksum_variants[] = {
#if defined(PGS_CHECKSUM_X86)
    {"avx2", has_avx2, checksum_avx2},
    {"sse2", always, checksum_sse2},
#endif
    {"plain", always, checksum_plain},
    {NULL, NULL, NULL},
};

uint64_t pgs_checksum(const void *bytes, size_t size)
{
#if defined(PGS_CHECKSUM_X86)
    /* What the processor has stands in a word that the run-time support fills
     * before main: asking is a load, and needs no state of ours. AVX-512 is
     * faster alone, and slower between the decodes of pages. */
    if (has_avx2())
        return checksum_avx2(bytes, size);
    return checksum_sse2(bytes, size);
#else
    return checksum_plain(bytes, size);
#endif
}
