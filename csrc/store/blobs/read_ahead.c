/* SPDX-License-Identifier: MIT
 *
 * Read-ahead: where page-ins follow each other, the next blobs are fetched in one batch: by a
 * thread before they are asked for where the blobs are slow; else, for waking a thread would take
 * longer, by who asks for the first of them. Up to four such runs are told apart. A run's window doubles with each batch, up to
 * a limit that falls by half when what was read is dropped unread, and rises with every page that
 * was asked for: so random access soon reads hardly anything ahead.
 */
#include <string.h>

#include "pagestep/error.h"
#include "store/blobs/coded.h"
#include "store/blobs/deadline.h"

enum { WINDOW_MIN = 2 };

static struct stream *stream_at(struct coded *coded, uint64_t page_no)
{
    struct stream *oldest = &coded->streams[0];
    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *stream = &coded->streams[i];
        /* Pages in between may have been in RAM. */
        if (page_no >= stream->next && page_no <= stream->next + stream->window && stream->used)
            return stream;
        if (stream->used < oldest->used)
            oldest = stream;
    }
    *oldest = (struct stream){0};
    return oldest;
}

static bool is_wanted(const struct stream *stream)
{
    return stream->wanted < stream->wanted_to;
}

/* Gives up what was read longest ago, and nobody asked for. */
static void waste_one(struct coded *coded)
{
    struct blob_table *ahead = &coded->ahead;
    struct blob_slot *oldest = NULL;
    for (uint32_t i = 0; i < ahead->slot_count; i++) {
        struct blob_slot *slot = &ahead->slots[i];
        if (slot->state == SLOT_READY && (!oldest || slot->age < oldest->age))
            oldest = slot;
    }
    if (!oldest)
        return;
    blob_table_give(ahead, oldest);
    coded->stats.ahead_wasted++;
    coded->ahead_limit = coded->ahead_limit > 2 * WINDOW_MIN ? coded->ahead_limit / 2
                                                             : WINDOW_MIN;
}

static uint32_t pick(struct coded *coded, struct stream *stream, struct blob_slot **batch)
{
    uint32_t count = 0;
    for (; is_wanted(stream) && count < BATCH_MAX; stream->wanted++) {
        uint64_t page_no = stream->wanted;
        if (!bit_is_set(coded->present, page_no) || blob_table_find(&coded->buffer, page_no) ||
            blob_table_find(&coded->ahead, page_no))
            continue;
        if (coded->ahead.free == SLOT_NONE)
            waste_one(coded);
        struct blob_slot *slot = blob_table_take(&coded->ahead, page_no);
        if (!slot)
            break;
        slot->state = SLOT_BUSY;
        batch[count++] = slot;
    }
    return count;
}

static void read_batch(struct coded *coded, struct stream *stream)
{
    struct blob_slot *batch[BATCH_MAX];
    struct pgs_blob blobs[BATCH_MAX];
    int32_t statuses[BATCH_MAX] = {0};
    uint32_t count = pick(coded, stream, batch);
    if (!count) {
        stream->wanted = stream->wanted_to;
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        blobs[i] = (struct pgs_blob){.page_no = batch[i]->page_no,
                                     .bytes = blob_table_at(&coded->ahead, batch[i]),
                                     .capacity = coded->ahead.slot_size};
    pthread_mutex_unlock(&coded->lock);
    int error = coded->blobs.get(coded->blobs.ctx, blobs, count, statuses);
    pthread_mutex_lock(&coded->lock);
    coded->stats.ahead_batches++;
    coded->stats.ahead_pages += count;
    for (uint32_t i = 0; i < count; i++) {
        /* What went wrong is found again, and told, by who asks for the page. */
        bool useful = !error && !statuses[i] && !batch[i]->stale && blobs[i].size;
        batch[i]->size = blobs[i].size;
        batch[i]->state = SLOT_READY;
        if (!useful)
            blob_table_give(&coded->ahead, batch[i]);
    }
}

/* The page that is asked for, and those behind it, in one batch. */
static void read_here(struct coded *coded, struct stream *stream, uint64_t page_no)
{
    uint64_t start = now_ns();
    read_batch(coded, stream);
    coded_note_get(coded, now_ns() - start);
    pthread_cond_broadcast(&coded->read);
    if (!blob_table_find(&coded->ahead, page_no))
        return;
    coded->stats.gets++; /* it was not read ahead */
    coded->stats.ahead_pages--;
    coded->stats.ahead_hits--;
}

void read_ahead_note(struct coded *coded, uint64_t page_no)
{
    if (!coded->has_reader)
        return;
    struct stream *stream = stream_at(coded, page_no);
    bool goes_on = stream->used != 0;
    uint64_t next = page_no + 1;
    stream->used = ++coded->stream_clock;
    stream->next = next;
    if (stream->ahead_to < next)
        stream->ahead_to = next;
    bool here = coded->get_ns < FAST_NS;
    bool soon = here ? blob_table_find(&coded->ahead, page_no) == NULL
                     : stream->ahead_to - next <= stream->window / 2;
    if (!goes_on || !soon)
        return;
    uint32_t window = stream->window ? 2 * stream->window : WINDOW_MIN;
    stream->window = window < coded->ahead_limit ? window : coded->ahead_limit;
    uint64_t to = next + stream->window;
    to = to < coded->params.page_count ? to : coded->params.page_count;
    if (to <= stream->ahead_to)
        return;
    stream->wanted = here ? page_no : stream->ahead_to;
    stream->wanted_to = stream->ahead_to = to;
    if (here)
        read_here(coded, stream, page_no);
    else
        pthread_cond_signal(&coded->to_read);
}

int read_ahead_take(struct coded *coded, uint64_t page_no, unsigned char *blob,
                    uint32_t *size_ret, uint64_t until_ns)
{
    *size_ret = 0;
    for (;;) {
        struct blob_slot *slot = blob_table_find(&coded->ahead, page_no);
        if (!slot)
            return PGS_OK;
        if (slot->state == SLOT_READY) {
            *size_ret = slot->size;
            memcpy(blob, blob_table_at(&coded->ahead, slot), slot->size);
            blob_table_give(&coded->ahead, slot);
            coded->stats.ahead_hits++;
            if (coded->ahead_limit < coded->params.ahead_pages)
                coded->ahead_limit++;
            return PGS_OK;
        }
        if (!condition_wait(&coded->read, &coded->lock, until_ns))
            return PGS_E_TIMEOUT;
    }
}

/* -- what the thread does --------------------------------------------------------------- */

static struct stream *wanted_stream(struct coded *coded)
{
    for (unsigned i = 0; i < STREAMS; i++)
        if (is_wanted(&coded->streams[i]))
            return &coded->streams[i];
    return NULL;
}

void *read_ahead_run(void *ctx)
{
    struct coded *coded = ctx;
    pthread_mutex_lock(&coded->lock);
    while (!coded->closing) {
        struct stream *stream = wanted_stream(coded);
        if (!stream) {
            pthread_cond_wait(&coded->to_read, &coded->lock);
            continue;
        }
        /* What was asked for meanwhile was read by who asked. */
        if (stream->wanted < stream->next)
            stream->wanted = stream->next;
        read_batch(coded, stream);
        pthread_cond_broadcast(&coded->read);
    }
    pthread_mutex_unlock(&coded->lock);
    return NULL;
}
