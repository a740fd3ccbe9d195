/* SPDX-License-Identifier: MIT
 *
 * Start-up for a Cortex-M, as on the board MPS2 with AN385. Output and exit go
 * through semihosting.
 */
#include <stddef.h>

#include "board.h"

enum { SYS_WRITEC = 0x03, SYS_EXIT_EXTENDED = 0x20, STOPPED_BY_APPLICATION = 0x20026 };
enum { STATUS_FAULT = 3 };

#define SYSTICK ((volatile uint32_t *)0xe000e010) /* control, reload, value */

extern unsigned char bss_start[], bss_end[], stack_top[]; /* of the linker script */

static void semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;

    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void leave(uint32_t status)
{
    const uint32_t why[2] = {STOPPED_BY_APPLICATION, status};

    for (;;)
        semihost(SYS_EXIT_EXTENDED, why);
}

void board_put(char character)
{
    semihost(SYS_WRITEC, &character);
}

uint32_t board_ticks(void)
{
    return 0 - SYSTICK[2]; /* it counts down */
}

static void fault(void)
{
    leave(STATUS_FAULT);
}

void reset(void);
void reset(void)
{
    unsigned char *at;

    for (at = bss_start; at != bss_end; at++)
        *(volatile unsigned char *)at = 0;
    SYSTICK[1] = BOARD_TICKS_MASK;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* on, with the processor's clock and no interrupt */
    leave((uint32_t)main());
}

/* The stack, and where exceptions 1 to 6 go. */
__attribute__((section(".vectors"), used)) static void (*const vectors[])(void) = {
    (void (*)(void))stack_top, reset, fault, fault, fault, fault, fault};
