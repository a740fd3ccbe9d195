/* SPDX-License-Identifier: MIT */
#include "pagestep/error.h"

const char *pgs_error_text(int error)
{
    switch (error) {
    case PGS_OK:
        return "success";
    case PGS_E_NOMEM:
        return "out of memory";
    case PGS_E_INVALID:
        return "invalid argument";
    case PGS_E_RANGE:
        return "no such page or object";
    case PGS_E_CORRUPT:
        return "bytes differ from what was stored";
    case PGS_E_BUDGET:
        return "the RAM budget is too small";
    case PGS_E_IO:
        return "the backing could not be read or written";
    case PGS_E_WOULD_FAULT:
        return "a fault where none is allowed";
    case PGS_E_PINNED:
        return "the page is pinned";
    case PGS_E_DIRTY:
        return "no other tier has the page's bytes";
    case PGS_E_UNSUPPORTED:
        return "not supported here";
    case PGS_E_ROM_MAGIC:
        return "not a ROM image";
    case PGS_E_ROM_FEATURE:
        return "a ROM image of a format version or with a feature that this reader does not know";
    case PGS_E_ROM_TRUNCATED:
        return "the ROM image is shorter than its header says";
    case PGS_E_ROM_HEADER:
        return "the ROM image's header is damaged";
    case PGS_E_ROM_TABLE:
        return "a table of the ROM image lies outside it, or over another";
    case PGS_E_ROM_EXTENT:
        return "the bytes of the ROM image's pages overlap, or lie outside it";
    case PGS_E_ROM_DICT:
        return "a dictionary of the ROM image is too large, or damaged";
    case PGS_E_ROM_CODEC:
        return "the ROM image needs a codec or branch filter that this reader lacks";
    case PGS_E_ROM_ABSENT:
        return "the page was left out of the ROM image";
    case PGS_E_ATOMIC:
        return "not allowed in an atomic section";
    case PGS_E_LOCK_ORDER:
        return "locks are taken in an order that can deadlock";
    case PGS_E_PAGER:
        return "the pager needs a page that can leave";
    case PGS_E_REENTRY:
        return "a backing called the store that called it";
    case PGS_E_PAGER_POOL:
        return "the pager needs memory of a paged pool";
    case PGS_E_GONE:
        return "the page's bytes were given up for good";
    case PGS_E_HEAP_EXHAUSTED:
        return "the pool has no free run that is long enough";
    case PGS_E_HEAP_DOUBLE_FREE:
        return "the block was freed before";
    case PGS_E_HEAP_USE_AFTER_FREE:
        return "freed memory was used";
    case PGS_E_HEAP_NOT_A_BLOCK:
        return "not a block of this pool";
    case PGS_E_HEAP_OVERRUN:
        return "bytes beyond the block's end";
    case PGS_E_TIMEOUT:
        return "the backing store did not answer in time";
    case PGS_E_FULL:
        return "the backing store is full";
    case PGS_E_STORE_LOST:
        return "the backing store cannot be reached";
    case PGS_E_IN_USE:
        return "another process, or another store, uses it";
    case PGS_E_SWAP_FOREIGN:
        return "not a swap file";
    case PGS_E_SWAP_VERSION:
        return "a swap file of a version that is not known here";
    case PGS_E_SWAP_OTHER:
        return "a swap file of other pages, or of another codec";
    default:
        return "unknown error";
    }
}
