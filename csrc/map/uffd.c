/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "map/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

enum { CONTINUE_PROTECTED = 1 << 1 };

#define DEVICE_NEW _IO(0xAA, 0x00)

/* Not blocking, or it could not be polled. */
static const int descriptor_flags = O_CLOEXEC | O_NONBLOCK;

/* One that serves system calls as well needs a privilege, vm.unprivileged_userfaultfd
 * or access to /dev/userfaultfd; that also does where a filter refuses the system call. */
static int open_any(bool system_calls)
{
    int flags = system_calls ? descriptor_flags : descriptor_flags | UFFD_USER_MODE_ONLY;
    int fd = (int)syscall(SYS_userfaultfd, flags);
    if (fd >= 0 || errno != EPERM)
        return fd;
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) {
        errno = EPERM;
        return -1;
    }
    fd = ioctl(device, DEVICE_NEW, flags);
    int error = errno;
    close(device);
    errno = error;
    return fd;
}

static int request(int fd, unsigned long what, void *argument)
{
    int result;
    /* EAGAIN: the address space is being changed by another thread. */
    do
        result = ioctl(fd, what, argument);
    while (result && (errno == EAGAIN || errno == EINTR));
    return result ? errno : 0;
}

int uffd_open(uint64_t features, bool system_calls, int *fd_ret)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    int fd = open_any(system_calls);
    if (fd < 0)
        return errno;
    int error = request(fd, UFFDIO_API, &api);
    if (error)
        close(fd);
    else
        *fd_ret = fd;
    return error;
}

void uffd_probe(struct uffd_support *support)
{
    struct uffdio_api api = {.api = UFFD_API};
    *support = (struct uffd_support){0};
    int fd = open_any(true);
    support->system_calls = fd >= 0;
    if (fd < 0)
        fd = open_any(false);
    if (fd < 0) {
        support->error = errno;
        return;
    }
    support->error = request(fd, UFFDIO_API, &api);
    support->features = api.features;
    close(fd);
}

static struct uffdio_range range_of(const void *at, size_t size)
{
    return (struct uffdio_range){.start = (uintptr_t)at, .len = size};
}

int uffd_register(int fd, const void *base, size_t size, bool protects)
{
    struct uffdio_register wish = {
        .range = range_of(base, size),
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR |
                (protects ? UFFDIO_REGISTER_MODE_WP : 0)};
    return request(fd, UFFDIO_REGISTER, &wish);
}

int uffd_copy(int fd, void *to, const void *from, struct uffd_bytes *bytes, bool protect)
{
    struct uffdio_copy wish = {.dst = (uintptr_t)to,
                               .src = (uintptr_t)from,
                               .len = bytes->size,
                               .mode = (protect ? UFFDIO_COPY_MODE_WP : 0) |
                                       (bytes->waited_for ? 0 : UFFDIO_COPY_MODE_DONTWAKE)};
    int error = 0;
    while (!error && ioctl(fd, UFFDIO_COPY, &wish)) {
        /* It may have got part of the way. */
        uint64_t done = wish.copy > 0 ? (uint64_t)wish.copy : 0;
        if (errno != EAGAIN && errno != EINTR)
            error = errno;
        wish.dst += done;
        wish.src += done;
        wish.len -= done;
        wish.copy = 0;
    }
    bytes->done = error ? bytes->size - wish.len : bytes->size;
    return error;
}

int uffd_continue(int fd, void *at, size_t size, bool protect)
{
    struct uffdio_continue wish = {.range = range_of(at, size),
                                   .mode = protect ? CONTINUE_PROTECTED : 0};
    return request(fd, UFFDIO_CONTINUE, &wish);
}

int uffd_unprotect(int fd, void *at, size_t size)
{
    struct uffdio_writeprotect wish = {.range = range_of(at, size)};
    return request(fd, UFFDIO_WRITEPROTECT, &wish);
}

int uffd_wake(int fd, void *at, size_t size)
{
    struct uffdio_range range = range_of(at, size);
    return request(fd, UFFDIO_WAKE, &range);
}
