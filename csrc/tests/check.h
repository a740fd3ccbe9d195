/* SPDX-License-Identifier: MIT
 *
 * What the C tests share: checks that say where and what, replayable noise,
 * and memory that ends where the kernel says so.
 */
#ifndef PGS_CHECK_H
#define PGS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_failed(__FILE__, __LINE__, #condition, 0, 0);                                    \
    } while (0)

#define CHECK_EQ(got, wanted)                                                                      \
    do {                                                                                           \
        long long got_ = (long long)(got), wanted_ = (long long)(wanted);                          \
        if (got_ != wanted_)                                                                       \
            check_failed(__FILE__, __LINE__, #got " == " #wanted, got_, wanted_);                  \
    } while (0)

#define CHECK_BYTES(got, wanted, size) CHECK(memcmp((got), (wanted), (size)) == 0)

/* Runs a test function and names it. */
#define RUN(test)                                                                                  \
    do {                                                                                           \
        fprintf(stderr, "%s\n", #test);                                                            \
        test();                                                                                    \
    } while (0)

static inline void check_failed(const char *file, int line, const char *what, long long got,
                                long long wanted)
{
    fprintf(stderr, "%s:%d: failed: %s (got %lld, wanted %lld)\n", file, line, what, got, wanted);
    abort();
}

/* xorshift64*: the same numbers on every machine for the same seed. */
struct noise {
    uint64_t state;
};

static inline uint64_t noise_next(struct noise *noise)
{
    noise->state ^= noise->state >> 12;
    noise->state ^= noise->state << 25;
    noise->state ^= noise->state >> 27;
    return noise->state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline size_t noise_below(struct noise *noise, size_t limit)
{
    return (size_t)((noise_next(noise) >> 16) % limit);
}

static inline void noise_fill(struct noise *noise, void *bytes, size_t size)
{
    unsigned char *at = bytes;
    size_t i;

    for (i = 0; i < size; i++)
        at[i] = (unsigned char)(noise_next(noise) >> 56);
}

static inline uint32_t noise_word(struct noise *noise)
{
    return (uint32_t)(noise_next(noise) >> 32);
}

/* A fixed seed, or the one in CHECK_SEED to play another run; printed. */
static inline struct noise noise_seeded(void)
{
    const char *text = getenv("CHECK_SEED");
    struct noise noise = {text ? strtoull(text, NULL, 0) : 20010414};
    printf("CHECK_SEED=%llu\n", (unsigned long long)noise.state);
    return noise;
}

/* `size` bytes that end, or begin, directly beside memory that cannot be
 * touched; before and behind. */
struct guarded {
    void *mapping;
    size_t mapping_size;
    unsigned char *bytes;
};

static inline struct guarded guarded_open_at(size_t size, int at_end)
{
    size_t unit = (size_t)sysconf(_SC_PAGESIZE);
    size_t usable = (size + unit - 1) / unit * unit;
    struct guarded guarded;
    unsigned char *first;

    guarded.mapping_size = usable + 2 * unit;
    guarded.mapping = mmap(NULL, guarded.mapping_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                           -1, 0);
    CHECK(guarded.mapping != MAP_FAILED);
    first = (unsigned char *)guarded.mapping + unit;
    CHECK(usable == 0 || mprotect(first, usable, PROT_READ | PROT_WRITE) == 0);
    guarded.bytes = at_end ? first + usable - size : first;
    return guarded;
}

static inline struct guarded guarded_open(size_t size)
{
    return guarded_open_at(size, 1);
}

static inline void guarded_close(struct guarded *guarded)
{
    munmap(guarded->mapping, guarded->mapping_size);
}

#endif
