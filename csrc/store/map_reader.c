/* SPDX-License-Identifier: MIT
 *
 * A map's reader: a thread that fetches the pages which a stream of touches comes to next,
 * while who touches has those mapped that it has come to. It waits for nobody's page, and makes
 * no system call in between: two threads that change one file's pages at once hold each other
 * up in the kernel. Pages that nobody comes for it has mapped itself.
 */
#include <signal.h>

#include <time.h>

#include "store/map_internal.h"

enum {
    ASK_NS = 50000,   /* a stream that goes on asks again within that time */
    KEEP_NS = 100000, /* so long pages wait, claimed, for who comes for them */
    FETCH_NS = 50000, /* and so long is waited for them to be fetched */
    WORKERS_LEFT = MAX_WORKERS / 2, /* to others */
    WANT_DOWN = 1 << 8,
    WANT_COUNT = 0xff,
    WANT_PAGE_SHIFT = 32
};

static uint64_t time_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool covers(uint64_t window, uint64_t page_no)
{
    uint64_t from = window >> WANT_PAGE_SHIFT, count = window & WANT_COUNT;
    return window & WANT_DOWN ? page_no <= from && from - page_no < count
                              : page_no >= from && page_no - from < count;
}

void reader_ask(struct reader *reader, uint64_t page_no, uint32_t count, bool down)
{
    atomic_store(&reader->wanted, page_no << WANT_PAGE_SHIFT | (down ? WANT_DOWN : 0) | count);
    if (!atomic_load(&reader->sleeps))
        return;
    pthread_mutex_lock(&reader->lock);
    pthread_cond_signal(&reader->called);
    pthread_mutex_unlock(&reader->lock);
}

static bool stage_take(struct stage *stage)
{
    int ready = STAGE_READY;
    return atomic_compare_exchange_strong(&stage->state, &ready, STAGE_TAKEN);
}

/* Has a taken stage's pages mapped, and frees it. */
static void stage_settle(struct stage *stage)
{
    if (stage->arrivals.count)
        arrivals_settle(&stage->arrivals, NO_PAGE, false);
    call_end(&stage->call);
    atomic_store(&stage->state, STAGE_FREE);
}

static bool await_fetched(struct stage *stage)
{
    uint64_t since = time_ns();
    while (atomic_load(&stage->state) == STAGE_FETCHING)
        if (time_ns() - since > FETCH_NS)
            return false;
    return stage_take(stage);
}

struct stage *reader_take(struct reader *reader, uint64_t page_no)
{
    for (unsigned i = 0; i < STAGES; i++) {
        struct stage *stage = &reader->stages[i];
        int state = atomic_load(&stage->state);
        if ((state == STAGE_FETCHING || state == STAGE_READY) &&
            covers(atomic_load(&stage->window), page_no) && await_fetched(stage))
            return stage;
    }
    return NULL;
}

uint32_t stage_pages(const struct stage *stage, uint64_t page_no)
{
    const struct arrivals *arrivals = &stage->arrivals;
    uint64_t passed = arrivals->down ? arrivals->from - page_no : page_no - arrivals->from;
    return passed < arrivals->count ? arrivals->count - (uint32_t)passed : 0;
}

void reader_map(struct pgs_map *map, struct stage *stage)
{
    map_count(&map->pages_ahead, stage->arrivals.count);
    stage_settle(stage);
}

static void fill_stage(struct pgs_map *map, struct stage *stage, uint64_t window)
{
    /* Who waits for the other stage's pages may have all the workers that are left. */
    if (workers_idle(map->store) < WORKERS_LEFT)
        return;
    if (call_begin(&stage->call, map->store, map->member->number, CALL_USES, 0, NULL))
        return;
    if (!worker_room(map->store, stage->call.job.worker)) {
        call_end(&stage->call);
        return;
    }
    atomic_store(&stage->window, window);
    atomic_store(&stage->state, STAGE_FETCHING);
    arrivals_begin(&stage->arrivals, map, window >> WANT_PAGE_SHIFT, window & WANT_DOWN);
    arrivals_fetch_ahead(&stage->arrivals, &stage->call.job, window & WANT_COUNT);
    stage->since = time_ns();
    atomic_store(&stage->state, STAGE_READY);
}

/* Has pages mapped that nobody has come for; `all`: that nobody has come for yet. Whether some
 * are still waiting. */
static bool settle_idle(struct pgs_map *map, bool all)
{
    bool waiting = false;
    for (unsigned i = 0; i < STAGES; i++) {
        struct stage *stage = &map->reader.stages[i];
        if (atomic_load(&stage->state) != STAGE_READY)
            continue;
        if (!all && time_ns() - stage->since < KEEP_NS)
            waiting = true;
        else if (stage_take(stage))
            reader_map(map, stage);
    }
    return waiting;
}

static struct stage *free_stage(struct reader *reader)
{
    for (unsigned i = 0; i < STAGES; i++)
        if (atomic_load(&reader->stages[i].state) == STAGE_FREE)
            return &reader->stages[i];
    return NULL;
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
        struct stage *stage = free_stage(reader);
        uint64_t window = stage ? atomic_exchange(&reader->wanted, 0) : 0;
        if (window) {
            fill_stage(map, stage, window);
            idle_since = time_ns();
        } else if (!settle_idle(map, false) && time_ns() - idle_since > ASK_NS) {
            sleep_until_asked(reader);
            idle_since = time_ns();
        }
    }
    settle_idle(map, true);
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
