/* SPDX-License-Identifier: MIT
 *
 * Who serves the faults of a range: the thread that touched it, in the handler of
 * SIGBUS, or a thread of the range's own. Functions return 0 or an errno.
 */
#ifndef PGS_SERVE_H
#define PGS_SERVE_H

#include "map/range.h"

int serve_in_sigbus(struct range *range);
void serve_in_sigbus_end(struct range *range);
/* Whether a signal says that a touch was a write. */
bool sigbus_tells_writes(void);

int serve_in_thread(struct range *range);
void serve_in_thread_end(struct range *range);

#endif
