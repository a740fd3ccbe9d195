/* SPDX-License-Identifier: MIT
 *
 * The backing over blobs: coded and checked here, written and read by write_back.c and
 * read_ahead.c.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "store/backing.h"
#include "store/blobs/coded.h"
#include "store/blobs/deadline.h"

enum {
    BUFFER_PAGES_MAX = 4096,
    DEADLINE_MS_MAX = 3600000,
    CODERS_MAX = 4,
    ROOM_MORE = 4, /* reads that wait for the blobs, beside those that decode */
    STACK_SIZE = 256 * 1024
};

/* -- page in ---------------------------------------------------------------------------- */

static bool is_present(struct coded *coded, uint64_t page_no)
{
    pthread_mutex_lock(&coded->lock);
    bool present = bit_is_set(coded->present, page_no);
    pthread_mutex_unlock(&coded->lock);
    return present;
}

/* Looks for the page's blob in RAM; *size_ret is 0 where it is not there. */
static int find_blob(struct coded *coded, uint64_t page_no, unsigned char *bytes,
                     uint32_t *size_ret, uint64_t until_ns)
{
    int error = PGS_OK;
    pthread_mutex_lock(&coded->lock);
    const struct blob_slot *slot = blob_table_find(&coded->buffer, page_no);
    if (slot) {
        *size_ret = slot->size;
        memcpy(bytes, blob_table_at(&coded->buffer, slot), slot->size);
        coded->stats.buffer_hits++;
    } else {
        read_ahead_note(coded, page_no);
        error = read_ahead_take(coded, page_no, bytes, size_ret, until_ns);
        if (!error && !*size_ret)
            coded->stats.gets++;
    }
    pthread_mutex_unlock(&coded->lock);
    return error;
}

static int get_blob(struct coded *coded, uint64_t page_no, unsigned char *bytes,
                    uint32_t *size_ret)
{
    struct pgs_blob blob = {.page_no = page_no,
                            .bytes = bytes,
                            .capacity = (uint32_t)blob_size_max(coded->params.page_size)};
    int32_t status = PGS_OK;
    uint64_t start = now_ns();
    int error = coded->blobs.get(coded->blobs.ctx, &blob, 1, &status);
    *size_ret = blob.size;
    pthread_mutex_lock(&coded->lock);
    coded_note_get(coded, now_ns() - start);
    pthread_mutex_unlock(&coded->lock);
    if (!error)
        error = status;
    /* It was there: blobs that lose one are as wrong as those that change one. */
    return !error && (!blob.size || blob.size > blob.capacity) ? PGS_E_CORRUPT : error;
}

static int coded_page_in(void *ctx, uint64_t page_no, void *page)
{
    struct coded *coded = ctx;
    if (!is_present(coded, page_no)) {
        if (coded->base.page_in)
            return coded->base.page_in(coded->base.ctx, page_no, page);
        memset(page, 0, coded->params.page_size);
        return PGS_OK;
    }
    uint64_t until = coded_deadline(coded, now_ns());
    struct lent *room = lender_take(&coded->room, until), *decoder;
    uint32_t size = 0;
    if (!room)
        return PGS_E_TIMEOUT;
    int error = find_blob(coded, page_no, room->bytes, &size, until);
    if (!error && !size)
        error = get_blob(coded, page_no, room->bytes, &size);
    if (!error) {
        decoder = lender_take(&coded->decoders, until);
        error = decoder ? blob_decode(&coded->shape, decoder->coder, page_no, room->bytes, size,
                                      page)
                        : PGS_E_TIMEOUT;
        if (decoder)
            lender_give(&coded->decoders, decoder);
    }
    lender_give(&coded->room, room);
    return error;
}

static uint32_t coded_source(void *ctx, uint64_t page_no, uint32_t *size_ret)
{
    struct coded *coded = ctx;
    if (is_present(coded, page_no))
        return PGS_SOURCE_SWAP;
    return coded->base.page_in ? backing_source(&coded->base, page_no, size_ret)
                               : (uint32_t)PGS_SOURCE_ZERO;
}

/* -- page out --------------------------------------------------------------------------- */

static int coded_page_out_copy(void *ctx, uint64_t page_no, const void *page,
                               const struct pgs_copy *copy)
{
    struct coded *coded = ctx;
    uint64_t until = coded_deadline(coded, now_ns());
    uint32_t size;
    bool same = copy && coded->codec && copy->codec == coded->codec &&
                copy->address == blob_address(&coded->shape, page_no);
    copy = same ? copy : NULL;
    struct lent *encoder = lender_take(&coded->encoders, until);
    if (!encoder)
        return PGS_E_TIMEOUT;
    int error = blob_encode(&coded->shape, encoder->coder, page_no, page, copy, encoder->bytes,
                            &size);
    if (!error)
        error = write_back_add(coded, page_no, encoder->bytes, size, until);
    lender_give(&coded->encoders, encoder);
    if (!error && copy) {
        pthread_mutex_lock(&coded->lock);
        coded->stats.handed_over++;
        pthread_mutex_unlock(&coded->lock);
    }
    return error;
}

