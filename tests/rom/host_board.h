/* SPDX-License-Identifier: MIT
 *
 * Where main.c finds the image in a process: included before it.
 */
#include <stddef.h>

extern const unsigned char *host_rom;
extern size_t host_rom_size;
#define ROM_ADDRESS host_rom
#define ROM_SIZE_MAX host_rom_size
