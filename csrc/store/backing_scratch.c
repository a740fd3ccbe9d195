/* SPDX-License-Identifier: MIT
 *
 * A file for changed pages in front of a read-only backing.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "pagestep/store.h"
#include "store/backing.h"
#include "store/file_io.h"

enum { WORD_BITS = 64 };

struct scratch_backing {
    struct pgs_backing base;
    int fd;
    uint32_t page_size;
    uint64_t word_count;
    _Atomic uint64_t changed[]; /* a bit a page: its bytes are in the file */
};

static uint64_t bit_of(uint64_t page_no)
{
    return (uint64_t)1 << page_no % WORD_BITS;
}

static bool is_changed(struct scratch_backing *scratch, uint64_t page_no)
{
    uint64_t word = atomic_load_explicit(&scratch->changed[page_no / WORD_BITS],
                                         memory_order_acquire);
    return word & bit_of(page_no);
}

static int scratch_page_in(void *ctx, uint64_t page_no, void *page)
{
    struct scratch_backing *scratch = ctx;
    if (!is_changed(scratch, page_no))
        return scratch->base.page_in(scratch->base.ctx, page_no, page);
    return file_read(scratch->fd, page, scratch->page_size, page_no * scratch->page_size);
}

static int scratch_page_out(void *ctx, uint64_t page_no, const void *page)
{
    struct scratch_backing *scratch = ctx;
    int error = file_write(scratch->fd, page, scratch->page_size, page_no * scratch->page_size);
    if (!error)
        atomic_fetch_or_explicit(&scratch->changed[page_no / WORD_BITS], bit_of(page_no),
                                 memory_order_release);
    return error;
}

static uint32_t scratch_source(void *ctx, uint64_t page_no, uint32_t *size_ret)
{
    struct scratch_backing *scratch = ctx;
    if (is_changed(scratch, page_no))
        return PGS_SOURCE_BACKING;
    return backing_source(&scratch->base, page_no, size_ret);
}

static uint64_t scratch_memory_bytes(void *ctx)
{
    const struct scratch_backing *scratch = ctx;
    return sizeof *scratch + scratch->word_count * sizeof(uint64_t) +
           backing_memory_bytes(&scratch->base);
}

static void scratch_close(void *ctx)
{
    struct scratch_backing *scratch = ctx;
    if (scratch->base.close)
        scratch->base.close(scratch->base.ctx);
    close(scratch->fd);
    free(scratch);
}

int pgs_backing_scratch(const struct pgs_backing *base, int fd, uint64_t page_count,
                        uint32_t page_size, struct pgs_backing *backing_ret)
{
    uint64_t words = (page_count + WORD_BITS - 1) / WORD_BITS;
    if (base->struct_size != sizeof *base || base->page_out)
        return PGS_E_INVALID;
    struct scratch_backing *scratch = calloc(1, sizeof *scratch + words * sizeof(uint64_t));
    if (!scratch)
        return PGS_E_NOMEM;
    scratch->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (scratch->fd < 0) {
        free(scratch);
        return PGS_E_IO;
    }
    scratch->base = *base;
    scratch->page_size = page_size;
    scratch->word_count = words;
    *backing_ret = (struct pgs_backing){.struct_size = sizeof *backing_ret,
                                        .flags = base->flags,
                                        .ctx = scratch,
                                        .page_in = scratch_page_in,
                                        .page_out = scratch_page_out,
                                        .close = scratch_close,
                                        .source = scratch_source,
                                        .memory_bytes = scratch_memory_bytes};
    return PGS_OK;
}
