/* SPDX-License-Identifier: MIT
 *
 * What a touch costs that faults, in a store's map and in the system's memory:
 *
 *   bench_faults [--rounds N] [--swap] IMAGE
 *
 * --swap: the only swap is zram's, set up by bench_faults.py; without it there is
 * nothing to swap to, and no limit. Prints one JSON array; times in nanoseconds.
 */
#define _GNU_SOURCE /* processors to run on */
#include "bench_faults.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 200, ROUNDS_MAX = 10000 };

struct measured {
    double *ns;      /* of every touch, or per page of every run */
    double *medians; /* of every round */
    size_t count, rounds;
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of values in their order. */
static double percentile(const double *values, size_t count, unsigned percent)
{
    return values[(count - 1) * percent / 100];
}

static double median_of(const double *values, size_t count)
{
    double *sorted = allocate(count * sizeof *sorted), found;
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_value);
    found = percentile(sorted, count, 50);
    free(sorted);
    return found;
}

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    uint64_t value;
    random_order(&value, 1, below, *seed);
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return value;
}

/* Draws pages that are not same-filled and so far apart that no fault brings another
 * one of them along, in random order. */
static void draw_pages(const struct image *image, uint64_t *seed, uint64_t *page_nos)
{
    size_t apart = image->distinct_count / CHUNK_PAGES, offset = draw(seed, apart);

    require(apart > 16, "the image has too few pages");
    for (size_t i = 0; i < CHUNK_PAGES; i++)
        page_nos[i] = image->distinct[i * apart + offset];
    for (size_t i = CHUNK_PAGES - 1; i > 0; i--) {
        size_t other = draw(seed, i + 1);
        uint64_t page_no = page_nos[i];
        page_nos[i] = page_nos[other];
        page_nos[other] = page_no;
    }
}

static void draw_run(const struct image *image, uint64_t *seed, uint64_t *page_nos, size_t count)
{
    uint64_t first = draw(seed, image->page_count - count + 1);
    for (size_t i = 0; i < count; i++)
        page_nos[i] = first + i;
}

/* What is written is what is there: the page stays equal to the image. */
static void touch(const struct kind *kind, const struct image *image, uint64_t page_no)
{
    volatile unsigned char *at = kind->base + page_no * PAGE;
    if (kind->writes)
        *at = image->bytes[page_no * PAGE];
    else
        (void)*at;
}

static void run_singles(const struct kind *kind, const struct image *image,
                        const uint64_t *page_nos, double *ns)
{
    for (size_t i = 0; i < CHUNK_PAGES; i++) {
        double start = now_ns();
        touch(kind, image, page_nos[i]);
        ns[i] = now_ns() - start;
    }
}

static void run_whole(const struct kind *kind, const struct image *image,
                      const uint64_t *page_nos, double *ns)
{
    double start = now_ns();
    for (size_t i = 0; i < kind->run; i++)
        touch(kind, image, page_nos[i]);
    *ns = (now_ns() - start) / (double)kind->run;
}

static void run_round(const struct kind *kind, const struct image *image, uint64_t *seed,
                      struct measured *m)
{
    size_t count = kind->run ? kind->run : CHUNK_PAGES, samples = kind->run ? 1 : CHUNK_PAGES;
    uint64_t *page_nos = allocate(count * sizeof *page_nos);

    if (kind->run)
        draw_run(image, seed, page_nos, count);
    else
        draw_pages(image, seed, page_nos);
    kind->prepare(kind->ctx, page_nos, count);
    if (kind->run)
        run_whole(kind, image, page_nos, m->ns + m->count);
    else
        run_singles(kind, image, page_nos, m->ns + m->count);
    if (kind->check)
        kind->check(kind->ctx, page_nos, count);
    m->medians[m->rounds++] = median_of(m->ns + m->count, samples);
    m->count += samples;
    free(page_nos);
}

/* The kind that another is held against: zram's of the same pattern. */
static const struct kind *limit_of(const struct kind *kinds, size_t count, const struct kind *kind)
{
    for (size_t i = 0; i < count; i++)
        if (kinds[i].run == kind->run && !strncmp(kinds[i].name, "zram", 4))
            return &kinds[i];
    return NULL;
}

static void print_row(const struct kind *kinds, size_t count, const struct measured *all, size_t k)
{
    const struct kind *limit = limit_of(kinds, count, &kinds[k]);
    const struct measured *m = &all[k];
    double *ratios = allocate(m->rounds * sizeof *ratios), ratio = 0;

    if (limit) {
        for (size_t i = 0; i < m->rounds; i++)
            ratios[i] = m->medians[i] / all[limit - kinds].medians[i];
        ratio = median_of(ratios, m->rounds);
    }
    qsort(m->ns, m->count, sizeof *m->ns, by_value);
    printf("%s{\"group\": \"%s\", \"arm\": \"%s\", \"samples\": %zu, \"p50_ns\": %.0f, "
           "\"p90_ns\": %.0f, \"p99_ns\": %.0f, \"ratio\": %.4f}",
           k ? ",\n" : "[", kinds[k].group, kinds[k].name, m->count, percentile(m->ns, m->count, 50),
           percentile(m->ns, m->count, 90), percentile(m->ns, m->count, 99), ratio);
    free(ratios);
}

/* Stays on the processor that it is on: another one's batches of pages would keep them
 * from being swapped out. */
static void stay(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    require(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

int main(int argc, char **argv)
{
    struct kind kinds[KINDS_MAX];
    struct measured all[KINDS_MAX] = {0};
    struct image image;
    unsigned rounds = ROUNDS;
    bool swap = false;
    uint64_t seed = 12345;
    size_t count;
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--swap"))
            swap = true;
        else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
            rounds = (unsigned)strtoul(argv[++i], NULL, 10);
    }
    require(argc - i == 1 && rounds > 0 && rounds <= ROUNDS_MAX,
            "usage: bench_faults [--rounds N] [--swap] IMAGE");
    image_load(&image, argv[i], PGS_FILTER_NONE);
    count = map_kinds(&image, kinds); /* threads that a map may have run where they like */
    stay();
    count += system_kinds(&image, swap, kinds + count);
    for (size_t k = 0; k < count; k++) {
        all[k].ns = allocate((rounds + 1) * CHUNK_PAGES * sizeof *all[k].ns);
        all[k].medians = allocate((rounds + 1) * sizeof *all[k].medians);
        run_round(&kinds[k], &image, &seed, &all[k]); /* warm up: tables, coders, the clock */
        all[k].count = all[k].rounds = 0;
    }
    for (unsigned round = 0; round < rounds; round++)
        for (size_t turn = 0; turn < count; turn++) {
            size_t k = (turn + round) % count;
            run_round(&kinds[k], &image, &seed, &all[k]);
        }
    map_end();
    for (size_t k = 0; k < count; k++)
        print_row(kinds, count, all, k);
    printf("]\n");
    return 0;
}
