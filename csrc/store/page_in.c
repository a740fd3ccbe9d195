/* SPDX-License-Identifier: MIT
 *
 * Page-in: the cheapest tier that has the page, verified.
 */
#include <string.h>
#include <time.h>

#include "store/backing.h"
#include "store/family.h"

enum { PREFETCH_LINES = 8 };

uint64_t nanoseconds(const pgs_store *store)
{
    struct timespec now;
    if (!(store->flags & PGS_STORE_TIMED))
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void page_prefetch(const pgs_store *store, const struct page *page)
{
    uint64_t word = atomic_load_explicit(&page->word, memory_order_relaxed);
    if ((word & (PAGE_HOT | PAGE_COPY)) != PAGE_COPY || page_coding(word) == CODING_SAME)
        return;
    uint64_t place = __atomic_load_n(&page->place, __ATOMIC_RELAXED);
    const unsigned char *bytes = store->pool.base + place * POOL_UNIT;
    for (unsigned line = 0; line < PREFETCH_LINES; line++)
        __builtin_prefetch(bytes + line * CACHE_LINE);
}

static int decode(const struct job *job, pgs_coder *coder, const unsigned char *coded,
                  uint32_t size, void *out)
{
    const pgs_store *store = job->store;
    if (page_coding(page_load(job->page)) >= CODING_CODED)
        return pgs_decode(coder, coded, size, address_of(store, job->object, job->page_no), out);
    if (size != store->page_size)
        return PGS_E_CORRUPT;
    memcpy(out, coded, size);
    return PGS_OK;
}

/* Decodes the page's copy in the pool and verifies it: the stored bytes, which
 * are fewer than the page's, and afterwards, for the decoder has then waited
 * for them in the shade of its own work. It is safe on any bytes. */
int page_decode_copy(const struct job *job, pgs_coder *coder, void *out, uint32_t *size_ret)
{
    uint32_t place = __atomic_load_n(&job->page->place, __ATOMIC_RELAXED);
    const unsigned char *coded = pool_bytes(&job->store->pool, place, size_ret);
    int error = decode(job, coder, coded, *size_ret, out);
    if (pgs_checksum(coded, *size_ret) != job->page->copy_sum)
        return PGS_E_CORRUPT;
    return error;
}

/* What a backing gave at first it must give ever after. Of a ROM image, or of blobs, that is
 * not learnt when the object is added, for they check their pages themselves. */
static bool is_as_ever(struct page *page, uint64_t sum)
{
    uint64_t first = 0;
    return page_is_as_origin(page, sum) ||
           atomic_compare_exchange_strong_explicit(&page->origin_sum, &first, sum,
                                                   memory_order_relaxed, memory_order_relaxed) ||
           first == sum;
}

static int fetch_backing(const struct job *job, void *out, enum pgs_source *source,
                         uint64_t *bytes)
{
    const struct pgs_backing *backing = &job->object->backing;
    uint32_t size = job->store->page_size;
    *source = (enum pgs_source)backing_source(backing, job->page_no, &size);
    *bytes = size;
    int error = backing_page_in(job->store, backing, job->page_no, out);
    if (!error && !is_as_ever(job->page, pgs_checksum(out, job->store->page_size)))
        error = PGS_E_CORRUPT;
    return error;
}

/* A page of anonymous memory that its backing was never given is zeros. */
static bool backing_has(const struct job *job)
{
    const struct family *family = job->object->family;
    return job->object->backing.page_in &&
           !(family && page_is_as_origin(job->page, family->blank.origin_sum));
}

/* Gives the page's bytes from where they are; `word` is its state, which
 * cannot change: the page is claimed, or read-held. */
int page_fetch(const struct job *job, uint64_t word, void *out)
{
    struct counters *counters = &job->worker->counters;
    enum pgs_source source = PGS_SOURCE_ZERO;
    uint64_t start = nanoseconds(job->store), bytes = 0;
    int error = PGS_OK;
    if (word & PAGE_GONE)
        return PGS_E_GONE;
    if ((word & PAGE_COPY) && page_coding(word) == CODING_SAME) {
        source = PGS_SOURCE_SAME;
        pgs_fill(out, job->store->page_size, job->page->fill);
    } else if (word & PAGE_COPY) {
        source = PGS_SOURCE_COMPRESSED;
        uint32_t size;
        error = page_decode_copy(job, worker_decoder(job->worker, codec_of_copy(job->object, word)),
                                 out, &size);
        bytes = size;
    }
    if (error)
        bump(&counters->corrupt, 1);
    /* A clean page whose copy went bad is still whole in its backing. */
    if (!(word & PAGE_COPY) || (error && !(word & PAGE_DIRTY))) {
        if (backing_has(job)) {
            error = fetch_backing(job, out, &source, &bytes);
            if (error == PGS_E_CORRUPT)
                bump(&counters->corrupt, 1);
        } else if (!error) {
            memset(out, 0, job->store->page_size);
        }
    }
    bump(&counters->faults[source], 1);
    bump(&counters->fault_bytes[source], bytes);
    bump(&counters->level_faults[page_level(word)], 1);
    if (start)
        bump(&counters->fault_ns[source], nanoseconds(job->store) - start);
    return error;
}

/* Gives the page, claimed, its frame: the bytes are there. */
void page_install(const struct job *job, uint32_t frame, bool ghost)
{
    struct frame *row = &job->store->frames[frame];
    uint64_t word = page_load(job->page), clear = 0;
    if ((word & PAGE_COPY) && page_coding(word) == CODING_SAME)
        clear = PAGE_COPY; /* the word's place is needed for the frame's number */
    row->level = (uint8_t)page_level(word);
    row->guard_worker = job->worker->index;
    row->guard_seq =
        atomic_fetch_add_explicit(&job->worker->fault_seq, 1, memory_order_relaxed) + 1;
    job->page->frame = frame;
    atomic_fetch_and_explicit(&job->page->word, ~clear, memory_order_relaxed);
    atomic_fetch_or_explicit(&job->page->word, PAGE_HOT, memory_order_relaxed);
    if (row->level != PGS_LEVEL_PINNED)
        evict_insert(job->store->queue, frame, (uint32_t)clock_of(job->store), ghost);
    frame_off_hand(job->store);
}

/* A fault may have to wait for the pager: what the thread holds must not be what
 * the pager waits for. */
int page_may_fault(const struct job *job)
{
    if (section_is(job->section, PGS_SECTION_ATOMIC))
        return PGS_E_WOULD_FAULT;
    return job->section ? lock_may_fault(job->section) : PGS_OK;
}

/* Brings a claimed page that is not hot into a frame. It stays claimed. */
int page_bring_in(const struct job *job)
{
    pgs_store *store = job->store;
    uint32_t frame;
    uint64_t clock = clock_tick(store);
    int error = page_may_fault(job);
    if (!error)
        error = frame_take(store, job->worker, &frame);
    if (!error) {
        uint64_t word = page_load(job->page);
        error = page_fetch(job, word, frame_place(job, frame));
        if (error) {
            frame_give(store, frame);
        } else {
            bool ghost = page_is_ghost(store, word, clock);
            page_install(job, frame, ghost);
        }
    }
    return error;
}
