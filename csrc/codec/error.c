/* SPDX-License-Identifier: MIT */
#include "pagestep/error.h"

#include <stddef.h>

/* By what an error is below 0. */
static const char *const texts[] = {
    [PGS_OK] = "success",
    [-PGS_E_NOMEM] = "out of memory",
    [-PGS_E_INVALID] = "invalid argument",
    [-PGS_E_RANGE] = "no such page or object",
    [-PGS_E_CORRUPT] = "bytes differ from what was stored",
    [-PGS_E_BUDGET] = "the RAM budget is too small",
    [-PGS_E_IO] = "the backing could not be read or written",
    [-PGS_E_WOULD_FAULT] = "a fault where none is allowed",
    [-PGS_E_PINNED] = "the page is pinned",
    [-PGS_E_DIRTY] = "no other tier has the page's bytes",
    [-PGS_E_UNSUPPORTED] = "not supported here",
    [-PGS_E_ROM_MAGIC] = "not a ROM image",
    [-PGS_E_ROM_FEATURE] = "a ROM image of a format version or with a feature that this reader does not know",
    [-PGS_E_ROM_TRUNCATED] = "the ROM image is shorter than its header says",
    [-PGS_E_ROM_HEADER] = "the ROM image's header is damaged",
    [-PGS_E_ROM_TABLE] = "a table of the ROM image lies outside it, or over another",
    [-PGS_E_ROM_EXTENT] = "the bytes of the ROM image's pages overlap, or lie outside it",
    [-PGS_E_ROM_DICT] = "a dictionary of the ROM image is too large, or damaged",
    [-PGS_E_ROM_CODEC] = "the ROM image needs a codec or branch filter that this reader lacks",
    [-PGS_E_ROM_ABSENT] = "the page was left out of the ROM image",
    [-PGS_E_ATOMIC] = "not allowed in an atomic section",
    [-PGS_E_LOCK_ORDER] = "locks are taken in an order that can deadlock",
    [-PGS_E_PAGER] = "the pager needs a page that can leave",
    [-PGS_E_REENTRY] = "a backing called the store that called it",
    [-PGS_E_PAGER_POOL] = "the pager needs memory of a paged pool",
    [-PGS_E_GONE] = "the page's bytes were given up for good",
    [-PGS_E_HEAP_EXHAUSTED] = "the pool has no free run that is long enough",
    [-PGS_E_HEAP_DOUBLE_FREE] = "the block was freed before",
    [-PGS_E_HEAP_USE_AFTER_FREE] = "freed memory was used",
    [-PGS_E_HEAP_NOT_A_BLOCK] = "not a block of this pool",
    [-PGS_E_HEAP_OVERRUN] = "bytes beyond the block's end",
    [-PGS_E_TIMEOUT] = "what was waited for did not come in time",
    [-PGS_E_FULL] = "the backing store is full",
    [-PGS_E_STORE_LOST] = "the backing store cannot be reached",
    [-PGS_E_IN_USE] = "another process, or another store, uses it",
    [-PGS_E_SWAP_FOREIGN] = "not a swap file",
    [-PGS_E_SWAP_VERSION] = "a swap file of a version that is not known here",
    [-PGS_E_SWAP_OTHER] = "a swap file of other pages, or of another codec",
    [-PGS_E_NO_FAULTS] = "this process cannot have memory that faults in",
    [-PGS_E_FORKED] = "the store belongs to the parent process",
    [-PGS_E_MAPPED] = "the object is mapped",
};

const char *pgs_error_text(int error)
{
    const char *text = NULL;
    if (error <= 0 && error > -(int)(sizeof texts / sizeof *texts))
        text = texts[-error];
    return text ? text : "unknown error";
}
