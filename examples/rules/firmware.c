/* SPDX-License-Identifier: MIT
 * Firmware of a small device, of which most can be paged: its source says so by tags, and
 * firmware.toml what the source does not. docs/RULES.md goes through it. */
#include "pagestep/pageable.h"

volatile unsigned ticks;
volatile unsigned port;

/* Runs in an interrupt, where nothing may be waited for. */
void __nonpageable tick(void)
{
    ticks = ticks + 1;
}
__no_fault(tick);

/* Sends a line; every message ends here. */
void uart_send(const char *text)
{
    while (*text)
        port = (unsigned char)*text++;
}
__may_fault(uart_send);

/* Runs once, before anything else. */
static void __pageable_once set_up(void)
{
    static const char __pageable_rodata_once hello[] = "sensor 1.0, self test passed\r\n";
    port = 0;
    ticks = 0;
    uart_send(hello);
}

/* What an engineer types at the console once a month. */
static const char __pageable_rodata_eager usage[] = "commands: show, calibrate, reset\r\n";

void __pageable_eager console_help(void)
{
    uart_send(usage);
}

void __pageable_eager console_show(void)
{
    port = ticks & 0xff;
}

/* Has no tag: firmware.toml says what becomes of it. */
void calibrate_offset(void)
{
    port = ticks * 3;
}

void calibrate_gain(void)
{
    port = ticks * 5;
}

void _start(void)
{
    set_up();
    for (;;) {
        tick();
        if (ticks % 1000 == 0)
            console_show();
        if (ticks % 100000 == 0)
            console_help();
        if (ticks % 1000000 == 0) {
            calibrate_offset();
            calibrate_gain();
        }
    }
}
