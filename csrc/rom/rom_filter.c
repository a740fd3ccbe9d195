/* SPDX-License-Identifier: MIT
 *
 * Branch filters undone, as docs/FORMAT.md says them: small, one byte or word
 * at a time. csrc/codec has the fast ones, with the reasons why they invert.
 */
#include "pagestep/rom.h"

#include "rom_bytes.h"

void pgs_rom_undo_x86(unsigned char *bytes, size_t size, uint32_t address)
{
    const uint32_t range = UINT32_C(1) << 24;
    size_t at = 0;

    while (size - at >= 5) {
        uint32_t value;

        if ((bytes[at++] & 0xfe) != 0xe8)
            continue;
        value = rom_load32(bytes + at) + range;
        at += 4;
        if (value < 2 * range) {
            value = ((value - address - (uint32_t)at) & (2 * range - 1)) - range;
            rom_store32(bytes + at - 4, value);
        }
    }
}

/* Takes the word's number from the field of each word that has the opcode. */
static void undo_words(unsigned char *bytes, size_t size, uint32_t number, uint32_t field,
                       uint32_t opcode)
{
    for (; size >= 4; size -= 4, bytes += 4, number++) {
        uint32_t word = rom_load32(bytes);

        if ((word & ~field) == opcode)
            rom_store32(bytes, opcode | ((word - number) & field));
    }
}

void pgs_rom_undo_arm(unsigned char *bytes, size_t size, uint32_t address)
{
    undo_words(bytes, size, (address + 8) / 4, UINT32_C(0x00ffffff), UINT32_C(0xeb000000));
}

void pgs_rom_undo_arm64(unsigned char *bytes, size_t size, uint32_t address)
{
    undo_words(bytes, size, address / 4, UINT32_C(0x03ffffff), UINT32_C(0x94000000));
}

/* Both halfwords of a BL as one number of 24 bits, and back. I1 and I2 are the
 * exclusive nor of S with J1 and J2. */
static uint32_t thumb_offset(uint32_t a, uint32_t b)
{
    uint32_t flip = (a & 0x400) != 0 ? 0 : 3;
    uint32_t i = ((b >> 12 & 2) | (b >> 11 & 1)) ^ flip;

    return (a >> 10 & 1) << 23 | i << 21 | (a & 0x3ff) << 11 | (b & 0x7ff);
}

void pgs_rom_undo_thumb(unsigned char *bytes, size_t size, uint32_t address)
{
    size_t at;

    for (at = 0; at + 4 <= size; at += 2) {
        uint32_t a = rom_load16(bytes + at), b = rom_load16(bytes + at + 2), offset, i;

        if ((a & 0xf800) != 0xf000 || (b & 0xd000) != 0xd000)
            continue;
        offset = thumb_offset(a, b) - (address + 4 + (uint32_t)at) / 2;
        i = (offset >> 21 & 3) ^ ((offset >> 23 & 1) != 0 ? 0 : 3);
        rom_store16(bytes + at, 0xf000 | (offset >> 13 & 0x400) | (offset >> 11 & 0x3ff));
        rom_store16(bytes + at + 2, (b & 0xd000) | (i & 2) << 12 | (i & 1) << 11 | (offset & 0x7ff));
        at += 2;
    }
}

/* JAL scatters bits 20, 10:1, 11, 19:12 of its offset from bit 31 down. */
static uint32_t jal_moved(uint32_t word, uint32_t by)
{
    uint32_t offset = (word >> 31) << 20 | (word & UINT32_C(0xff000)) | (word >> 20 & 1) << 11 |
                      (word >> 21 & 0x3ff) << 1;

    offset -= by;
    return (word & 0xfff) | (offset >> 20 & 1) << 31 | (offset & UINT32_C(0xff000)) |
           (offset >> 11 & 1) << 20 | (offset >> 1 & 0x3ff) << 21;
}

/* The opcodes of an instruction that ends a pair, as bits: bits 6 to 2 of 03, 07,
 * 13, 23, 27 and 67, all of which end in 11. */
static int ends_pair(uint32_t word)
{
    const uint32_t opcodes = UINT32_C(1) << 0 | UINT32_C(1) << 1 | UINT32_C(1) << 4 |
                             UINT32_C(1) << 8 | UINT32_C(1) << 9 | UINT32_C(1) << 25;
    return (word & 3) == 3 && (opcodes >> (word >> 2 & 31) & 1) != 0;
}

static void undo_pair(unsigned char *at, uint32_t upper, uint32_t lower, uint32_t address)
{
    int is_store = (lower & 0x7b) == 0x23; /* 23 or 27 */
    uint32_t low = is_store ? (lower >> 25) << 5 | (lower >> 7 & 0x1f) : lower >> 20;
    uint32_t offset = ((upper & UINT32_C(0xfffff000)) | low) - address;

    low = offset & 0xfff;
    if (is_store)
        lower = (lower & UINT32_C(0x01fff07f)) | (low >> 5) << 25 | (low & 0x1f) << 7;
    else
        lower = (lower & UINT32_C(0x000fffff)) | low << 20;
    rom_store32(at, (upper & 0xfff) | ((offset + 0x800) & UINT32_C(0xfffff000)));
    rom_store32(at + 4, lower);
}

void pgs_rom_undo_riscv(unsigned char *bytes, size_t size, uint32_t address)
{
    size_t at = 0;

    address &= ~UINT32_C(1);
    while (size - at >= 4) {
        uint32_t word, here = address + (uint32_t)at;

        if (bytes[at] != 0xef && (bytes[at] & 0x7f) != 0x17) { /* most are neither */
            at += 2;
            continue;
        }
        word = rom_load32(bytes + at);
        if ((word & 0xdff) == 0x0ef) { /* to x1 or x5 */
            rom_store32(bytes + at, jal_moved(word, here));
            at += 4;
        } else if ((word & 0x7f) == 0x17 && (word & 0xf80) != 0 && size - at >= 8) {
            uint32_t lower = rom_load32(bytes + at + 4);
            at += 4;
            if (!ends_pair(lower))
                continue;
            if ((lower >> 15 & 0x1f) == (word >> 7 & 0x1f))
                undo_pair(bytes + at - 4, word, lower, here);
            at += 4;
        } else {
            at += 2;
        }
    }
}
