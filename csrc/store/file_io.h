/* SPDX-License-Identifier: MIT
 *
 * Whole reads and writes at a place in a file: PGS_OK or PGS_E_IO.
 */
#ifndef PGS_FILE_IO_H
#define PGS_FILE_IO_H

#include <stddef.h>
#include <stdint.h>

int file_read(int fd, void *to, size_t size, uint64_t offset);
int file_write(int fd, const void *from, size_t size, uint64_t offset);

#endif
