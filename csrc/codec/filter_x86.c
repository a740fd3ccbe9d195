/* SPDX-License-Identifier: MIT
 *
 * x86: CALL (E8) and JMP (E9) with a 32-bit operand, relative to the next
 * instruction. Operands that fit 25 bits with sign are converted, modulo 2^25,
 * so that a converted one fits as well: undo takes the same decision. The four
 * operand bytes are skipped whether converted or not, because what looks like
 * an opcode inside them may not look so afterwards. An instruction that
 * straddles the end of the page is left alone.
 */
#include "filter_internal.h"

#include "le.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define PGS_X86_64 1
#include <immintrin.h>
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { CHUNK = 64, BLOCK = 16 * CHUNK, INSTRUCTION = 5 };

static const uint32_t RANGE = UINT32_C(1) << 24; /* targets lie within +-RANGE */

/* Bit i is set where byte i may be an opcode. One way per kind of vector. */
typedef uint64_t opcodes_64(const unsigned char *at);

#if defined(PGS_X86_64)
ALWAYS_INLINE __attribute__((target("avx2"))) uint64_t opcodes_avx2(const unsigned char *at)
{
    const __m256i opcode = _mm256_set1_epi8((char)0xe8), kept = _mm256_set1_epi8((char)0xfe);
    __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)at);
    __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(at + 32));
    low = _mm256_cmpeq_epi8(_mm256_and_si256(low, kept), opcode);
    high = _mm256_cmpeq_epi8(_mm256_and_si256(high, kept), opcode);
    return (uint32_t)_mm256_movemask_epi8(low) |
           (uint64_t)(uint32_t)_mm256_movemask_epi8(high) << 32;
}

ALWAYS_INLINE uint64_t opcodes_16(const unsigned char *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i cleared = _mm_and_si128(bytes, _mm_set1_epi8((char)0xfe));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(cleared, _mm_set1_epi8((char)0xe8)));
}

ALWAYS_INLINE uint64_t opcodes_sse2(const unsigned char *at)
{
    return opcodes_16(at) | opcodes_16(at + 16) << 16 | opcodes_16(at + 32) << 32 |
           opcodes_16(at + 48) << 48;
}
#endif

ALWAYS_INLINE uint64_t opcodes_8(const unsigned char *at)
{
    const uint64_t low7 = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t differs = (pgs_load_le64(at) & UINT64_C(0xfefefefefefefefe)) ^
                       UINT64_C(0xe8e8e8e8e8e8e8e8);
    uint64_t equal = ~(((differs & low7) + low7) | differs | low7); /* 0x80 in each equal byte */
    return ((equal >> 7) * UINT64_C(0x0102040810204080)) >> 56;
}

ALWAYS_INLINE uint64_t opcodes_plain(const unsigned char *at)
{
    uint64_t mask = 0;
    unsigned i;

    for (i = 0; i < 8; i++)
        mask |= opcodes_8(at + i * 8) << (i * 8);
    return mask;
}

/* Converts one operand without a branch, because whether it is in range
 * cannot be predicted. `sign` is 1 to add the next instruction's address and
 * -1 to take it away. */
ALWAYS_INLINE void convert(unsigned char *operand, uint32_t next_address, uint32_t sign)
{
    uint32_t value = pgs_load_le32(operand);
    uint32_t moved = ((value + RANGE + sign * next_address) & (2 * RANGE - 1)) - RANGE;

    pgs_store_le32(operand, value + RANGE < 2 * RANGE ? moved : value);
}

/* Lists where the mask's bits are, counted from `base`. Most chunks of code
 * have at most UNROLLED: for those there is nothing to mispredict. */
ALWAYS_INLINE size_t list_bits(uint64_t mask, unsigned base, uint16_t *list)
{
    enum { UNROLLED = 4 };
    size_t count = 0;
    unsigned i;

    for (i = 0; i < UNROLLED; i++) {
        list[count] = (uint16_t)(base + (unsigned)__builtin_ctzll(mask | UINT64_C(1) << 63));
        count += mask != 0;
        mask &= mask - 1;
    }
    for (; mask != 0; mask &= mask - 1)
        list[count++] = (uint16_t)(base + (unsigned)__builtin_ctzll(mask));
    return count;
}

/* What may be an opcode in a block of at most BLOCK bytes; `list` has room
 * for one more than that. */
ALWAYS_INLINE size_t list_opcodes(const unsigned char *block, size_t size, uint16_t *list,
                                  opcodes_64 *opcodes)
{
    size_t count = 0, at;

    for (at = 0; at + CHUNK <= size; at += CHUNK)
        count += list_bits(opcodes(block + at), (unsigned)at, list + count);
    for (; at < size; at++) {
        list[count] = (uint16_t)at;
        count += (block[at] & 0xfe) == 0xe8;
    }
    return count;
}

ALWAYS_INLINE void walk(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign,
                         opcodes_64 *opcodes)
{
    uint16_t list[BLOCK + 1];
    size_t next = 0; /* the first byte that is no operand of what came before */
    size_t block, i;

    for (block = 0; block < size; block += BLOCK) {
        size_t block_size = size - block < BLOCK ? size - block : BLOCK;
        size_t count = list_opcodes(bytes + block, block_size, list, opcodes);
        for (i = 0; i < count; i++) {
            size_t at = block + list[i];
            if (at < next)
                continue;
            next = at + INSTRUCTION;
            if (next > size)
                return;
            convert(bytes + at + 1, (uint32_t)address + (uint32_t)next, sign);
        }
    }
}

static void walk_plain(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    walk(bytes, size, address, sign, opcodes_plain);
}

#if defined(PGS_X86_64)
__attribute__((target("avx2,bmi"))) static void walk_avx2(unsigned char *bytes, size_t size,
                                                          uint64_t address, uint32_t sign)
{
    walk(bytes, size, address, sign, opcodes_avx2);
}

static void walk_best(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi"))
        walk_avx2(bytes, size, address, sign);
    else
        walk(bytes, size, address, sign, opcodes_sse2);
}
#else
static void walk_best(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    walk_plain(bytes, size, address, sign);
}
#endif

static void apply(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_best(bytes, size, address, 1);
}

static void undo(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_best(bytes, size, address, UINT32_MAX);
}

const struct pgs_filter pgs_filter_x86 = {apply, undo};

static void apply_plain(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_plain(bytes, size, address, 1);
}

static void undo_plain(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_plain(bytes, size, address, UINT32_MAX);
}

const struct pgs_filter pgs_filter_x86_plain = {apply_plain, undo_plain};
