/* SPDX-License-Identifier: MIT
 *
 * Branch filters. Each is a bijection of the bytes of a page: whether an
 * instruction is converted depends only on bits that no conversion changes,
 * so apply and undo walk the same instructions.
 */
#ifndef PGS_FILTER_INTERNAL_H
#define PGS_FILTER_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

/* Both are total: any bytes, size and address. */
struct pgs_filter {
    void (*apply)(unsigned char *bytes, size_t size, uint64_t address);
    void (*undo)(unsigned char *bytes, size_t size, uint64_t address);
};

extern const struct pgs_filter pgs_filter_x86;
extern const struct pgs_filter pgs_filter_arm;
extern const struct pgs_filter pgs_filter_thumb;
extern const struct pgs_filter pgs_filter_arm64;
extern const struct pgs_filter pgs_filter_riscv;

/* pgs_filter_x86 in plain C, which does the same: it is what processors of
 * other kinds use, and what the tests compare with. */
extern const struct pgs_filter pgs_filter_x86_plain;

/* NULL where there is no such filter. PGS_FILTER_NONE has one too. */
const struct pgs_filter *pgs_filter_of(uint32_t filter_id);

#endif
