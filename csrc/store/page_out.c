/* SPDX-License-Identifier: MIT
 *
 * Page-out: same-filled, else coded, else raw; clean pages of eager levels,
 * and clean pages for which there is no room, are dropped.
 */
#include <string.h>

#include "store/backing.h"
#include "store/family.h"

/* Whether the page's bytes are those its backing gives. Knows by checksum, and
 * takes DIRTY back where the page was changed back. Without a backing a page
 * of zeros is clean: it reads as zeros when absent. */
bool page_is_clean(const struct job *job, const void *bytes)
{
    struct page *page = job->page;
    if (!(page_load(page) & PAGE_DIRTY))
        return true;
    if (!page_is_as_origin(page, pgs_checksum(bytes, job->store->page_size)))
        return false;
    atomic_fetch_and_explicit(&page->word, ~PAGE_DIRTY, memory_order_relaxed);
    return true;
}

void page_set_coding(struct page *page, enum page_coding coding)
{
    atomic_fetch_and_explicit(&page->word, ~(PAGE_CODING_MASK | PAGE_SETTLED),
                              memory_order_relaxed);
    atomic_fetch_or_explicit(&page->word, PAGE_COPY | (uint64_t)coding << PAGE_CODING_SHIFT,
                             memory_order_relaxed);
}

void page_drop_copy(const struct job *job)
{
    uint64_t word = page_load(job->page);
    if (!(word & PAGE_COPY))
        return;
    atomic_fetch_and_explicit(&job->page->word, ~PAGE_COPY, memory_order_relaxed);
    if (page_coding(word) == CODING_SAME)
        return;
    if (page_can_lose_copy(job->object, job->page_no, word))
        atomic_fetch_sub_explicit(&job->store->reclaimable, 1, memory_order_relaxed);
    pool_free(&job->store->pool, job->page->place);
    if (pool_is_loose(&job->store->pool))
        pool_compact(&job->store->pool, 2);
}

static struct pool_key key_of(const struct job *job)
{
    return (struct pool_key){.page_no = job->page_no, .object = (uint16_t)job->object_no};
}

/* Pays for the pool's growth with the RAM of the frame that the page leaves. */
static bool trade_frame(const struct job *job, uint32_t size, uint32_t *frame,
                        pool_place *place_ret)
{
    pgs_store *store = job->store;
    struct pool_growth growth = {.allowed = true, .credit = store->page_size};
    if (size + POOL_HEADER_BYTES > store->page_size || !frame_part(store, *frame))
        return false;
    if (pool_alloc(&store->pool, key_of(job), size, &growth, place_ret)) {
        frame_keep(store);
        return false;
    }
    frame_parted(store, *frame, growth.credit);
    *frame = NO_FRAME;
    return true;
}

/* Finds room in the pool: what is there or free in the budget; then the RAM of
 * the frame that the page leaves (it is NO_FRAME afterwards), as long as the
 * pool is below its share; then a colder compressed page's. `keep`: no other
 * tier takes these bytes; they may have the frame's RAM whatever the share. */
static int find_place(const struct job *job, uint32_t size, bool keep, uint32_t *frame,
                      pool_place *place_ret)
{
    pgs_store *store = job->store;
    for (;;) {
        bool below = pool_over_share(store, size) == 0;
        struct pool_growth growth = {.allowed = below || keep};
        if (!pool_alloc(&store->pool, key_of(job), size, &growth, place_ret) ||
            (below && trade_frame(job, size, frame, place_ret)))
            return PGS_OK;
        if (!pool_make_room(store, job->worker))
            return keep && trade_frame(job, size, frame, place_ret) ? PGS_OK : PGS_E_BUDGET;
    }
}

/* What pages are coded with that come from an encoder: where it is of no codec of the
 * object's, it is the first one's at another level, which decodes it too. */
static enum page_coding coding_by(const struct pgs_object *object, const struct encoder *encoder)
{
    bool second = encoder->codec && encoder->codec == object->codecs[PGS_EFFORT_BALANCED];
    return (enum page_coding)(CODING_CODED + (second ? PGS_EFFORT_BALANCED : PGS_EFFORT_FAST));
}

/* Makes the page's compressed copy from `bytes`; the page has none. *frame:
 * see find_place; NO_FRAME where it is in none. */
int page_store_copy(const struct job *job, struct encoder *encoder, const void *bytes, bool keep,
                    uint32_t *frame)
{
    pgs_store *store = job->store;
    struct page *page = job->page;
    struct counters *counters = &job->worker->counters;
    uint64_t fill;
    if (pgs_same_filled(bytes, store->page_size, &fill)) {
        /* Readers peep at `place`, which it lies over, to prefetch. */
        __atomic_store_n(&page->fill, fill, __ATOMIC_RELAXED);
        page_set_coding(page, CODING_SAME);
        return PGS_OK;
    }
    uint64_t start = nanoseconds(store);
    const void *data = bytes;
    size_t size = 0;
    pool_place place = 0;
    int error = PGS_OK;
    if (encoder->coder)
        error = pgs_encode(encoder->coder, bytes, address_of(store, job->object, job->page_no),
                           encoder->coded, store->page_size - POOL_HEADER_BYTES, &size);
    if (size)
        data = encoder->coded;
    if (!error)
        error = find_place(job, size ? (uint32_t)size : store->page_size, keep, frame, &place);
    if (!error) {
        uint32_t stored_size;
        unsigned char *to = pool_bytes(&store->pool, place, &stored_size);
        memcpy(to, data, stored_size);
        page->copy_sum = pgs_checksum(to, stored_size);
        __atomic_store_n(&page->place, place, __ATOMIC_RELAXED);
        page_set_coding(page, size ? coding_by(job->object, encoder) : CODING_RAW);
        if (page_can_lose_copy(job->object, job->page_no, page_load(page)))
            atomic_fetch_add_explicit(&store->reclaimable, 1, memory_order_relaxed);
    }
    bump(&counters->encodes, 1);
    if (start)
        bump(&counters->encode_ns, nanoseconds(store) - start);
    return error;
}

