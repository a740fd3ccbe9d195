/* SPDX-License-Identifier: MIT
 *
 * The table of all open ranges of this process, with the handler of SIGBUS the only global
 * state there is. It may be looked at in a handler of a signal.
 */
#ifndef PGS_RANGES_H
#define PGS_RANGES_H

#include "map/range.h"

/* Returns 0 or an errno. */
int ranges_add(struct range *range);

/* Nobody uses it when this returns. */
void ranges_remove(struct range *range);

/* The range whose byte this is, or NULL; in use until ranges_leave with the same row. */
struct range *ranges_enter(uintptr_t address, unsigned *row_ret);
void ranges_leave(unsigned row);

#endif
