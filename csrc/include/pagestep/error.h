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
    PGS_E_UNSUPPORTED = -10 /* this build or this backing cannot do it */
};

/* A short English phrase for an error code; never NULL, static storage. */
const char *pgs_error_text(int error);

#endif
