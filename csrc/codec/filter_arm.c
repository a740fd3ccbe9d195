/* SPDX-License-Identifier: MIT
 *
 * ARM's three instruction sets: the branch with link of each. Which words are
 * converted is decided by opcode bits, which stay as they are.
 */
#include "filter_internal.h"

#include "le.h"

#define SUBTRACT UINT32_MAX /* as a factor: minus one modulo 2^32 */

/* Adds sign * (word number + first) to the field of each word that has the
 * opcode. `size` is a multiple of four. */
static inline void add_to_words(unsigned char *bytes, size_t size, uint32_t first, uint32_t sign,
                                uint32_t field, uint32_t opcode)
{
    size_t at;

    for (at = 0; at < size; at += 4) {
        uint32_t word = pgs_load_le32(bytes + at);
        uint32_t moved = word + sign * (first + (uint32_t)(at / 4));
        if ((word & ~field) == opcode)
            pgs_store_le32(bytes + at, opcode | (moved & field));
    }
}

#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* Four words at a time: any processor with vectors has these, and compilers
 * do not find them by themselves in the loop above. */
typedef uint32_t words __attribute__((vector_size(16)));

static inline void walk_words(unsigned char *bytes, size_t size, uint32_t first, uint32_t sign,
                              uint32_t field, uint32_t opcode)
{
    const words zero = {0};
    const words numbers = {0, 1, 2, 3};
    const words fields = zero + field;
    const words opcodes = zero + opcode;
    words added = (numbers + first) * sign;
    size_t at;

    for (at = 0; at + sizeof(words) <= size; at += sizeof(words)) {
        words word, changes;
        memcpy(&word, bytes + at, sizeof(words));
        changes = (words)((word & ~fields) == opcodes) & fields;
        word = (word & ~changes) | ((word + added) & changes);
        memcpy(bytes + at, &word, sizeof(words));
        added += 4 * sign;
    }
    add_to_words(bytes + at, (size - at) & ~(size_t)3, first + (uint32_t)(at / 4), sign, field,
                 opcode);
}
#else
static inline void walk_words(unsigned char *bytes, size_t size, uint32_t first, uint32_t sign,
                              uint32_t field, uint32_t opcode)
{
    add_to_words(bytes, size & ~(size_t)3, first, sign, field, opcode);
}
#endif

/* A32: BL without condition; 24 bits, in words from the instruction plus 8. */
static inline void walk_arm(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    walk_words(bytes, size, (uint32_t)((address + 8) / 4), sign, UINT32_C(0x00ffffff),
               UINT32_C(0xeb000000));
}

static void arm_apply(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_arm(bytes, size, address, 1);
}

static void arm_undo(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_arm(bytes, size, address, SUBTRACT);
}

/* A64: BL; 26 bits, in words from the instruction. */
static inline void walk_arm64(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    walk_words(bytes, size, (uint32_t)(address / 4), sign, UINT32_C(0x03ffffff),
               UINT32_C(0x94000000));
}

static void arm64_apply(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_arm64(bytes, size, address, 1);
}

static void arm64_undo(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_arm64(bytes, size, address, SUBTRACT);
}

/* T32: BL is two halfwords, 11110 S imm10 and 11 J1 1 J2 imm11. The offset in
 * halfwords is S, I1, I2, imm10, imm11, where I1 and I2 are the exclusive nor
 * of S with J1 and J2: a bijection of 24 bits. A second halfword may itself
 * look like a first one, so both are skipped. A first one that has no second
 * behind it is passed over; the bits of the second that said so are opcode
 * bits in whatever it turns out to be, and never change. */
static inline int is_thumb_bl(uint32_t first, uint32_t second)
{
    return (first & 0xf800) == 0xf000 && (second & 0xd000) == 0xd000;
}

static inline uint32_t thumb_offset(uint32_t first, uint32_t second)
{
    uint32_t s = first >> 10 & 1;
    uint32_t i1 = ~((second >> 13) ^ s) & 1;
    uint32_t i2 = ~((second >> 11) ^ s) & 1;
    return s << 23 | i1 << 22 | i2 << 21 | (first & 0x3ff) << 11 | (second & 0x7ff);
}

static inline void walk_thumb(unsigned char *bytes, size_t size, uint64_t address, uint32_t sign)
{
    uint32_t base = (uint32_t)((address + 4) / 2);
    size_t at;

    for (at = 0; at + 4 <= size; at += 2) {
        uint32_t first = pgs_load_le16(bytes + at);
        uint32_t second = pgs_load_le16(bytes + at + 2);
        uint32_t offset, s;
        if (!is_thumb_bl(first, second))
            continue;
        offset = thumb_offset(first, second) + sign * (base + (uint32_t)(at / 2));
        s = offset >> 23 & 1;
        first = 0xf000 | s << 10 | (offset >> 11 & 0x3ff);
        second = (second & 0xd000) | (~((offset >> 22) ^ s) & 1) << 13 |
                 (~((offset >> 21) ^ s) & 1) << 11 | (offset & 0x7ff);
        pgs_store_le16(bytes + at, (uint16_t)first);
        pgs_store_le16(bytes + at + 2, (uint16_t)second);
        at += 2;
    }
}

static void thumb_apply(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_thumb(bytes, size, address, 1);
}

static void thumb_undo(unsigned char *bytes, size_t size, uint64_t address)
{
    walk_thumb(bytes, size, address, SUBTRACT);
}

const struct pgs_filter pgs_filter_arm = {arm_apply, arm_undo};
const struct pgs_filter pgs_filter_arm64 = {arm64_apply, arm64_undo};
const struct pgs_filter pgs_filter_thumb = {thumb_apply, thumb_undo};
