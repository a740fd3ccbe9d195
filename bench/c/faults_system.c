/* SPDX-License-Identifier: MIT
 *
 * What the kernel itself does: swap-in, which is from zram where that is the only
 * swap, and the first touch of anonymous memory.
 */
#define _GNU_SOURCE /* MADV_PAGEOUT, getrusage of a thread */
#include "bench_faults.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { TRIES = 50 };

struct region {
    const struct image *image;
    unsigned char *base;
    size_t size;
    bool swapped;
    long faults; /* of this thread, when the pages were ready */
};

static long thread_faults(bool major)
{
    struct rusage usage;
    require(getrusage(RUSAGE_THREAD, &usage) == 0, "getrusage");
    return major ? usage.ru_majflt : usage.ru_minflt;
}

static size_t resident(const struct region *r, const uint64_t *page_nos, size_t count)
{
    static unsigned char there[1 << 16];
    size_t found = 0;

    require(r->size / PAGE <= sizeof there, "the image is too large");
    require(mincore(r->base, r->size, there) == 0, "mincore");
    for (size_t i = 0; i < count; i++)
        found += there[page_nos[i]] & 1;
    return found;
}

static void swap_out(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct region *r = ctx;

    /* Pages that another processor has in a batch of its own stay at the first try. */
    for (unsigned i = 0; i < TRIES; i++) {
        require(madvise(r->base, r->size, MADV_PAGEOUT) == 0, "MADV_PAGEOUT");
        if (resident(r, page_nos, count) * 100 < count)
            break;
    }
    require(resident(r, page_nos, count) * 100 < count, "pages do not leave: is there swap?");
    r->faults = thread_faults(true);
}

static void forget(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct region *r = ctx;

    (void)page_nos, (void)count;
    require(madvise(r->base, r->size, MADV_DONTNEED) == 0, "MADV_DONTNEED");
    r->faults = thread_faults(false);
}

static void check_region(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct region *r = ctx;
    size_t faults = (size_t)(thread_faults(r->swapped) - r->faults);

    require(faults * 100 >= count * 95, "touches of the system's memory were no faults");
    if (!r->swapped)
        return;
    for (size_t i = 0; i < count; i++)
        require(!memcmp(r->base + page_nos[i] * PAGE, r->image->bytes + page_nos[i] * PAGE, PAGE),
                "swap gave other bytes");
}

static struct region *region_make(const struct image *image, bool swapped)
{
    struct region *r = allocate(sizeof *r);

    *r = (struct region){.image = image, .size = image->page_count * PAGE, .swapped = swapped};
    r->base = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(r->base != MAP_FAILED, "out of memory");
    require(madvise(r->base, r->size, MADV_NOHUGEPAGE) == 0, "MADV_NOHUGEPAGE");
    if (swapped)
        memcpy(r->base, image->bytes, r->size);
    return r;
}

size_t system_kinds(const struct image *image, bool with_swap, struct kind *kinds)
{
    struct region *fresh = region_make(image, false), *swapped;
    size_t count = 0;

    if (with_swap) {
        swapped = region_make(image, true);
        kinds[count++] = (struct kind){.group = "random", .name = "zram lz4 swap-in",
                                       .ctx = swapped, .prepare = swap_out,
                                       .check = check_region, .base = swapped->base};
        kinds[count++] = (struct kind){.group = "run", .name = "zram lz4 swap-in",
                                       .run = RUN_PAGES, .ctx = swapped, .prepare = swap_out,
                                       .check = check_region, .base = swapped->base};
        kinds[count++] = (struct kind){.group = "scan", .name = "zram lz4 swap-in",
                                       .run = image->page_count, .ctx = swapped,
                                       .prepare = swap_out, .check = check_region,
                                       .base = swapped->base};
    }
    kinds[count++] = (struct kind){.group = "random", .name = "anonymous, first touch",
                                   .writes = true, .ctx = fresh, .prepare = forget,
                                   .check = check_region, .base = fresh->base};
    return count;
}
