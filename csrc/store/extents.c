/* SPDX-License-Identifier: MIT */
#include "store/extents.h"

#include <string.h>

#include "pagestep/error.h"

int extents_check(const struct pgs_extent *extents, size_t count)
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

/* The first extent that ends after `offset`. */
static size_t find(const struct pgs_extent *extents, size_t count, uint64_t offset)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (extents[middle].object_offset + extents[middle].size <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int extents_read_page(const struct pgs_extent *extents, size_t count, uint32_t page_size,
                      uint64_t page_no, void *page, extents_read *read, void *ctx)
{
    uint64_t start = page_no * page_size, end = start + page_size, at = start;
    unsigned char *out = page;
    for (size_t i = find(extents, count, start); i < count && at < end; i++) {
        const struct pgs_extent *extent = &extents[i];
        uint64_t from = extent->object_offset > at ? extent->object_offset : at;
        uint64_t to = extent->object_offset + extent->size;
        to = to < end ? to : end;
        if (from >= end)
            break;
        memset(out + (at - start), 0, from - at);
        int error = read(ctx, out + (from - start), to - from,
                         extent->file_offset + (from - extent->object_offset));
        if (error)
            return error;
        at = to;
    }
    memset(out + (at - start), 0, end - at);
    return PGS_OK;
}
