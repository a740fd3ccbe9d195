/* SPDX-License-Identifier: MIT
 *
 * Every function that can fail returns 0 or one of these. Numbers are never
 * reused. Python's exceptions are made from the same table (codecs/errors.py).
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_ERROR_H
#define PAGESTEP_ERROR_H

enum pgs_error {
    PGS_OK = 0,
    PGS_E_NOMEM = -1,       /* the system has no memory left */
    PGS_E_INVALID = -2,     /* an argument is outside its stated range */
    PGS_E_RANGE = -3,       /* a page number or object that does not exist */
    PGS_E_CORRUPT = -4,     /* bytes that cannot be what was stored */
    PGS_E_BUDGET = -5,      /* the RAM budget cannot hold what was asked */
    PGS_E_IO = -6,          /* a backing could not read or write */
    PGS_E_WOULD_FAULT = -7, /* a fault where none is allowed */
    PGS_E_PINNED = -8,      /* the page is pinned, and so cannot leave */
    PGS_E_DIRTY = -9,       /* no other tier has the page's bytes */
    PGS_E_UNSUPPORTED = -10, /* this build or this backing cannot do it */

    /* Of ROM images (docs/FORMAT.md). */
    PGS_E_ROM_MAGIC = -11,     /* not a ROM image */
    PGS_E_ROM_FEATURE = -12,   /* a version or feature that the reader does not know */
    PGS_E_ROM_TRUNCATED = -13, /* fewer bytes than the header says */
    PGS_E_ROM_HEADER = -14,    /* the header's checksum or a number in it is wrong */
    PGS_E_ROM_TABLE = -15,     /* index, dictionary or data lie outside the image or overlap */
    PGS_E_ROM_EXTENT = -16,    /* the pages' bytes overlap, or lie outside the data */
    PGS_E_ROM_DICT = -17,      /* a dictionary is too large or does not decode */
    PGS_E_ROM_CODEC = -18,     /* a codec or filter that is not linked */
    PGS_E_ROM_ABSENT = -19,    /* the page was left out of the image */

    /* Of the discipline (pagestep/discipline.h). */
    PGS_E_ATOMIC = -20,     /* what may wait was asked for in an atomic section */
    PGS_E_LOCK_ORDER = -21, /* locks, or a lock and a page-in, in an order that can deadlock */
    PGS_E_PAGER = -22,      /* the pager needs a page that can leave */
    PGS_E_REENTRY = -23,    /* a backing called the store that called it */
    PGS_E_PAGER_POOL = -24, /* the pager needs memory of a paged pool */
    PGS_E_GONE = -25,       /* the page's bytes were given up for good */

    /* Of heaps. */
    PGS_E_HEAP_EXHAUSTED = -30,     /* no free run is long enough */
    PGS_E_HEAP_DOUBLE_FREE = -31,   /* the block was freed before */
    PGS_E_HEAP_USE_AFTER_FREE = -32, /* the same, but read or written; or free memory was written */
    PGS_E_HEAP_NOT_A_BLOCK = -33,   /* a handle that was never given out */
    PGS_E_HEAP_OVERRUN = -34,       /* bytes beyond a block's end */

    /* Of what keeps pages outside RAM (pagestep/blobs.h). */
    PGS_E_TIMEOUT = -40,     /* it, or another thread that moves a page, did not answer in time */
    PGS_E_FULL = -41,        /* it has no room left */
    PGS_E_STORE_LOST = -42,  /* it cannot be reached, or has gone */
    PGS_E_IN_USE = -43,      /* another process, or another store, uses it */
    PGS_E_SWAP_FOREIGN = -44, /* not a swap file (docs/SWAP.md) */
    PGS_E_SWAP_VERSION = -45, /* a swap file of a version that is not known */
    PGS_E_SWAP_OTHER = -46,   /* a swap file of other pages, or of another codec */

    /* Of maps (pagestep/map.h). */
    PGS_E_NO_FAULTS = -50, /* this process cannot have memory that faults in */
    PGS_E_FORKED = -51,    /* the store has had maps, and is the parent process's */
    PGS_E_MAPPED = -52     /* the object is mapped */
};

/* A short English phrase for an error code; never NULL, static storage. */
const char *pgs_error_text(int error);

#endif
