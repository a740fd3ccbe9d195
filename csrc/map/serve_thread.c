/* SPDX-License-Identifier: MIT
 *
 * A thread that reads a range's faults and has them served, one by one. Beside the
 * processor of the thread that waits it does so four times faster than from
 * another: it follows that thread where it is told who it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "map/serve.h"
#include "map/uffd.h"

enum { FOLLOW_EVERY = 64, STAT_PROCESSOR_FIELD = 39, REFUSED_MAX = 64 };

/* The last touch of a thread, if that was refused: so many times in a row. */
struct refused {
    uint32_t thread_id;
    size_t offset;
    unsigned times;
};

struct server {
    const struct range *range;
    size_t page_size;
    struct refused refused[REFUSED_MAX]; /* of so many threads; of more the oldest makes way */
    unsigned refused_count, oldest;
};

/* The processor that a thread of this process ran on last, or -1: field 39 of its
 * stat, counted from the end of its name, which may have blanks (proc(5)). */
static int processor_of(uint32_t thread_id)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", thread_id);
    FILE *file = fopen(path, "re");
    char *at = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    for (int field = 2; at && field < STAT_PROCESSOR_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (file)
        fclose(file);
    return at ? atoi(at + 1) : -1;
}

static void follow(uint32_t thread_id)
{
    cpu_set_t beside;
    int processor = processor_of(thread_id);
    if (processor < 0 || processor >= CPU_SETSIZE)
        return;
    CPU_ZERO(&beside);
    CPU_SET(processor, &beside);
    /* Not allowed there: it serves from where it is. */
    sched_setaffinity(0, sizeof beside, &beside);
}

/* Whether a thread blocks SIGBUS: its mask is in its status (proc(5)). */
static bool blocks_sigbus(uint32_t thread_id)
{
    char path[64], line[1024];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/self/task/%u/status", thread_id);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "SigBlk: %llx", &mask) != 1)
        ;
    if (file)
        fclose(file);
    return mask >> (SIGBUS - 1) & 1;
}

static struct refused *refused_of(struct server *server, uint32_t thread_id)
{
    for (unsigned i = 0; i < server->refused_count; i++)
        if (server->refused[i].thread_id == thread_id)
            return &server->refused[i];
    return NULL;
}

static void forget_refused(struct server *server, uint32_t thread_id)
{
    struct refused *refused = refused_of(server, thread_id);
    if (refused)
        *refused = server->refused[--server->refused_count];
}

/* How often this touch has been refused now, and the thread touched nothing else since. */
static unsigned note_refused(struct server *server, uint32_t thread_id, size_t offset)
{
    struct refused *refused = refused_of(server, thread_id);
    if (!refused) {
        refused = &server->refused[server->refused_count < REFUSED_MAX
                                       ? server->refused_count++
                                       : server->oldest++ % REFUSED_MAX];
        *refused = (struct refused){.thread_id = thread_id, .offset = offset};
    }
    if (refused->offset != offset)
        *refused = (struct refused){.thread_id = thread_id, .offset = offset};
    return ++refused->times;
}

static void end_process(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGBUS);
}

/* The thread that waits gets a SIGBUS as if sent: that of a poisoned page would stay for good.
 * If the same touch fails again its handler has not mended it, and would be called for ever: then
 * it kills. So it does at once, as the kernel's own does, where the thread blocks it. */
static void refuse(struct server *server, uint32_t thread_id, size_t offset)
{
    unsigned times = note_refused(server, thread_id, offset);
    bool blocked = blocks_sigbus(thread_id);
    if (times > 1 || blocked)
        signal(SIGBUS, SIG_DFL);
    /* Where nobody said that it is blocked it has not come the time before. */
    if (times > 2 || blocked)
        end_process();
    else
        syscall(SYS_tgkill, getpid(), thread_id ? thread_id : (uint32_t)getpid(), SIGBUS);
}

static void serve(struct server *server, const struct uffd_msg *message)
{
    const struct range *range = server->range;
    uint32_t thread_id = message->arg.pagefault.feat.ptid;
    if (message->event != UFFD_EVENT_PAGEFAULT)
        return;
    size_t offset = (size_t)(message->arg.pagefault.address - (uintptr_t)range->base);
    offset -= offset % server->page_size;
    bool writes = message->arg.pagefault.flags &
                  (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    if (range->owner.fault(range->owner.ctx, offset, writes))
        refuse(server, thread_id, offset);
    else
        forget_refused(server, thread_id);
    uffd_wake(range->fd, range->base + offset, server->page_size);
}

static void *serve_all(void *ctx)
{
    const struct range *range = ctx;
    struct server server = {.range = range, .page_size = (size_t)sysconf(_SC_PAGESIZE)};
    struct pollfd wait[] = {{.fd = range->fd, .events = POLLIN},
                            {.fd = range->stop, .events = POLLIN}};
    for (unsigned served = 0;;) {
        struct uffd_msg message;
        if (poll(wait, 2, -1) < 0)
            continue;
        if (wait[1].revents)
            return NULL;
        if (read(range->fd, &message, sizeof message) != sizeof message)
            continue;
        if (served++ % FOLLOW_EVERY == 0 && message.arg.pagefault.feat.ptid)
            follow(message.arg.pagefault.feat.ptid);
        serve(&server, &message);
    }
}

int serve_in_thread(struct range *range)
{
    sigset_t all, old;
    range->stop = eventfd(0, EFD_CLOEXEC);
    if (range->stop < 0)
        return errno;
    /* Signals are the program's threads' business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&range->thread, NULL, serve_all, range);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

void serve_in_thread_end(struct range *range)
{
    uint64_t one = 1;
    while (write(range->stop, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(range->thread, NULL);
}
