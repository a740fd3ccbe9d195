/* SPDX-License-Identifier: MIT
 *
 * Pages of a file that only the external pager can read.
 */
#include <stdlib.h>
#include <string.h>

#include "pagestep/error.h"
#include "pagestep/pager.h"
#include "store/extents.h"
#include "store/pager_internal.h"

struct remote_backing {
    pgs_pager *pager;
    uint32_t page_size;
    size_t extent_count;
    struct pgs_extent extents[];
};

static int read_remote(void *ctx, void *out, size_t size, uint64_t offset)
{
    const struct remote_backing *remote = ctx;
    struct pgs_blob range = {.page_no = offset, .bytes = out, .capacity = (uint32_t)size};
    int32_t status;
    return pgs_pager_read(remote->pager, &range, 1, &status);
}

static int remote_page_in(void *ctx, uint64_t page_no, void *page)
{
    const struct remote_backing *remote = ctx;
    return extents_read_page(remote->extents, remote->extent_count, remote->page_size, page_no,
                             page, read_remote, ctx);
}

static void remote_close(void *ctx)
{
    struct remote_backing *remote = ctx;
    pager_let_go(remote->pager);
    free(remote);
}

static uint64_t remote_memory_bytes(void *ctx)
{
    const struct remote_backing *remote = ctx;
    return sizeof *remote + remote->extent_count * sizeof *remote->extents +
           pager_memory_bytes(remote->pager);
}

int pgs_backing_pager(pgs_pager *pager, const struct pgs_extent *extents, size_t extent_count,
                      uint32_t page_size, struct pgs_backing *backing_ret)
{
    int error = extents_check(extents, extent_count);
    if (error)
        return error;
    struct remote_backing *remote = malloc(sizeof *remote + extent_count * sizeof *extents);
    if (!remote)
        return PGS_E_NOMEM;
    pager_keep(pager);
    remote->pager = pager;
    remote->page_size = page_size;
    remote->extent_count = extent_count;
    if (extent_count)
        memcpy(remote->extents, extents, extent_count * sizeof *extents);
    *backing_ret = (struct pgs_backing){.struct_size = sizeof *backing_ret,
                                        .flags = PGS_BACKING_LEARN_LATE,
                                        .ctx = remote,
                                        .page_in = remote_page_in,
                                        .close = remote_close,
                                        .memory_bytes = remote_memory_bytes};
    return PGS_OK;
}
