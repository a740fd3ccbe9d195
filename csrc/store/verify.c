/* SPDX-License-Identifier: MIT
 *
 * The verifier (PGS_STORE_VERIFY), as Windows' Driver Verifier has one ("Force
 * IRQL checking"): just before a thread promises to touch no page that could
 * fault, all those leave, so that a promise which would be broken once a month is
 * broken at once.
 */
#include "store/store_internal.h"

void verify_evict(pgs_store *store, struct worker *worker)
{
    if (!(store->flags & PGS_STORE_VERIFY))
        return;
    struct worker *mine = worker ? worker : worker_take(store);
    evict_all(store, mine);
    if (!worker)
        worker_give(mine);
}
