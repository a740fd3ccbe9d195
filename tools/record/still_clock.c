// SPDX-License-Identifier: MIT
// Preloaded into QEMU: its wall clock stands still.
//
// QEMU shrinks its TLB by the wall clock. What falls out of it decides when the guest's page tables
// get their accessed bits, which reclaim reads: two recordings would differ once the guest swaps.
// Nothing else of the recorded guest asks for this clock.
#include <stddef.h>
#include <sys/time.h>

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict now,
                                                        void *restrict zone)
{
    (void)zone;
    *now = (struct timeval){.tv_sec = 1, .tv_usec = 0};
    return 0;
}
