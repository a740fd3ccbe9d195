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
    uint32_t frame, frames = atomic_load_explicit(&store->frame_count, memory_order_relaxed);
    /* Others may fault meanwhile: as many as there are frames will do. */
    for (uint32_t i = 0; i < frames && evict_any(store, mine, &frame); i++)
        if (frame != NO_FRAME)
            frame_give(store, frame);
    if (!worker)
        worker_give(mine);
}
