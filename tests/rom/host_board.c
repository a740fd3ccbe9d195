/* SPDX-License-Identifier: MIT
 *
 * A board that is a process, for examples/bare-metal/main.c (compiled with
 * -Dmain=read_rom): reads the image named on the command line to an odd
 * address, right before a page that cannot be touched.
 */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "board.h"
#include "host_board.h"

int read_rom(void);

const unsigned char *host_rom;
size_t host_rom_size;

void board_put(char character)
{
    putchar(character);
}

uint32_t board_ticks(void)
{
    return 0;
}

#undef main
int main(int argc, char **argv)
{
    const size_t room = 16 << 20, guard = 64 << 10;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    unsigned char *memory = mmap(NULL, room + guard, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (file == NULL || memory == MAP_FAILED || mprotect(memory + room, guard, PROT_NONE) != 0)
        return 4;
    host_rom_size = fread(memory, 1, room, file);
    rewind(file);
    host_rom_size |= 1; /* what ends at an even address begins at an odd one */
    host_rom = memory + room - host_rom_size;
    if (fread((unsigned char *)host_rom, 1, host_rom_size, file) == 0)
        return 4;
    return read_rom();
}
