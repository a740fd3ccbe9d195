/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "map/range.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "map/ranges.h"
#include "map/serve.h"
#include "map/uffd.h"

/* PAGEMAP_SCAN, since Linux 6.7: fs/proc/task_mmu.c */
enum { SCAN_WRITTEN = 1 << 1, SCAN_PRESENT = 1 << 3, SCAN_MARKED = 1 << 4 };
struct scanned {
    uint64_t start, end, categories;
};
struct scan {
    uint64_t size, flags, start, end, walk_end, found, found_count, max_pages, inverted, mask,
        any_of, wanted;
};
#define SCAN_REQUEST _IOWR('f', 16, struct scan)

static const uint64_t needed = UFFD_HAS_MINOR_SHMEM | UFFD_HAS_WP_SHMEM;

static bool scan_page(int pagemap, const void *at, size_t size, uint64_t *categories_ret)
{
    struct scanned found = {0};
    struct scan scan = {.size = sizeof scan,
                        .start = (uintptr_t)at,
                        .end = (uintptr_t)at + size,
                        .found = (uintptr_t)&found,
                        .found_count = 1,
                        .wanted = SCAN_WRITTEN | SCAN_PRESENT | SCAN_MARKED};
    int count = ioctl(pagemap, SCAN_REQUEST, &scan);
    *categories_ret = found.categories;
    return count >= 0;
}

static bool can_scan(void)
{
    uint64_t unused;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    void *page = mmap(NULL, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool can = pagemap >= 0 && page != MAP_FAILED &&
               scan_page(pagemap, page, (size_t)sysconf(_SC_PAGESIZE), &unused);
    if (page != MAP_FAILED)
        munmap(page, 1);
    if (pagemap >= 0)
        close(pagemap);
    return can;
}

void range_probe(struct range_abilities *abilities)
{
    struct uffd_support support;
    uffd_probe(&support);
    *abilities = (struct range_abilities){.error = support.error};
    if (support.error)
        return;
    if ((support.features & needed) != needed) {
        abilities->missing = support.features & UFFD_HAS_MINOR_SHMEM
                                 ? "write protection of shared memory, which Linux 5.19 has"
                                 : "minor faults of shared memory, which Linux 5.14 has";
        return;
    }
    abilities->by_thread = true;
    abilities->by_sigbus = support.features & UFFD_HAS_SIGBUS;
    abilities->by_sigbus_for_writes = abilities->by_sigbus && sigbus_tells_writes();
    abilities->by_thread_in_system_calls = support.system_calls;
    abilities->notes_writes = (support.features & UFFD_HAS_WP_ASYNC) && can_scan();
}

static uint64_t features_for(const struct range *range, uint64_t has)
{
    uint64_t features = needed;
    if (range->service == RANGE_SIGBUS)
        features |= UFFD_HAS_SIGBUS;
    else
        features |= has & UFFD_HAS_THREAD_ID;
    if (range->writes == RANGE_WRITES_NOTED)
        features |= UFFD_HAS_WP_ASYNC;
    return features;
}

static int open_descriptors(struct range *range)
{
    struct uffd_support support;
    uffd_probe(&support);
    range->system_calls = support.system_calls && range->service == RANGE_THREAD;
    int error = uffd_open(features_for(range, support.features), range->system_calls, &range->fd);
    if (error || range->writes != RANGE_WRITES_NOTED)
        return error;
    range->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return range->pagemap < 0 ? errno : 0;
}

static int map_home(struct range *range)
{
    int access = range->writes == RANGE_READ_ONLY ? PROT_READ : PROT_READ | PROT_WRITE;
    void *base = mmap(NULL, range->size, access, MAP_SHARED | MAP_NORESERVE,
                      range->home->fd, 0);
    if (base == MAP_FAILED)
        return errno;
    range->base = base;
    madvise(base, range->size, MADV_DONTFORK);
    madvise(base, range->size, MADV_NOHUGEPAGE);
    return uffd_register(range->fd, base, range->size, range->writes != RANGE_READ_ONLY);
}

/* Since Linux 6.4. Where the mode is known it is EFAULT, or the page, that the home has from an
 * earlier map, is mapped: nobody knows of that, so it goes again. */
static bool can_mark_when_attached(const struct range *range, size_t page_size)
{
    if (range->writes == RANGE_READ_ONLY)
        return false;
    int error = uffd_continue(range->fd, range->base, page_size, true);
    if (!error)
        range_detach(range, 0, page_size);
    return error != EINVAL;
}

static void close_all(struct range *range)
{
    int *const descriptors[] = {&range->fd, &range->pagemap, &range->stop};
    if (range->base && home_is_here(range->forks))
        munmap(range->base, range->size);
    range->base = NULL;
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++) {
        if (*descriptors[i] >= 0)
            close(*descriptors[i]);
        *descriptors[i] = -1;
    }
}

int range_open(struct range *range, const struct home *home, enum range_service service,
               enum range_writes writes, const struct range_owner *owner)
{
    *range = (struct range){.size = home->size,
                            .forks = home->forks,
                            .home = home,
                            .owner = *owner,
                            .service = service,
                            .writes = writes,
                            .fd = -1,
                            .pagemap = -1,
                            .stop = -1};
    int error = open_descriptors(range);
    if (!error)
        error = map_home(range);
    if (!error) {
        range->marks_when_attached = can_mark_when_attached(range, (size_t)sysconf(_SC_PAGESIZE));
        error = ranges_add(range);
    }
    if (!error) {
        error = service == RANGE_SIGBUS ? serve_in_sigbus(range) : serve_in_thread(range);
        if (error)
            ranges_remove(range);
    }
    if (error)
        close_all(range);
    return error;
}

void range_close(struct range *range)
{
    bool here = home_is_here(range->forks);
    if (here && range->service == RANGE_SIGBUS)
        serve_in_sigbus_end(range);
    else if (here)
        serve_in_thread_end(range);
    ranges_remove(range);
    close_all(range);
}

int range_install(const struct range *range, size_t offset, const void *bytes, size_t size,
                  bool protect, size_t *done_ret)
{
    struct uffd_bytes copied = {.size = size, .waited_for = range->service == RANGE_THREAD};
    int error = uffd_copy(range->fd, range->base + offset, bytes, &copied,
                          protect && range->writes != RANGE_READ_ONLY);
    *done_ret = copied.done;
    return error;
}

int range_attach(const struct range *range, size_t offset, size_t size, bool protect)
{
    return uffd_continue(range->fd, range->base + offset, size,
                         protect && range->writes != RANGE_READ_ONLY);
}

int range_unprotect(const struct range *range, size_t offset, size_t size)
{
    return uffd_unprotect(range->fd, range->base + offset, size);
}

void range_detach(const struct range *range, size_t offset, size_t size)
{
    madvise(range->base + offset, size, MADV_DONTNEED);
}

bool range_written(const struct range *range, size_t offset, size_t size)
{
    uint64_t categories;
    /* What was protected when it was detached has left a mark that says so. */
    return !scan_page(range->pagemap, range->base + offset, size, &categories) ||
           (categories & SCAN_WRITTEN) || !(categories & (SCAN_MARKED | SCAN_PRESENT));
}

void range_wake(const struct range *range, size_t offset, size_t size)
{
    if (range->service == RANGE_THREAD)
        uffd_wake(range->fd, range->base + offset, size);
}
