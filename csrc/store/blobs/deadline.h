/* SPDX-License-Identifier: MIT
 *
 * Waits that end: moments of the monotonic clock, and conditions that go by it.
 */
#ifndef PGS_DEADLINE_H
#define PGS_DEADLINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Nanoseconds of the monotonic clock. */
static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t ns_of_ms(uint64_t ms)
{
    return ms * 1000000u;
}

static inline void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* Waits until signalled; false where `until_ns` has come. */
static inline bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
                                  uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                             .tv_nsec = (long)(until_ns % 1000000000u)};
    if (now_ns() >= until_ns)
        return false;
    pthread_cond_timedwait(condition, lock, &until);
    return true;
}

#endif
