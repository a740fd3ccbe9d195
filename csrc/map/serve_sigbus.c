/* SPDX-License-Identifier: MIT
 *
 * A process has one handler of SIGBUS. What is not of a range goes to the one that was
 * there before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include "map/ranges.h"
#include "map/serve.h"

static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static unsigned users; /* ranges that need the handler */
/* Whose handler was there: at first, and when this one was last put over others. These
 * may call this one in turn: then it is the first one's. */
static struct sigaction first, latest;
static bool below; /* ours is in place, or under others, which may call it */
static _Thread_local bool passing_on;
/* The touch of a range from which the others' handler returned. If it fails again they have
 * not mended it, and would be called for ever. */
static _Thread_local uintptr_t given_up;
enum outcome { MENDED, NOT_MENDED, NOT_OURS };

bool sigbus_tells_writes(void)
{
#if defined(__x86_64__)
    return true;
#else
    return false;
#endif
}

static bool is_write(const void *context)
{
#if defined(__x86_64__)
    const ucontext_t *thread = context;
    return thread->uc_mcontext.gregs[REG_ERR] & 2;
#else
    (void)context;
    return false;
#endif
}

static void call(const struct sigaction *action, int number, siginfo_t *info, void *context)
{
    if (action->sa_flags & SA_SIGINFO) {
        action->sa_sigaction(number, info, context);
    } else if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        action->sa_handler(number);
    } else if (info->si_code > 0) {
        /* The touch is tried again, and now kills: a fault cannot be ignored. */
        signal(SIGBUS, SIG_DFL);
    } else if (action->sa_handler == SIG_DFL) {
        signal(SIGBUS, SIG_DFL);
        raise(SIGBUS);
    }
}

/* As if this handler were not there. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    if (passing_on || info->si_code <= 0) {
        call(&first, number, info, context);
        return;
    }
    passing_on = true;
    call(&latest, number, info, context);
    passing_on = false;
}

static enum outcome mend(const siginfo_t *info, const void *context)
{
    unsigned row;
    bool mended = false;
    uintptr_t address = (uintptr_t)info->si_addr;
    struct range *range = info->si_code > 0 ? ranges_enter(address, &row) : NULL;
    if (!range)
        return NOT_OURS;
    if (range->service == RANGE_SIGBUS)
        mended = range->owner.fault(range->owner.ctx, address - (uintptr_t)range->base,
                                    is_write(context)) == 0;
    ranges_leave(row);
    return mended ? MENDED : NOT_MENDED;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    enum outcome outcome = mend(info, context);
    if (outcome == NOT_MENDED && given_up == address)
        signal(SIGBUS, SIG_DFL);
    else if (outcome != MENDED)
        pass_on(number, info, context);
    given_up = outcome == NOT_MENDED ? address : 0;
    errno = saved;
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_sigbus;
}

/* A touch in the handler of another signal is served as well, where its thread is not in the store;
 * so no other comes while this one holds locks, but for those that say that the program is wrong. */
static void hold_back_others(sigset_t *mask)
{
    static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigfillset(mask);
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(mask, faults[i]);
}

static bool same(const struct sigaction *one, const struct sigaction *other)
{
    return one->sa_flags == other->sa_flags && one->sa_sigaction == other->sa_sigaction;
}

/* Puts the handler in place, also where somebody has put another over it since: that one
 * is called for what is not ours. */
static int install(void)
{
    struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER}, now;
    hold_back_others(&ours.sa_mask);
    if (sigaction(SIGBUS, NULL, &now))
        return errno;
    if (is_ours(&now))
        return 0;
    latest = now;
    if (!below)
        first = now;
    below = true;
    return sigaction(SIGBUS, &ours, NULL) ? errno : 0;
}

static void uninstall(void)
{
    struct sigaction now;
    if (!sigaction(SIGBUS, NULL, &now) && is_ours(&now))
        below = sigaction(SIGBUS, &latest, NULL) || !same(&latest, &first);
}

static void before_fork(void)
{
    pthread_mutex_lock(&install_lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&install_lock);
}

/* A child process may have maps of its own: nobody who is not there may have the lock. */
static void watch_forks(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

int serve_in_sigbus(struct range *range)
{
    (void)range;
    pthread_once(&fork_once, watch_forks);
    pthread_mutex_lock(&install_lock);
    int error = install();
    users += !error;
    pthread_mutex_unlock(&install_lock);
    return error;
}

void serve_in_sigbus_end(struct range *range)
{
    (void)range;
    pthread_mutex_lock(&install_lock);
    if (--users == 0)
        uninstall();
    pthread_mutex_unlock(&install_lock);
}