static int coded_page_out(void *ctx, uint64_t page_no, const void *page)
{
    return coded_page_out_copy(ctx, page_no, page, NULL);
}

static int coded_discard(void *ctx, uint64_t first_page_no, uint64_t page_count)
{
    struct coded *coded = ctx;
    uint64_t pages = coded->params.page_count;
    if (first_page_no > pages || page_count > pages - first_page_no)
        return PGS_E_RANGE;
    write_back_drop(coded, first_page_no, page_count);
    return PGS_OK;
}

static int coded_flush(void *ctx)
{
    struct coded *coded = ctx;
    int error = write_back_drain(coded);
    return error || !coded->blobs.flush ? error : coded->blobs.flush(coded->blobs.ctx);
}

/* -- life ------------------------------------------------------------------------------- */

static uint64_t coded_capacity(void *ctx)
{
    return ((struct coded *)ctx)->params.page_count;
}

static uint64_t bitmap_bytes(const struct coded *coded)
{
    return (coded->params.page_count + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
}

static uint64_t coded_memory_bytes(void *ctx)
{
    struct coded *coded = ctx;
    size_t blob = blob_size_max(coded->params.page_size);
    return sizeof *coded + 2 * bitmap_bytes(coded) + blob_table_bytes(&coded->buffer) +
           blob_table_bytes(&coded->ahead) + lender_bytes(&coded->encoders, blob) +
           lender_bytes(&coded->decoders, blob) + lender_bytes(&coded->room, blob) +
           backing_memory_bytes(&coded->base) +
           (coded->blobs.memory_bytes ? coded->blobs.memory_bytes(coded->blobs.ctx) : 0);
}

static void stop_threads(struct coded *coded)
{
    pthread_mutex_lock(&coded->lock);
    coded->closing = true;
    coded->close_by_ns = coded_deadline(coded, now_ns());
    pthread_cond_broadcast(&coded->to_write);
    pthread_cond_broadcast(&coded->to_read);
    pthread_mutex_unlock(&coded->lock);
    if (coded->has_writer)
        pthread_join(coded->writer, NULL);
    if (coded->has_reader)
        pthread_join(coded->reader, NULL);
}

static void coded_free(struct coded *coded)
{
    lender_deinit(&coded->encoders);
    lender_deinit(&coded->decoders);
    lender_deinit(&coded->room);
    blob_table_deinit(&coded->buffer);
    blob_table_deinit(&coded->ahead);
    pthread_mutex_destroy(&coded->lock);
    pthread_cond_destroy(&coded->to_write);
    pthread_cond_destroy(&coded->written);
    pthread_cond_destroy(&coded->to_read);
    pthread_cond_destroy(&coded->read);
    free(coded->present);
    free(coded->dropped);
    free(coded);
}

static void coded_close(void *ctx)
{
    struct coded *coded = ctx;
    if (coded->params.flags & PGS_CODED_TEMPORARY)
        write_back_drop(coded, 0, coded->params.page_count);
    stop_threads(coded);
    coded->blobs.close(coded->blobs.ctx);
    if (coded->base.close)
        coded->base.close(coded->base.ctx);
    coded_free(coded);
}

static int check(const struct pgs_coded_params *params, const struct pgs_blobs *blobs,
                 const struct pgs_backing *base, const pgs_codec *codec)
{
    bool ok = params->struct_size == sizeof *params && blobs->struct_size == sizeof *blobs &&
              params->page_size >= 512 && params->page_size <= 65536 &&
              !(params->page_size & (params->page_size - 1)) && params->page_count > 0 &&
              params->page_count <= UINT32_MAX && params->buffer_pages > 0 &&
              params->buffer_pages <= BUFFER_PAGES_MAX &&
              params->ahead_pages <= BUFFER_PAGES_MAX && params->deadline_ms > 0 &&
              params->deadline_ms <= DEADLINE_MS_MAX && !(params->flags & ~(uint32_t)PGS_CODED_TEMPORARY) && blobs->get &&
              blobs->present && blobs->close && (!blobs->put || blobs->discard) &&
              (!codec || pgs_codec_page_size(codec) == params->page_size) &&
              (!base || (base->struct_size == sizeof *base && base->page_in && !base->page_out));
    return ok ? PGS_OK : PGS_E_INVALID;
}

static int allocate(struct coded *coded, const pgs_codec *codec)
{
    const struct pgs_coded_params *params = &coded->params;
    uint32_t blob = (uint32_t)blob_size_max(params->page_size);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t coders = cpus < 2 ? 1 : cpus < CODERS_MAX ? (uint32_t)cpus : CODERS_MAX;
    coded->present = calloc(1, bitmap_bytes(coded));
    coded->dropped = calloc(1, bitmap_bytes(coded));
    int error = coded->present && coded->dropped ? PGS_OK : PGS_E_NOMEM;
    if (!error)
        error = blob_table_init(&coded->buffer, coded->blobs.put ? params->buffer_pages : 0,
                                blob);
    if (!error)
        error = blob_table_init(&coded->ahead, params->ahead_pages, blob);
    if (!error && coded->blobs.put)
        error = lender_init(&coded->encoders, LEND_ENCODER, coders, codec, blob);
    if (!error)
        error = lender_init(&coded->decoders, LEND_DECODER, coders, codec, blob);
    if (!error)
        error = lender_init(&coded->room, LEND_BYTES, coders + ROOM_MORE, NULL, blob);
    if (!error)
        error = coded->blobs.present(coded->blobs.ctx, 0, params->page_count, coded->present);
    return error;
}

static bool start(pthread_t *thread, void *(*run)(void *), struct coded *coded)
{
    pthread_attr_t attributes;
    sigset_t all, old;
    /* Signals are for the program's own threads. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    bool started = pthread_create(thread, &attributes, run, coded) == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return started;
}

static int start_threads(struct coded *coded)
{
    bool writes = coded->blobs.put != NULL, reads = coded->params.ahead_pages > 0;
    if (writes)
        coded->has_writer = start(&coded->writer, write_back_run, coded);
    if (reads && writes == coded->has_writer)
        coded->has_reader = start(&coded->reader, read_ahead_run, coded);
    if (coded->has_writer == writes && coded->has_reader == reads)
        return PGS_OK;
    stop_threads(coded);
    return PGS_E_NOMEM;
}

int pgs_backing_coded(const struct pgs_coded_params *params, const struct pgs_blobs *blobs,
                      const struct pgs_backing *base, const pgs_codec *codec,
                      struct pgs_backing *backing_ret)
{
    int error = check(params, blobs, base, codec);
    if (error)
        return error;
    struct coded *coded = calloc(1, sizeof *coded);
    if (!coded)
        return PGS_E_NOMEM;
    coded->params = *params;
    coded->blobs = *blobs;
    coded->codec = codec;
    if (base)
        coded->base = *base;
    coded->shape = (struct blob_shape){.page_size = params->page_size,
                                       .codec_sum = codec_sum_of(codec),
                                       .base_address = params->base_address};
    coded->ahead_limit = params->ahead_pages;
    coded->backoff_ms = 10;
    pthread_mutex_init(&coded->lock, NULL);
    condition_init(&coded->to_write);
    condition_init(&coded->written);
    condition_init(&coded->to_read);
    condition_init(&coded->read);
    error = allocate(coded, codec);
    if (!error)
        error = start_threads(coded);
    if (error) {
        coded_free(coded);
        return error;
    }
    bool writes = blobs->put != NULL;
    *backing_ret = (struct pgs_backing){.struct_size = sizeof *backing_ret,
                                        .flags = base ? base->flags : 0,
                                        .ctx = coded,
                                        .page_in = coded_page_in,
                                        .page_out = writes ? coded_page_out : NULL,
                                        .page_out_copy = writes ? coded_page_out_copy : NULL,
                                        .discard = writes ? coded_discard : NULL,
                                        .flush = writes ? coded_flush : NULL,
                                        .capacity = coded_capacity,
                                        .close = coded_close,
                                        .source = coded_source,
                                        .memory_bytes = coded_memory_bytes};
    return PGS_OK;
}

int pgs_coded_stats(const struct pgs_backing *backing, struct pgs_coded_stats *stats_ret)
{
    if (backing->struct_size != sizeof *backing || backing->page_in != coded_page_in)
        return PGS_E_INVALID;
    struct coded *coded = backing->ctx;
    pthread_mutex_lock(&coded->lock);
    *stats_ret = coded->stats;
    stats_ret->buffered_pages = coded->buffer.used;
    pthread_mutex_unlock(&coded->lock);
    if (!coded->blobs.capacity)
        return PGS_OK;
    return coded->blobs.capacity(coded->blobs.ctx, &stats_ret->total_bytes,
                                 &stats_ret->used_bytes);
}
