/* SPDX-License-Identifier: MIT
 *
 * The variants of pgs_checksum, which all return the same value.
 */
#ifndef PGS_CHECKSUM_INTERNAL_H
#define PGS_CHECKSUM_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define PGS_CHECKSUM_X86 1
#endif

struct pgs_checksum_variant {
    const char *name;
    int (*is_supported)(void); /* by this processor */
    uint64_t (*run)(const void *bytes, size_t size);
};

/* What words are mixed with; the first stripe's eight come first. */
extern const uint64_t pgs_checksum_keys[];

/* Ends with a NULL name; the best comes first. */
extern const struct pgs_checksum_variant pgs_checksum_variants[];

#endif