struct encoder *encoder_for(const struct job *job)
{
    const pgs_codec *codec = job->object->codecs[PGS_EFFORT_FAST];
    const pgs_codec *second = job->object->codecs[PGS_EFFORT_BALANCED];
    if (second && page_effort(page_load(job->page)) == PGS_EFFORT_BALANCED)
        codec = second;
    return encoder_take(job->store, codec, FOR_PAGE_OUT);
}

static int store_copy(const struct job *job, const void *bytes, bool keep, uint32_t *frame)
{
    if (job->packer)
        return page_store_copy(job, job->packer, bytes, keep, frame);
    struct encoder *encoder = encoder_for(job);
    int error = page_store_copy(job, encoder, bytes, keep, frame);
    encoder_give(encoder);
    return error;
}

/* Whether the job's page, of anonymous memory, came to be zeros again: then its backing is to
 * have no bytes for it, for nobody will ask for them, or give them up. */
static bool page_is_blank_again(const struct job *job, uint64_t sum)
{
    const struct family *family = job->object->family;
    return family && sum == atomic_load_explicit(&family->blank.origin_sum, memory_order_relaxed);
}

int page_write_back(const struct job *job, const void *bytes, const struct pgs_copy *copy)
{
    const struct pgs_backing *backing = &job->object->backing;
    if (!page_has_backing(job->object, job->page_no))
        return PGS_E_DIRTY;
    uint64_t sum = pgs_checksum(bytes, job->store->page_size);
    int error = PGS_OK;
    if (page_is_blank_again(job, sum))
        backing_discard(job->store, backing, job->page_no);
    else
        error = backing_page_out(job->store, backing, job->page_no, bytes, copy);
    /* After an error the backing may hold a mixture: no bytes are equal to it. */
    atomic_store_explicit(&job->page->origin_sum, error ? ~sum : sum, memory_order_relaxed);
    if (error)
        return error;
    atomic_fetch_and_explicit(&job->page->word, ~PAGE_DIRTY, memory_order_relaxed);
    bump(&job->worker->counters.writebacks, 1);
    return PGS_OK;
}

/* The backing has the page to check its bytes, and the copy to spare itself coding them. */
static int write_back_coded(const struct job *job, struct encoder *encoder, uint64_t word)
{
    struct pgs_copy copy = {.codec = encoder->codec,
                            .address = address_of(job->store, job->object, job->page_no)};
    int error = page_decode_copy(job, encoder->coder, encoder->page, &copy.size);
    copy.bytes = pool_bytes(&job->store->pool, job->page->place, &copy.size);
    bool coded = page_coding(word) >= CODING_CODED;
    return error ? error : page_write_back(job, encoder->page, coded ? &copy : NULL);
}

int page_write_back_copy(const struct job *job)
{
    uint64_t word = page_load(job->page);
    struct encoder *encoder = encoder_take(job->store, codec_of_copy(job->object, word),
                                           FOR_WRITE_BACK);
    int error;
    if (page_coding(word) == CODING_SAME) {
        pgs_fill(encoder->page, job->store->page_size, job->page->fill);
        error = page_write_back(job, encoder->page, NULL);
    } else {
        error = write_back_coded(job, encoder, word);
    }
    encoder_give(encoder);
    return error;
}

/* Gets a claimed hot page, no longer queued, out of its frame, and publishes
 * it. *frame is NO_FRAME afterwards where its RAM went to the pool. An error:
 * the page stays as it was, claimed. */
int page_leave(const struct job *job, uint32_t *frame)
{
    pgs_store *store = job->store;
    const unsigned char *bytes = page_bytes(job);
    map_settle(job);
    bool clean = page_is_clean(job, bytes);
    uint64_t word = page_load(job->page);
    bool dropped = false;
    if (!(word & PAGE_COPY)) {
        uint64_t fill;
        bool unwanted = !(word & PAGE_STAYS) && (page_level(word) >= PGS_LEVEL_EAGER ||
                                                 budget_pool_share(store) == 0);
        dropped = clean && unwanted && !pgs_same_filled(bytes, store->page_size, &fill);
        bool keep = !page_can_lose_copy(job->object, job->page_no, word);
        if (!dropped && store_copy(job, bytes, keep, frame)) {
            if (word & PAGE_STAYS)
                return PGS_E_BUDGET;
            int error = clean ? PGS_OK : page_write_back(job, bytes, NULL);
            /* Where its backing takes it no more it is as if there were none. */
            dropped = !error;
            if (error && (keep || store_copy(job, bytes, true, frame)))
                return error;
        }
    }
    bump(&job->worker->counters.page_outs, 1);
    if (dropped)
        bump(&job->worker->counters.discards, 1);
    uint64_t stamp = (uint64_t)stamp_of(store, clock_of(store)) << PAGE_STAMP_SHIFT;
    if (*frame != NO_FRAME)
        frame_vacate(store, *frame);
    page_publish(store, job->page, PAGE_HOT | PAGE_STAMP_MASK, stamp);
    return PGS_OK;
}
