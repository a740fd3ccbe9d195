/* SPDX-License-Identifier: MIT */
#include "store/page.h"

#include <sched.h>
#include <time.h>

#include "store/family.h"

/* A page-in takes a few microseconds: worth a short spin. */
enum { SPINS = 200, NS_PER_SECOND = 1000000000 };

static struct wait_shard *shard_of(pgs_store *store, const struct page *page)
{
    return &store->shards[((uintptr_t)page / sizeof *page) % WAIT_SHARDS];
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* When it is no longer waited for. */
static struct timespec deadline_of(const pgs_store *store)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t ns = (uint64_t)at.tv_nsec + store->wait_ns;
    at.tv_sec += (time_t)(ns / NS_PER_SECOND);
    at.tv_nsec = (long)(ns % NS_PER_SECOND);
    return at;
}

static bool is_past(const struct timespec *deadline)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > deadline->tv_sec ||
           (now.tv_sec == deadline->tv_sec && now.tv_nsec > deadline->tv_nsec);
}

int page_await(pgs_store *store, struct page *page)
{
    for (int i = 0; i < SPINS; i++) {
        if (!(page_load(page) & PAGE_BUSY))
            return PGS_OK;
        relax();
    }
    struct wait_shard *shard = shard_of(store, page);
    struct timespec deadline = deadline_of(store);
    int late = 0;
    pthread_mutex_lock(&shard->lock);
    uint64_t word = page_load(page);
    while ((word & PAGE_BUSY) && !late) {
        /* The owner broadcasts under the lock where it finds WAITED set. */
        if ((word & PAGE_WAITED) || page_swap(page, &word, word | PAGE_WAITED)) {
            late = pthread_cond_timedwait(&shard->free, &shard->lock, &deadline);
            word = page_load(page);
        }
    }
    pthread_mutex_unlock(&shard->lock);
    return word & PAGE_BUSY ? PGS_E_TIMEOUT : PGS_OK;
}

/* Readers that came before are done when they have copied or decoded, or read from a
 * backing; none come now. */
static int await_readers(struct page *page, const struct timespec *deadline)
{
    for (unsigned i = 0; page_load(page) & PAGE_READERS_MASK; i++) {
        if (i < SPINS) {
            relax();
            continue;
        }
        sched_yield();
        if (i % SPINS == 0 && is_past(deadline))
            return PGS_E_TIMEOUT;
    }
    return PGS_OK;
}

static int claim_in_time(pgs_store *store, struct page *page)
{
    uint64_t word = page_load(page);
    for (;;) {
        if (word & PAGE_BUSY) {
            int error = page_await(store, page);
            if (error)
                return error;
            word = page_load(page);
        } else if (page_swap(page, &word, word | PAGE_BUSY)) {
            break;
        }
    }
    if (!(page_load(page) & PAGE_READERS_MASK))
        return PGS_OK;
    struct timespec deadline = deadline_of(store);
    int error = await_readers(page, &deadline);
    if (error)
        page_publish(store, page, 0, 0);
    return error;
}

/* Who must move the page waits on: whoever has it waits for nothing without end. */
void page_claim(pgs_store *store, struct page *page)
{
    while (claim_in_time(store, page))
        ;
}

struct page *page_entry(const struct pgs_object *object, uint32_t page_no)
{
    return object->pages ? &object->pages[page_no] : table_page(&object->family->table, page_no);
}

int job_claim(const struct job *job)
{
    int error = claim_in_time(job->store, job->page);
    if (error || job_is_current(job))
        return error;
    page_publish(job->store, job->page, 0, 0);
    return PAGE_MOVED;
}

int page_may_use(const struct job *job, uint64_t word)
{
    /* A held page is busy only while somebody copies: that is waited for. */
    if (section_is(job->section, PGS_SECTION_PAGER) && !page_is_held(word))
        return PGS_E_PAGER;
    if (section_is(job->section, PGS_SECTION_ATOMIC) &&
        (!(word & PAGE_HOT) || ((word & PAGE_BUSY) && !page_is_held(word))))
        return PGS_E_WOULD_FAULT;
    return PGS_OK;
}

int page_claim_to_use(const struct job *job)
{
    struct page *page = job->page;
    uint64_t word = page_load(page);
    int error = page_may_use(job, word);
    if (!section_is(job->section, PGS_SECTION_ATOMIC)) {
        if (error)
            return error;
        error = job_claim(job);
        if (error)
            return error;
        error = page_may_use(job, page_load(page) & ~PAGE_BUSY);
        if (error)
            page_publish(job->store, page, 0, 0);
        return error;
    }
    /* Readers of a page that is hot only copy. */
    while (!error && ((word & PAGE_BUSY) || !page_swap(page, &word, word | PAGE_BUSY))) {
        relax();
        word = page_load(page);
        error = page_may_use(job, word);
    }
    while (!error && (page_load(page) & PAGE_READERS_MASK))
        relax();
    if (!error && !job_is_current(job)) {
        page_publish(job->store, page, 0, 0);
        error = PAGE_MOVED;
    }
    return error;
}

void page_publish(pgs_store *store, struct page *page, uint64_t clear, uint64_t set)
{
    uint64_t word = page_load(page);
    while (!page_swap(page, &word, (word & ~(clear | PAGE_BUSY | PAGE_WAITED)) | set))
        ;
    if (word & PAGE_WAITED) {
        struct wait_shard *shard = shard_of(store, page);
        pthread_mutex_lock(&shard->lock);
        pthread_cond_broadcast(&shard->free);
        pthread_mutex_unlock(&shard->lock);
    }
}
