/* SPDX-License-Identifier: MIT */
#include "filter_internal.h"

#include "pagestep/codec.h"
#include "pagestep/error.h"

static void keep(unsigned char *bytes, size_t size, uint64_t address)
{
    (void)bytes;
    (void)size;
    (void)address;
}

static const struct pgs_filter filter_none = {keep, keep};

const struct pgs_filter *pgs_filter_of(uint32_t filter_id)
{
    switch (filter_id) {
    case PGS_FILTER_NONE:
        return &filter_none;
    case PGS_FILTER_X86:
        return &pgs_filter_x86;
    case PGS_FILTER_ARM:
        return &pgs_filter_arm;
    case PGS_FILTER_THUMB:
        return &pgs_filter_thumb;
    case PGS_FILTER_ARM64:
        return &pgs_filter_arm64;
    case PGS_FILTER_RISCV:
        return &pgs_filter_riscv;
    default:
        return NULL;
    }
}

int pgs_filter_apply(uint32_t filter_id, void *bytes, size_t size, uint64_t address)
{
    const struct pgs_filter *filter = pgs_filter_of(filter_id);

    if (filter == NULL)
        return PGS_E_INVALID;
    filter->apply(bytes, size, address);
    return PGS_OK;
}

int pgs_filter_undo(uint32_t filter_id, void *bytes, size_t size, uint64_t address)
{
    const struct pgs_filter *filter = pgs_filter_of(filter_id);

    if (filter == NULL)
        return PGS_E_INVALID;
    filter->undo(bytes, size, address);
    return PGS_OK;
}
