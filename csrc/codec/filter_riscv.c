/* SPDX-License-Identifier: MIT
 *
 * RISC-V: JAL to ra or t0, and AUIPC with the load, store, ADDI or JALR behind
 * it that uses its result. A pair's two immediates together are one 32-bit
 * offset, stored as the 32-bit target in the same bits.
 *
 * Why undo meets the same instructions: a decision at byte p reads bits 0 to
 * 11 of the word at p and, behind an AUIPC, the opcode (bits 0 to 6) of the
 * word at p + 4. A conversion changes bits 12 to 31 of its first word. So what
 * was read is not changed by anything that starts at p + 2 or later, or behind
 * an AUIPC at p + 4 or later. The base register at p + 4 is read only where
 * all eight bytes are then skipped.
 */
#include "filter_internal.h"

#include "le.h"

enum {
    OPCODE_MASK = 0x7f,
    OPCODE_LOAD = 0x03,
    OPCODE_LOAD_FP = 0x07,
    OPCODE_ADDI = 0x13,
    OPCODE_AUIPC = 0x17,
    OPCODE_STORE = 0x23,
    OPCODE_STORE_FP = 0x27,
    OPCODE_JALR = 0x67,
    JAL_RA = 0x0ef, /* opcode and destination register: bits 0 to 11 */
    JAL_T0 = 0x2ef
};

/* JAL scatters bits 20, 10:1, 11, 19:12 of its offset from bit 31 down. */
static inline uint32_t jal_offset(uint32_t word)
{
    return (word >> 31 & 1) << 20 | (word & UINT32_C(0x000ff000)) | (word >> 20 & 1) << 11 |
           (word >> 21 & 0x3ff) << 1;
}

static inline uint32_t jal_word(uint32_t word, uint32_t offset)
{
    return (word & 0xfff) | (offset >> 20 & 1) << 31 | (offset & UINT32_C(0x000ff000)) |
           (offset >> 11 & 1) << 20 | (offset >> 1 & 0x3ff) << 21;
}

static inline int is_store(uint32_t word)
{
    uint32_t opcode = word & OPCODE_MASK;
    return opcode == OPCODE_STORE || opcode == OPCODE_STORE_FP;
}

static inline int ends_pair(uint32_t word)
{
    uint32_t opcode = word & OPCODE_MASK;
    return opcode == OPCODE_LOAD || opcode == OPCODE_LOAD_FP || opcode == OPCODE_ADDI ||
           opcode == OPCODE_JALR || is_store(word);
}

static inline uint32_t low_12(uint32_t word)
{
    if (is_store(word))
        return (word >> 25) << 5 | (word >> 7 & 0x1f);
    return word >> 20;
}

static inline uint32_t with_low_12(uint32_t word, uint32_t value)
{
    value &= 0xfff;
    if (is_store(word))
        return (word & UINT32_C(0x01fff07f)) | (value >> 5) << 25 | (value & 0x1f) << 7;
    return (word & UINT32_C(0x000fffff)) | value << 20;
}

static inline void apply_pair(unsigned char *at, uint32_t address)
{
    uint32_t upper = pgs_load_le32(at);
    uint32_t lower = pgs_load_le32(at + 4);
    uint32_t low = low_12(lower);
    uint32_t offset = (upper & UINT32_C(0xfffff000)) + (low ^ 0x800) - 0x800;
    uint32_t target = offset + address;

    pgs_store_le32(at, (upper & 0xfff) | (target & UINT32_C(0xfffff000)));
    pgs_store_le32(at + 4, with_low_12(lower, target));
}

static inline void undo_pair(unsigned char *at, uint32_t address)
{
    uint32_t upper = pgs_load_le32(at);
    uint32_t lower = pgs_load_le32(at + 4);
    uint32_t target = (upper & UINT32_C(0xfffff000)) | low_12(lower);
    uint32_t offset = target - address;

    /* The low part counts with its sign, so the upper part makes up for it. */
    pgs_store_le32(at, (upper & 0xfff) | ((offset + 0x800) & UINT32_C(0xfffff000)));
    pgs_store_le32(at + 4, with_low_12(lower, offset));
}

static inline void walk(unsigned char *bytes, size_t size, uint64_t address, int is_undo)
{
    uint32_t base = (uint32_t)address & ~UINT32_C(1); /* a jump's offset has no bit 0 */
    size_t at = 0;

    while (size - at >= 4) {
        uint32_t word = pgs_load_le32(bytes + at);
        uint32_t here = base + (uint32_t)at;

        if ((word & 0xfff) == JAL_RA || (word & 0xfff) == JAL_T0) {
            uint32_t moved = jal_offset(word) + (is_undo ? 0 - here : here);
            pgs_store_le32(bytes + at, jal_word(word, moved));
            at += 4;
        } else if ((word & OPCODE_MASK) == OPCODE_AUIPC && (word & 0xf80) != 0 && size - at >= 8) {
            uint32_t lower = pgs_load_le32(bytes + at + 4);
            if (!ends_pair(lower)) {
                at += 4;
                continue;
            }
            if ((lower >> 15 & 0x1f) == (word >> 7 & 0x1f))
                (is_undo ? undo_pair : apply_pair)(bytes + at, here);
            at += 8;
        } else {
            at += 2;
        }
    }
}

static void apply(unsigned char *bytes, size_t size, uint64_t address)
{
    walk(bytes, size, address, 0);
}

static void undo(unsigned char *bytes, size_t size, uint64_t address)
{
    walk(bytes, size, address, 1);
}

const struct pgs_filter pgs_filter_riscv = {apply, undo};
