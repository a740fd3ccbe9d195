/* SPDX-License-Identifier: MIT
 *
 * Pages of a file: of its extents' bytes, and zeros between them.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "pagestep/store.h"
#include "store/extents.h"
#include "store/file_io.h"

struct file_backing {
    int fd;
    uint32_t page_size;
    size_t extent_count;
    struct pgs_extent extents[];
};

static int read_file(void *ctx, void *out, size_t size, uint64_t offset)
{
    const struct file_backing *file = ctx;
    return file_read(file->fd, out, size, offset);
}

static int file_page_in(void *ctx, uint64_t page_no, void *page)
{
    const struct file_backing *file = ctx;
    return extents_read_page(file->extents, file->extent_count, file->page_size, page_no, page,
                             read_file, ctx);
}

static void file_close(void *ctx)
{
    struct file_backing *file = ctx;
    close(file->fd);
    free(file);
}

static uint64_t file_memory_bytes(void *ctx)
{
    const struct file_backing *file = ctx;
    return sizeof *file + file->extent_count * sizeof *file->extents;
}

int pgs_backing_file(int fd, const struct pgs_extent *extents, size_t extent_count,
                     uint32_t page_size, struct pgs_backing *backing_ret)
{
    int error = extents_check(extents, extent_count);
    if (error)
        return error;
    struct file_backing *file = malloc(sizeof *file + extent_count * sizeof *extents);
    if (!file)
        return PGS_E_NOMEM;
    file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (file->fd < 0) {
        free(file);
        return PGS_E_IO;
    }
    file->page_size = page_size;
    file->extent_count = extent_count;
    if (extent_count)
        memcpy(file->extents, extents, extent_count * sizeof *extents);
    *backing_ret = (struct pgs_backing){.struct_size = sizeof *backing_ret,
                                        .ctx = file,
                                        .page_in = file_page_in,
                                        .close = file_close,
                                        .memory_bytes = file_memory_bytes};
    return PGS_OK;
}
