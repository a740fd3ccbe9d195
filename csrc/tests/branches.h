/* SPDX-License-Identifier: MIT
 *
 * Noise that is rich in what branch filters look for.
 */
#ifndef PGS_BRANCHES_H
#define PGS_BRANCHES_H

#include "check.h"

#include "pagestep/ids.h"

enum { FILTER_COUNT = 6 };

static inline void branches_fill(struct noise *noise, uint32_t filter_id, unsigned char *bytes,
                                 size_t size)
{
    /* What each filter looks for, so that noise has some of it. */
    static const uint32_t opcodes[FILTER_COUNT][4] = {
        {0, 0, 0, 0},
        {0x000000e8, 0xffffffe9, 0xe8e80000, 0x00ffe9e8},
        {0xeb000000, 0xebffffff, 0xeb123456, 0x0b000000},
        {0xf800f000, 0xd000f7ff, 0xf000f000, 0xf7fff7ff},
        {0x94000000, 0x97ffffff, 0x95555555, 0x14000000},
        {0x000000ef, 0xfff002ef, 0x00000297, 0x00028067},
    };
    /* More pieces of RISC-V pairs: ends of every kind, with base t0. */
    static const uint32_t riscv_pieces[] = {
        0x12345297, 0xfff28293, 0x8002b283, 0x7e52bfa3, 0x80528023, 0x00028067, 0x0002a287,
        0x8052a027, 0x00030067, 0x00000097, 0x000080e7, 0x00000017, 0x000000ef, 0xaaa002ef,
    };
    size_t i;

    noise_fill(noise, bytes, size);
    for (i = 0; i < size / 3; i++) {
        uint32_t word = opcodes[filter_id][noise_below(noise, 4)];
        size_t at = noise_below(noise, size);
        if (filter_id == PGS_FILTER_RISCV && noise_below(noise, 2)) {
            word = riscv_pieces[noise_below(noise, sizeof(riscv_pieces) / 4)];
            at &= ~(size_t)1;
        }
        memcpy(bytes + at, &word, size - at < 4 ? size - at : 4);
    }
}

#endif
