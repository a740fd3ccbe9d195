/* SPDX-License-Identifier: MIT
 *
 * userfaultfd(2), call by call: a positive return value is an errno. Constants
 * that the system's headers may be too old to have are here; their numbers are the
 * kernel's binary interface.
 */
#ifndef PGS_UFFD_H
#define PGS_UFFD_H

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    UFFD_HAS_SIGBUS = 1 << 7,
    UFFD_HAS_THREAD_ID = 1 << 8,
    UFFD_HAS_MINOR_SHMEM = 1 << 10,
    UFFD_HAS_WP_SHMEM = 1 << 12,
    UFFD_HAS_WP_ASYNC = 1 << 15
};

/* What the kernel has, and what this process may. */
struct uffd_support {
    uint64_t features;
    int error;         /* errno of opening one at all, or 0 */
    bool system_calls; /* faults of system calls can be served too */
};
void uffd_probe(struct uffd_support *support);

/* `system_calls`: their faults are served too, else they get EFAULT. */
int uffd_open(uint64_t features, bool system_calls, int *fd_ret);

int uffd_register(int fd, const void *base, size_t size, bool protects);

/* Gives missing pages their bytes. `protect`: the first write faults, or is noted. */
struct uffd_bytes {
    size_t size;
    bool waited_for; /* by some thread, perhaps */
    size_t done;     /* so many got there */
};
int uffd_copy(int fd, void *to, const void *from, struct uffd_bytes *bytes, bool protect);

/* Maps a page that is in its file. EEXIST: it is mapped. EINVAL where the kernel
 * cannot protect it in the same step. */
int uffd_continue(int fd, void *at, size_t size, bool protect);

int uffd_unprotect(int fd, void *at, size_t size);

/* Has threads that wait for these bytes look again. */
int uffd_wake(int fd, void *at, size_t size);

#endif
