/* SPDX-License-Identifier: MIT
 *
 * A range of addresses whose pages come when they are touched.
 *
 * It maps a home (map/home.h). A page that is not there, or is there but was
 * detached, or is protected and written, faults; its owner is asked to mend that,
 * by the thread that touched it, in the handler of SIGBUS, or by a thread of the range's
 * own. Functions return 0 or an errno.
 */
#ifndef PGS_RANGE_H
#define PGS_RANGE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "map/home.h"

enum range_service {
    RANGE_SIGBUS, /* the touching thread serves its own faults */
    RANGE_THREAD  /* a thread of the range's serves them */
};

/* How writes are known of. */
enum range_writes {
    RANGE_READ_ONLY,
    RANGE_WRITES_FAULT, /* the first write to a protected page is a fault */
    RANGE_WRITES_NOTED  /* the kernel notes it; range_written asks */
};

struct range_owner {
    void *ctx;
    /* Mends the fault at an offset: 0, and the touch is tried again, or an error: it
     * cannot be. */
    int (*fault)(void *ctx, size_t offset, bool writes);
};

struct range {
    unsigned char *base;
    size_t size;
    unsigned forks;          /* home_forks() when it was opened */
    const struct home *home; /* in a child process it may be gone before the range is */
    struct range_owner owner;
    enum range_service service;
    enum range_writes writes;
    bool system_calls;    /* those that touch it are served too */
    bool marks_when_attached; /* range_attach can protect */
    int fd, pagemap;
    pthread_t thread;
    int stop; /* an eventfd that ends the thread */
};

/* What this process can have. `missing`: what the kernel lacks, in words, or
 * NULL. */
struct range_abilities {
    int error; /* errno: no userfaultfd at all */
    const char *missing;
    bool by_sigbus, by_sigbus_for_writes, by_thread, by_thread_in_system_calls, notes_writes;
};
void range_probe(struct range_abilities *abilities);

int range_open(struct range *range, const struct home *home, enum range_service service,
               enum range_writes writes, const struct range_owner *owner);

/* No thread may touch it any more. In a child process only what that has of its own goes, and once:
 * the range may be closed again there. */
void range_close(struct range *range);

/* Gives pages that are not there their bytes. `protect`: as its writes are known; *done_ret: so
 * many bytes got there, after an error as well. */
int range_install(const struct range *range, size_t offset, const void *bytes, size_t size,
                  bool protect, size_t *done_ret);

/* Maps a page that its home has: EEXIST where it was mapped. */
int range_attach(const struct range *range, size_t offset, size_t size, bool protect);

int range_unprotect(const struct range *range, size_t offset, size_t size);

/* Takes the mapping away, and the page tables where these get empty: any touch faults,
 * or waits for its fault to be served. The bytes stay. */
void range_detach(const struct range *range, size_t offset, size_t size);

/* RANGE_WRITES_NOTED: whether a page, detached, was written since it was installed or
 * attached, protected. */
bool range_written(const struct range *range, size_t offset, size_t size);

/* Whoever waits for these bytes tries again. */
void range_wake(const struct range *range, size_t offset, size_t size);

/* Whether a touch of one of these bytes may be a fault of some range. */
bool range_has_any(const void *bytes, size_t size);

#endif
