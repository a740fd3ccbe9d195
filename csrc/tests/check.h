/* SPDX-License-Identifier: MIT
 *
 * What the C tests share: a check that says where it failed, and replayable
 * random numbers.
 */
#ifndef PGS_CHECK_H
#define PGS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                              \
        }                                                                                         \
    } while (0)

/* splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
 * generators", 2014). */
static inline uint64_t check_random64(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline uint32_t check_random(uint64_t *seed)
{
    return (uint32_t)(check_random64(seed) >> 32);
}

/* A fixed seed, or the one in CHECK_SEED to play another run. */
static inline uint64_t check_seed(void)
{
    const char *text = getenv("CHECK_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : 20010414;
    printf("CHECK_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

#endif
