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
    default:
        return "unknown error";
    }
}
