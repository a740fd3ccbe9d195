/* SPDX-License-Identifier: MIT
 *
 * Write-back: page-outs go to a buffer, one thread writes it out in batches. A page has at most
 * two blobs in it: one on its way, and a newer one that waits. What is refused stays, and
 * is tried again, at longer and longer intervals; who discards a page has the blobs told by the same
 * thread, so that writes and discards of a page keep their order.
 */
#include <stdlib.h>
#include <string.h>

#include "pagestep/error.h"
#include "store/blobs/coded.h"
#include "store/blobs/deadline.h"

enum { BACKOFF_MS_MIN = 10, BACKOFF_MS_MAX = 1000, DROP_RUN_MAX = 1 << 20 };

/* -- what page-outs do ------------------------------------------------------------------ */

/* Whether there is any sense in waiting for room; else why not. */
static int may_wait(const struct coded *coded, uint64_t now)
{
    if (!coded->failing_since_ns)
        return PGS_OK;
    bool overdue = now >= coded_deadline(coded, coded->failing_since_ns);
    return overdue || coded->stats.error == PGS_E_FULL ? coded->stats.error : PGS_OK;
}

/* A slot for the page: its own where it waits, else a free one. */
static int find_slot(struct coded *coded, uint64_t page_no, uint64_t until_ns,
                     struct blob_slot **slot_ret)
{
    for (;;) {
        struct blob_slot *slot = blob_table_find(&coded->buffer, page_no);
        if (!slot || slot->state == SLOT_BUSY)
            slot = blob_table_take(&coded->buffer, page_no);
        *slot_ret = slot;
        if (slot)
            return PGS_OK;
        int error = may_wait(coded, now_ns());
        if (error)
            return error;
        if (!condition_wait(&coded->written, &coded->lock, until_ns))
            return coded->stats.error ? coded->stats.error : PGS_E_TIMEOUT;
    }
}

int write_back_add(struct coded *coded, uint64_t page_no, const unsigned char *blob,
                   uint32_t size, uint64_t until_ns)
{
    struct blob_slot *slot;
    pthread_mutex_lock(&coded->lock);
    int error = find_slot(coded, page_no, until_ns, &slot);
    if (!error) {
        memcpy(blob_table_at(&coded->buffer, slot), blob, size);
        slot->size = size;
        blob_table_drop(&coded->ahead, page_no);
        bit_set(coded->present, page_no);
        if (bit_is_set(coded->dropped, page_no)) {
            bit_clear(coded->dropped, page_no);
            coded->dropped_count--;
        }
        pthread_cond_signal(&coded->to_write);
    }
    pthread_mutex_unlock(&coded->lock);
    return error;
}

void write_back_drop(struct coded *coded, uint64_t first, uint64_t count)
{
    pthread_mutex_lock(&coded->lock);
    for (uint64_t i = first; i < first + count; i++) {
        if (!bit_is_set(coded->present, i))
            continue;
        blob_table_drop(&coded->buffer, i);
        blob_table_drop(&coded->ahead, i);
        bit_clear(coded->present, i);
        bit_set(coded->dropped, i);
        coded->dropped_count++;
    }
    pthread_cond_signal(&coded->to_write);
    pthread_mutex_unlock(&coded->lock);
}

/* Whether something that was given before `age` is still to be written. */
static bool is_behind(const struct coded *coded, uint64_t age)
{
    if (coded->dropped_count || coded->discarding)
        return true;
    for (uint32_t i = 0; i < coded->buffer.slot_count; i++)
        if (coded->buffer.slots[i].state != SLOT_FREE && coded->buffer.slots[i].age <= age)
            return true;
    return false;
}

int write_back_drain(struct coded *coded)
{
    pthread_mutex_lock(&coded->lock);
    uint64_t age = coded->buffer.age, puts = coded->stats.puts;
    uint64_t until = coded_deadline(coded, now_ns());
    int error = PGS_OK;
    while (!error && is_behind(coded, age)) {
        error = may_wait(coded, now_ns());
        if (!error && !condition_wait(&coded->written, &coded->lock, until))
            error = coded->stats.error ? coded->stats.error : PGS_E_TIMEOUT;
        if (puts != coded->stats.puts) /* slow, but not stuck */
            until = coded_deadline(coded, now_ns());
        puts = coded->stats.puts;
    }
    pthread_mutex_unlock(&coded->lock);
    return error;
}

/* -- what the thread does --------------------------------------------------------------- */

static void note_outcome(struct coded *coded, int error)
{
    coded->stats.error = error;
    if (!error) {
        coded->failing_since_ns = coded->retry_ns = 0;
        coded->backoff_ms = BACKOFF_MS_MIN;
        return;
    }
    uint64_t now = now_ns();
    coded->stats.put_failures++;
    if (!coded->failing_since_ns)
        coded->failing_since_ns = now;
    coded->retry_ns = now + ns_of_ms(coded->backoff_ms);
    coded->backoff_ms = 2 * coded->backoff_ms < BACKOFF_MS_MAX ? 2 * coded->backoff_ms
                                                               : BACKOFF_MS_MAX;
}

