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

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { CHUNK = 64, INSTRUCTION = 5 };

static const uint32_t RANGE = UINT32_C(1) << 24; /* targets lie within +-RANGE */

/* Bit i is set where byte i may be an opcode. */
#if defined(__SSE2__)
static inline uint64_t opcodes_16(const unsigned char *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)at);
    __m128i cleared = _mm_and_si128(bytes, _mm_set1_epi8((char)0xfe));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(cleared, _mm_set1_epi8((char)0xe8)));
}

static inline uint64_t opcodes_64(const unsigned char *at)
{
    return opcodes_16(at) | opcodes_16(at + 16) << 16 | opcodes_16(at + 32) << 32 |
           opcodes_16(at + 48) << 48;
}
#else
static inline uint64_t opcodes_8(const unsigned char *at)
{
    const uint64_t low7 = UINT64_C(0x7f7f7f7f7f7f7f7f);
    uint64_t differs = (pgs_load_le64(at) & UINT64_C(0xfefefefefefefefe)) ^
                       UINT64_C(0xe8e8e8e8e8e8e8e8);
    uint64_t equal = ~(((differs & low7) + low7) | differs | low7); /* 0x80 in each equal byte */
    return ((equal >> 7) * UINT64_C(0x0102040810204080)) >> 56;
}

static inline uint64_t opcodes_64(const unsigned char *at)
{
    uint64_t mask = 0;
    unsigned i;

    for (i = 0; i < 8; i++)
        mask |= opcodes_8(at + i * 8) << (i * 8);
    return mask;
}
#endif

/* `sign` is 1 to add the instruction's address and -1 to take it away. */
static inline void convert(unsigned char *operand, uint32_t next_address, uint32_t sign)
{
    uint32_t value = pgs_load_le32(operand);
    uint32_t moved = (value + RANGE + sign * next_address) & (2 * RANGE - 1);

    if (value + RANGE < 2 * RANGE)
        pgs_store_le32(operand, moved - RANGE);
}

static inline void walk(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    uint32_t base = (uint32_t)address;
    size_t next = 0; /* the first byte that is no operand of what came before */
    size_t chunk;

    for (chunk = 0; chunk + CHUNK <= size; chunk += CHUNK) {
        uint64_t mask = opcodes_64(bytes + chunk);
        if (next > chunk)
            mask &= ~UINT64_C(0) << (next - chunk);
        while (mask != 0) {
            size_t at = chunk + (size_t)__builtin_ctzll(mask);
            next = at + INSTRUCTION;
            if (next > size)
                return;
            convert(bytes + at + 1, base + (uint32_t)next, sign);
            if (next >= chunk + CHUNK)
                break;
            mask &= ~UINT64_C(0) << (next - chunk);
        }
    }
    for (next = next > chunk ? next : chunk; next + INSTRUCTION <= size; next++) {
        if ((bytes[next] & 0xfe) != 0xe8)
            continue;
        convert(bytes + next + 1, base + (uint32_t)next + INSTRUCTION, sign);
        next += INSTRUCTION - 1;
    }
}

static void apply(unsigned char *bytes, size_t size, uint64_t address)
{
    walk(bytes, size, address, 1);
}

static void undo(unsigned char *bytes, size_t size, uint64_t address)
{
    walk(bytes, size, address, UINT32_MAX);
}

const struct pgs_filter pgs_filter_x86 = {apply, undo};
