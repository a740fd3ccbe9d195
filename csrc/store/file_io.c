/* SPDX-License-Identifier: MIT */
#include "store/file_io.h"

#include <errno.h>
#include <unistd.h>

#include "pagestep/error.h"

int file_read(int fd, void *to, size_t size, uint64_t offset)
{
    unsigned char *at = to;
    while (size > 0) {
        ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return PGS_E_IO; /* an error, or the file has become shorter */
        at += got;
        size -= (size_t)got;
        offset += (uint64_t)got;
    }
    return PGS_OK;
}

int file_write(int fd, const void *from, size_t size, uint64_t offset)
{
    const unsigned char *at = from;
    while (size > 0) {
        ssize_t put = pwrite(fd, at, size, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == ENOSPC || errno == EDQUOT))
            return PGS_E_FULL;
        if (put <= 0)
            return PGS_E_IO;
        at += put;
        size -= (size_t)put;
        offset += (uint64_t)put;
    }
    return PGS_OK;
}
