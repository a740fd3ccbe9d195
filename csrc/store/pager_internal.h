/* SPDX-License-Identifier: MIT
 *
 * One more owner of a pager's client, for what is built over it.
 */
#ifndef PGS_PAGER_INTERNAL_H
#define PGS_PAGER_INTERNAL_H

#include "pagestep/pager.h"

void pager_keep(pgs_pager *pager);
void pager_let_go(pgs_pager *pager);
uint64_t pager_memory_bytes(void *ctx);

#endif