/* The next run of discarded pages, from where the last one ended. */
static uint64_t next_dropped(struct coded *coded, uint64_t *first_ret)
{
    uint64_t pages = coded->params.page_count, at = coded->drop_cursor, run = 0;
    while (!bit_is_set(coded->dropped, at)) {
        bool skips = at % WORD_BITS == 0 && !coded->dropped[at / WORD_BITS];
        at += skips ? WORD_BITS : 1;
        at = at < pages ? at : 0;
    }
    *first_ret = at;
    while (at + run < pages && run < DROP_RUN_MAX && bit_is_set(coded->dropped, at + run))
        run++;
    return run;
}

static void discard_run(struct coded *coded)
{
    uint64_t first, count = next_dropped(coded, &first);
    for (uint64_t i = first; i < first + count; i++)
        bit_clear(coded->dropped, i);
    coded->dropped_count -= count;
    coded->drop_cursor = first + count < coded->params.page_count ? first + count : 0;
    coded->discarding = true;
    pthread_mutex_unlock(&coded->lock);
    int error = coded->blobs.discard(coded->blobs.ctx, first, count);
    pthread_mutex_lock(&coded->lock);
    coded->discarding = false;
    for (uint64_t i = first; error && i < first + count; i++) {
        /* What was written meanwhile takes the blob's place in any case. */
        if (bit_is_set(coded->present, i) || bit_is_set(coded->dropped, i))
            continue;
        bit_set(coded->dropped, i);
        coded->dropped_count++;
    }
    coded->discards_fail = error != PGS_OK;
    note_outcome(coded, error);
}

static int by_page(const void *one, const void *other)
{
    uint64_t a = (*(struct blob_slot *const *)one)->page_no;
    uint64_t b = (*(struct blob_slot *const *)other)->page_no;
    return (a > b) - (a < b);
}

/* The oldest that wait, in the order of their pages: what lies together is read together. */
static uint32_t pick(struct coded *coded, struct blob_slot **batch)
{
    struct blob_table *buffer = &coded->buffer;
    uint32_t count = 0;
    for (uint32_t i = 0; i < buffer->slot_count; i++) {
        struct blob_slot *slot = &buffer->slots[i];
        if (slot->state != SLOT_READY)
            continue;
        uint32_t at = count < BATCH_MAX ? count++ : BATCH_MAX;
        for (; at > 0 && batch[at - 1]->age > slot->age; at--)
            if (at < BATCH_MAX)
                batch[at] = batch[at - 1];
        if (at < BATCH_MAX)
            batch[at] = slot;
    }
    qsort(batch, count, sizeof *batch, by_page);
    return count;
}

/* An error that no blob has is of them all. */
static void blame_all(int error, int32_t *statuses, uint32_t count)
{
    bool blamed = !error;
    for (uint32_t i = 0; i < count; i++)
        blamed |= statuses[i] != PGS_OK;
    for (uint32_t i = 0; !blamed && i < count; i++)
        statuses[i] = error;
}

static void write_batch(struct coded *coded)
{
    coded->discards_fail = false;
    struct blob_slot *batch[BATCH_MAX];
    struct pgs_blob blobs[BATCH_MAX];
    int32_t statuses[BATCH_MAX] = {0};
    uint32_t count = pick(coded, batch);
    for (uint32_t i = 0; i < count; i++) {
        batch[i]->state = SLOT_BUSY;
        blobs[i] = (struct pgs_blob){.page_no = batch[i]->page_no,
                                     .bytes = blob_table_at(&coded->buffer, batch[i]),
                                     .size = batch[i]->size};
    }
    pthread_mutex_unlock(&coded->lock);
    int error = coded->blobs.put(coded->blobs.ctx, blobs, count, statuses);
    pthread_mutex_lock(&coded->lock);
    coded->stats.put_batches++;
    blame_all(error, statuses, count);
    for (uint32_t i = 0; i < count; i++) {
        struct blob_slot *slot = batch[i];
        coded->stats.puts += !statuses[i];
        coded->stats.put_bytes += statuses[i] ? 0 : slot->size;
        /* A newer one, or a discard, makes a second try needless. */
        if (!statuses[i] || slot->stale ||
            blob_table_find(&coded->buffer, slot->page_no) != slot)
            blob_table_give(&coded->buffer, slot);
        else
            slot->state = SLOT_READY;
    }
    note_outcome(coded, error);
}

static bool has_work(const struct coded *coded)
{
    return coded->dropped_count || coded->buffer.used;
}

/* Waits for work, or until it is time to try again; false: there is an end to it. */
static bool await_work(struct coded *coded)
{
    for (;;) {
        uint64_t now = now_ns();
        if (coded->closing && (!has_work(coded) || now >= coded->close_by_ns))
            return false;
        if (has_work(coded) && now >= coded->retry_ns)
            return true;
        if (!has_work(coded))
            pthread_cond_wait(&coded->to_write, &coded->lock);
        else
            condition_wait(&coded->to_write, &coded->lock,
                           coded->closing && coded->close_by_ns < coded->retry_ns
                               ? coded->close_by_ns
                               : coded->retry_ns);
    }
}

void *write_back_run(void *ctx)
{
    struct coded *coded = ctx;
    pthread_mutex_lock(&coded->lock);
    while (await_work(coded)) {
        /* Discards first: they make room. Where they fail, writes have their turn. */
        if (coded->dropped_count && !(coded->discards_fail && coded->buffer.used))
            discard_run(coded);
        else
            write_batch(coded);
        pthread_cond_broadcast(&coded->written);
    }
    pthread_mutex_unlock(&coded->lock);
    return NULL;
}
