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
#include "store/file_io.h"

struct file_backing {
    int fd;
    uint32_t page_size;
    size_t extent_count;
    struct pgs_extent extents[];
};

/* The first extent that ends after `offset`. */
static size_t find(const struct file_backing *file, uint64_t offset)
{
    size_t low = 0, high = file->extent_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct pgs_extent *extent = &file->extents[middle];
        if (extent->object_offset + extent->size <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int file_page_in(void *ctx, uint64_t page_no, void *page)
{
    const struct file_backing *file = ctx;
    uint64_t start = page_no * file->page_size, end = start + file->page_size, at = start;
    unsigned char *out = page;
    for (size_t i = find(file, start); i < file->extent_count && at < end; i++) {
        const struct pgs_extent *extent = &file->extents[i];
        uint64_t from = extent->object_offset > at ? extent->object_offset : at;
        uint64_t to = extent->object_offset + extent->size;
        to = to < end ? to : end;
        if (from >= end)
            break;
        memset(out + (at - start), 0, from - at);
        int error = file_read(file->fd, out + (from - start), to - from,
                               extent->file_offset + (from - extent->object_offset));
        if (error)
            return error;
        at = to;
    }
    memset(out + (at - start), 0, end - at);
    return PGS_OK;
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

/* Sorted, apart from each other, and no sum wraps round. */
static int check(const struct pgs_extent *extents, size_t count)
{
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct pgs_extent *extent = &extents[i];
        if (extent->object_offset < end || extent->size > INT64_MAX ||
            extent->object_offset > INT64_MAX - extent->size ||
            extent->file_offset > INT64_MAX - extent->size)
            return PGS_E_INVALID;
        end = extent->object_offset + extent->size;
    }
    return PGS_OK;
}

int pgs_backing_file(int fd, const struct pgs_extent *extents, size_t extent_count,
                     uint32_t page_size, struct pgs_backing *backing_ret)
{
    int error = check(extents, extent_count);
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
