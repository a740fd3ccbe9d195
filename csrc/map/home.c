/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "map/home.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic unsigned forks;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
    atomic_fetch_add(&forks, 1);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

unsigned home_forks(void)
{
    pthread_once(&fork_once, watch_forks);
    return atomic_load_explicit(&forks, memory_order_relaxed);
}

bool home_is_here(unsigned forks)
{
    return forks == home_forks();
}

static int open_file(struct home *home)
{
    home->fd = memfd_create("pagestep", MFD_CLOEXEC);
    if (home->fd < 0 || ftruncate(home->fd, (off_t)home->size))
        return errno;
    void *bytes = mmap(NULL, home->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                       home->fd, 0);
    if (bytes == MAP_FAILED)
        return errno;
    home->bytes = bytes;
    /* A child process would share it, and write where this one has pages; and a huge
     * page would be RAM that nobody has charged. */
    madvise(bytes, home->size, MADV_DONTFORK);
    madvise(bytes, home->size, MADV_NOHUGEPAGE);
    return 0;
}

int home_open(size_t size, struct home **home_ret)
{
    struct home *home = malloc(sizeof *home);
    if (!home)
        return ENOMEM;
    *home = (struct home){.size = size, .fd = -1, .forks = home_forks()};
    int error = open_file(home);
    if (error)
        home_free(home);
    else
        *home_ret = home;
    return error;
}

void home_free(struct home *home)
{
    if (!home)
        return;
    if (home->bytes && home_is_here(home->forks))
        munmap(home->bytes, home->size);
    if (home->fd >= 0)
        close(home->fd);
    free(home);
}

void home_drop(const struct home *home, size_t offset, size_t size)
{
    fallocate(home->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}
