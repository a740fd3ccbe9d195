/* SPDX-License-Identifier: MIT
 *
 * Start-up for RISC-V, 32 and 64 bits, as on QEMU's machine "virt" without a
 * BIOS. Output goes to the UART, and its test device ends it.
 */
#include "board.h"

#define UART ((volatile unsigned char *)0x10000000)
#define TEST_DEVICE ((volatile uint32_t *)0x00100000)

/* Called from assembly. */
__attribute__((used)) void start(void);
__attribute__((used)) void leave(uint32_t status);

/* The first instruction: a stack, and where traps go. */
__asm__(".section .start, \"ax\"\n"
        "    la sp, stack_top\n"
        "    la t0, trap\n"
        "    csrw mtvec, t0\n"
        "    j start\n"
        "    .balign 4\n"
        "trap:\n"
        "    li a0, 3\n" /* the status of a fault */
        "    j leave\n"
        ".previous\n");

void leave(uint32_t status)
{
    for (;;)
        *TEST_DEVICE = status == 0 ? 0x5555 : status << 16 | 0x3333;
}

void board_put(char character)
{
    *UART = (unsigned char)character;
}

uint32_t board_ticks(void)
{
    unsigned long count;

    __asm__ volatile("csrr %0, instret" : "=r"(count));
    return (uint32_t)count;
}

void start(void)
{
    extern unsigned char bss_start[], bss_end[]; /* of the linker script */
    unsigned char *at;

    for (at = bss_start; at != bss_end; at++)
        *(volatile unsigned char *)at = 0;
    leave((uint32_t)main());
}
