/* SPDX-License-Identifier: MIT
 *
 * The order in which a store's users take their locks.
 */
#ifndef PGS_LOCK_H
#define PGS_LOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "pagestep/discipline.h"

struct lock_order {
    pthread_mutex_t lock; /* nothing is called with it held */
    _Atomic uint32_t count;
    uint32_t ranks[PGS_LOCK_COUNT_MAX];
    /* Bit m of after[l]: m was taken while l was held. Only grows. */
    _Atomic uint64_t after[PGS_LOCK_COUNT_MAX];
};

#endif
