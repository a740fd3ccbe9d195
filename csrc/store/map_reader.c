/* SPDX-License-Identifier: MIT
 *
 * A map's reader: a thread that brings the pages which a stream of touches comes to next. Who
 * touches one that it brings just now works on the same list meanwhile, rather than wait. In
 * the kernel two threads that change one file's pages hold each other up, so they take turns
 * there: one has its pages mapped while the other fetches, and fetches on until its turn comes.
 */
#include <sched.h>
#include <signal.h>
#include <time.h>

#include "store/map_internal.h"

enum {
    ASK_NS = 50000,   /* a stream that goes on asks again within that time */
    TURN_NS = 50000,  /* so long the other's turn may take, */
    BRING_NS = 100000 /* and so long all that one brings at a time */
};

static uint64_t time_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Lets another thread go on, until so long has passed. */
static bool may_wait(uint64_t since, uint64_t most_ns)
{
    if (time_ns() - since > most_ns)
        return false;
    sched_yield();
    return true;
}

static void wake(struct reader *reader)
{
    if (!atomic_load(&reader->sleeps))
        return;
    pthread_mutex_lock(&reader->lock);
    pthread_cond_signal(&reader->called);
    pthread_mutex_unlock(&reader->lock);
}

void reader_ask(struct reader *reader, page_run stream)
{
    page_run wanted = atomic_load(&reader->wanted), asked;
    if (!stream)
        return;
    do {
        /* Of the same stream those before are brought, or on their way. */
        bool same = wanted && run_down(wanted) == run_down(stream);
        page_run rest = same ? run_at(stream, run_from(wanted)) : EMPTY_RUN;
        asked = rest ? rest : stream;
    } while (!atomic_compare_exchange_weak(&reader->wanted, &wanted, asked));
    wake(reader);
}

/* Takes some of the pages that are wanted, for who calls to bring. */
static page_run take(struct reader *reader)
{
    page_run wanted = atomic_load(&reader->wanted);
    uint32_t count;
    do {
        count = run_pages(wanted) < WINDOW_MAX ? run_pages(wanted) : WINDOW_MAX;
    } while (count &&
             !atomic_compare_exchange_weak(&reader->wanted, &wanted, run_after(wanted, count)));
    return run_of(run_from(wanted), count, run_down(wanted));
}

/* Takes the page behind those that were fetched, if it is wanted. */
static bool take_behind(struct reader *reader, const struct arrivals *arrivals)
{
    page_run wanted = atomic_load(&reader->wanted);
    return wanted && run_down(wanted) == arrivals->down &&
           run_from(wanted) == page_behind(arrivals->from, arrivals->count, arrivals->down) &&
           atomic_compare_exchange_strong(&reader->wanted, &wanted, run_after(wanted, 1));
}

static bool turn_try(struct reader *reader)
{
    return !atomic_load(&reader->turn) && !atomic_exchange(&reader->turn, true);
}

void turn_begin(struct reader *reader)
{
    uint64_t since = time_ns();
    while (!turn_try(reader) && may_wait(since, TURN_NS))
        ;
}

void turn_end(struct reader *reader)
{
    atomic_store(&reader->turn, false);
}

/* Has the turn, and fetches on while it is the other's. */
static void fetch_until_turn(struct arrivals *arrivals, const struct job *like,
                             _Atomic page_run *under_way)
{
    struct reader *reader = &arrivals->map->reader;
    while (!turn_try(reader)) {
        bool more = arrivals->count < arrivals->room && take_behind(reader, arrivals);
        if (more)
            atomic_store(under_way, run_of(arrivals->from, arrivals->count + 1, arrivals->down));
        if (!more || !arrivals_fetch_beside(arrivals, like)) {
            turn_begin(reader);
            return;
        }
    }
}

/* Brings what was taken. */
static void bring(struct pgs_map *map, page_run taken, _Atomic page_run *under_way)
{
    struct arrivals arrivals;
    struct call call;
    atomic_store(under_way, taken);
    if (call_begin(&call, map->store, map->member->number, CALL_USES, 0, NULL)) {
        atomic_store(under_way, EMPTY_RUN);
        return;
    }
    arrivals_begin(&arrivals, map, run_from(taken), run_down(taken));
    if (worker_room(map->store, call.job.worker))
        arrivals_fetch_ahead(&arrivals, &call.job, run_pages(taken));
    if (arrivals.count) {
        fetch_until_turn(&arrivals, &call.job, under_way);
        arrivals_settle(&arrivals, NO_PAGE, false);
        turn_end(&map->reader);
    }
    map_count(&map->pages_ahead, arrivals.count);
    atomic_store(under_way, EMPTY_RUN);
    call_end(&call);
}

uint32_t reader_brings(const struct reader *reader, uint64_t page_no)
{
    return run_pages(run_at(atomic_load(&reader->under_way), page_no));
}

void reader_help(struct pgs_map *map, uint64_t page_no)
{
    struct reader *reader = &map->reader;
    _Atomic page_run own;
    page_run taken;
    while (reader_brings(reader, page_no) && (taken = take(reader)))
        bring(map, taken, &own);
    uint64_t since = time_ns();
    while (reader_brings(reader, page_no) && may_wait(since, BRING_NS))
        ;
}

static void sleep_until_asked(struct reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    atomic_store(&reader->sleeps, true);
    while (!atomic_load(&reader->wanted) && !atomic_load(&reader->stop))
        pthread_cond_wait(&reader->called, &reader->lock);
    atomic_store(&reader->sleeps, false);
    pthread_mutex_unlock(&reader->lock);
}

static void *read_all(void *ctx)
{
    struct pgs_map *map = ctx;
    struct reader *reader = &map->reader;
    uint64_t idle_since = time_ns();
    while (!atomic_load(&reader->stop)) {
        page_run taken = take(reader);
        if (taken) {
            bring(map, taken, &reader->under_way);
            idle_since = time_ns();
        } else if (!may_wait(idle_since, ASK_NS)) {
            sleep_until_asked(reader);
            idle_since = time_ns();
        }
    }
    return NULL;
}

int reader_start(struct pgs_map *map)
{
    struct reader *reader = &map->reader;
    sigset_t all, old;
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->called, NULL);
    /* Signals are the program's threads' business. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&reader->thread, NULL, read_all, map);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error ? PGS_E_NOMEM : PGS_OK;
}

void reader_end(struct reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    atomic_store(&reader->stop, true);
    pthread_cond_signal(&reader->called);
    pthread_mutex_unlock(&reader->lock);
    pthread_join(reader->thread, NULL);
    pthread_mutex_destroy(&reader->lock);
    pthread_cond_destroy(&reader->called);
}
