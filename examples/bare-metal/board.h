/* SPDX-License-Identifier: MIT
 *
 * What main.c needs of a board; cortex-m.c and riscv.c have it, with the
 * start-up. Each calls main and leaves QEMU with what it returns.
 */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

void board_put(char character);

/* A counter of instructions under QEMU's -icount shift=0, in steps of
 * BOARD_TICK_INSTRUCTIONS; differences count modulo BOARD_TICKS_MASK + 1. */
uint32_t board_ticks(void);

#ifdef __riscv
#define BOARD_TICK_INSTRUCTIONS 1u
#define BOARD_TICKS_MASK UINT32_C(0xffffffff)
#else
#define BOARD_TICK_INSTRUCTIONS 40u /* 25 MHz, where an instruction takes a nanosecond */
#define BOARD_TICKS_MASK UINT32_C(0x00ffffff)
#endif

int main(void);

#endif
