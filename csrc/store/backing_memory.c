/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "pagestep/error.h"
#include "pagestep/store.h"

struct memory_backing {
    const unsigned char *base;
    uint64_t size;
    uint32_t page_size;
};

static int memory_page_in(void *ctx, uint64_t page_no, void *page)
{
    const struct memory_backing *memory = ctx;
    uint64_t start = page_no * memory->page_size;
    uint64_t rest = start < memory->size ? memory->size - start : 0;
    uint32_t size = rest < memory->page_size ? (uint32_t)rest : memory->page_size;
    if (size)
        memcpy(page, memory->base + start, size);
    memset((unsigned char *)page + size, 0, memory->page_size - size);
    return PGS_OK;
}

static uint64_t memory_memory_bytes(void *ctx)
{
    (void)ctx;
    return sizeof(struct memory_backing);
}

int pgs_backing_memory(const void *base, uint64_t size, uint32_t page_size,
                       struct pgs_backing *backing_ret)
{
    struct memory_backing *memory = malloc(sizeof *memory);
    if (!memory)
        return PGS_E_NOMEM;
    *memory = (struct memory_backing){.base = base, .size = size, .page_size = page_size};
    *backing_ret = (struct pgs_backing){.struct_size = sizeof *backing_ret,
                                        .ctx = memory,
                                        .page_in = memory_page_in,
                                        .close = free,
                                        .memory_bytes = memory_memory_bytes};
    return PGS_OK;
}
