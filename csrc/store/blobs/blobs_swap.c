/* SPDX-License-Identifier: MIT
 *
 * The swap file's functions as blobs.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "store/blobs/swap.h"

enum { RETRIES = 64 };

/* -- get -------------------------------------------------------------------------------- */

static unsigned char *buffer_take(struct swap *swap, unsigned *which_ret)
{
    pthread_mutex_lock(&swap->read_lock);
    for (;;) {
        for (unsigned i = 0; i < READ_BUFFERS; i++) {
            if (swap->read_taken[i])
                continue;
            swap->read_taken[i] = true;
            pthread_mutex_unlock(&swap->read_lock);
            *which_ret = i;
            return swap->read_buffers[i];
        }
        pthread_cond_wait(&swap->read_given, &swap->read_lock);
    }
}

static void buffer_give(struct swap *swap, unsigned which)
{
    pthread_mutex_lock(&swap->read_lock);
    swap->read_taken[which] = false;
    pthread_cond_signal(&swap->read_given);
    pthread_mutex_unlock(&swap->read_lock);
}

static struct swap_place place_of(struct swap *swap, uint64_t page_no)
{
    pthread_mutex_lock(&swap->map_lock);
    struct swap_place place = swap->places[page_no];
    pthread_mutex_unlock(&swap->map_lock);
    return place;
}

/* Hands out the blob of the record that was read from `place`. */
static int unpack(const struct swap *swap, struct swap_place place, const unsigned char *bytes,
                  struct pgs_blob *blob)
{
    struct swap_record record;
    if (!swap_record_read(&swap->header, place.unit, bytes, &record) ||
        record.page_no != blob->page_no)
        return PGS_E_CORRUPT;
    if (record.size > blob->capacity)
        return PGS_E_INVALID;
    memcpy(blob->bytes, bytes + RECORD_HEADER_SIZE, record.size);
    blob->size = record.size;
    return PGS_OK;
}

/* While it is read, a record may be moved, and its units used for another: then its page has
 * another place by now. */
static int get_one(struct swap *swap, unsigned char *buffer, struct pgs_blob *blob)
{
    int error = PGS_E_CORRUPT;
    for (int i = 0; i < RETRIES; i++) {
        struct swap_place place = place_of(swap, blob->page_no);
        blob->size = 0;
        if (place.unit == PLACE_NONE)
            return PGS_OK;
        error = swap_read_units(swap, place.unit, place.units, buffer);
        if (!error)
            error = unpack(swap, place, buffer, blob);
        struct swap_place now = place_of(swap, blob->page_no);
        if (error != PGS_E_CORRUPT || now.unit == place.unit)
            return error;
    }
    return error;
}

/* How many of these blobs lie one after the other, and fit the buffer. */
static size_t run_of(struct swap *swap, const struct pgs_blob *blobs, size_t count,
                     struct swap_place *span_ret)
{
    size_t run = 0;
    pthread_mutex_lock(&swap->map_lock);
    *span_ret = swap->places[blobs[0].page_no];
    for (uint32_t units = 0; run < count && blobs[run].page_no < swap->header.shape.page_count;
         run++) {
        struct swap_place place = swap->places[blobs[run].page_no];
        if (place.unit == PLACE_NONE || place.unit != span_ret->unit + units ||
            swap_bytes(swap, units + place.units) > swap->read_size)
            break;
        units += place.units;
        span_ret->units = units;
    }
    pthread_mutex_unlock(&swap->map_lock);
    return run;
}

/* Reads what lies together at once; what does not come out so is read by itself. */
static size_t get_run(struct swap *swap, unsigned char *buffer, struct pgs_blob *blobs,
                      size_t count, int32_t *statuses)
{
    struct swap_place span;
    size_t run = run_of(swap, blobs, count, &span);
    if (run < 2 || swap_read_units(swap, span.unit, span.units, buffer)) {
        statuses[0] = get_one(swap, buffer, &blobs[0]);
        return 1;
    }
    uint32_t at = 0;
    for (size_t i = 0; i < run; i++) {
        const unsigned char *bytes = buffer + swap_bytes(swap, at);
        struct swap_place place = {.unit = span.unit + at};
        if (unpack(swap, place, bytes, &blobs[i])) {
            statuses[i] = get_one(swap, buffer, &blobs[i]);
            return i + 1;
        }
        statuses[i] = PGS_OK;
        at += swap_units(swap->header.unit_size, blobs[i].size);
    }
    return run;
}

static int swap_get(void *ctx, struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    struct swap *swap = ctx;
    int error = PGS_OK;
    unsigned which;
    unsigned char *buffer = buffer_take(swap, &which);
    for (size_t i = 0; i < count;) {
        size_t done = 1;
        if (blobs[i].page_no >= swap->header.shape.page_count)
            statuses_ret[i] = PGS_E_RANGE;
        else
            done = get_run(swap, buffer, blobs + i, count - i, statuses_ret + i);
        for (; done > 0; done--, i++)
            error = error ? error : statuses_ret[i];
    }
    buffer_give(swap, which);
    return error;
}

/* -- put -------------------------------------------------------------------------------- */

/* A batch on its way: records that lie together are written at once. */
struct span {
    size_t first, count; /* of the blobs */
    uint64_t unit;
    uint32_t units;
};

static uint64_t try_take(struct swap *swap, uint32_t units)
{
    pthread_mutex_lock(&swap->map_lock);
    uint64_t unit = swap_space_take(&swap->space, units);
    pthread_mutex_unlock(&swap->map_lock);
    return unit;
}

static int take_units(struct swap *swap, uint32_t units, uint64_t *unit_ret)
{
    *unit_ret = try_take(swap, units);
    int error = PGS_OK;
    if (*unit_ret == SPACE_NONE && swap->limbo_count) {
        error = swap_leave_limbo(swap);
        *unit_ret = error ? SPACE_NONE : try_take(swap, units);
    }
    if (*unit_ret == SPACE_NONE && !error) {
        error = swap_compact(swap, units);
        *unit_ret = error ? SPACE_NONE : try_take(swap, units);
    }
    return error || *unit_ret != SPACE_NONE ? error : PGS_E_FULL;
}

/* Writes the span's records. They are their pages' from then on, and all or none of them. */
static void write_span(struct swap *swap, struct span *span, const struct pgs_blob *blobs,
                       int32_t *statuses)
{
    int error = PGS_OK;
    uint32_t at = 0;
    if (span->count)
        error = swap_write_units(swap, span->unit, span->units, swap->write_buffer);
    for (size_t i = span->first; i < span->first + span->count; i++) {
        struct swap_place place = {.unit = (uint32_t)span->unit + at,
                                   .units = swap_units(swap->header.unit_size, blobs[i].size)};
        at += place.units;
        /* After an error it may be there in part, or whole: it must go as an old one does. */
        statuses[i] = error ? error : PGS_OK;
        int limbo_error = error ? swap_to_limbo(swap, blobs[i].page_no, place)
                                : swap_settle(swap, blobs[i].page_no, place);
        (void)limbo_error; /* its units are lost until the file is opened again */
    }
    *span = (struct span){0};
}

/* Gives the blob its place in the span, which is written first where they are not neighbours. */
static int add_to_span(struct swap *swap, struct span *span, const struct pgs_blob *blobs,
                       size_t i, int32_t *statuses)
{
    uint32_t units = swap_units(swap->header.unit_size, blobs[i].size);
    uint64_t unit;
    /* Compaction and limbo need places as they will be. */
    pthread_mutex_lock(&swap->map_lock);
    unit = swap_space_take(&swap->space, units);
    pthread_mutex_unlock(&swap->map_lock);
    if (unit == SPACE_NONE) {
        write_span(swap, span, blobs, statuses);
        int error = take_units(swap, units, &unit);
        if (error)
            return error;
    }
    if (span->count && (span->unit + span->units != unit ||
                        swap_bytes(swap, span->units + units) > swap->write_size))
        write_span(swap, span, blobs, statuses);
    if (!span->count)
        *span = (struct span){.first = i, .unit = unit};
    struct swap_record record = {.page_no = blobs[i].page_no,
                                 .sequence = ++swap->sequence,
                                 .size = blobs[i].size};
    swap_record_write(&swap->header, unit, &record, blobs[i].bytes,
                      swap->write_buffer + swap_bytes(swap, span->units));
    span->units += units;
    span->count++;
    return PGS_OK;
}

static bool is_valid(const struct swap *swap, const struct pgs_blob *blob)
{
    return blob->page_no < swap->header.shape.page_count && blob->size > 0 &&
           blob->size <= swap->header.shape.page_size + PGS_BLOB_EXTRA_MAX;
}

static int swap_put(void *ctx, const struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    struct swap *swap = ctx;
    struct span span = {0};
    int error = PGS_OK;
    pthread_mutex_lock(&swap->write_lock);
    for (size_t i = 0; i < count; i++) {
        statuses_ret[i] = is_valid(swap, &blobs[i])
                              ? add_to_span(swap, &span, blobs, i, statuses_ret)
                              : PGS_E_INVALID;
        if (statuses_ret[i]) /* the span is of blobs that follow each other */
            write_span(swap, &span, blobs, statuses_ret);
    }
    write_span(swap, &span, blobs, statuses_ret);
    pthread_mutex_unlock(&swap->write_lock);
    for (size_t i = 0; i < count; i++)
        error = error ? error : statuses_ret[i];
    return error;
}

/* -- discard, flush --------------------------------------------------------------------- */

/* Older records of a page go first, or one of them would be the newest. */
static int clear_older(struct swap *swap, uint64_t first, uint64_t count)
{
    for (uint32_t i = 0; i < swap->limbo_count; i++)
        if (swap->limbo[i].page_no - first < count)
            return swap_leave_limbo(swap);
    return PGS_OK;
}

static int discard_one(struct swap *swap, uint64_t page_no)
{
    struct swap_place place = place_of(swap, page_no);
    if (place.unit == PLACE_NONE)
        return PGS_OK;
    int error = swap_clear(swap, place);
    if (error)
        return error;
    pthread_mutex_lock(&swap->map_lock);
    swap->places[page_no].unit = PLACE_NONE;
    swap_space_give(&swap->space, place.unit, place.units);
    pthread_mutex_unlock(&swap->map_lock);
    return PGS_OK;
}

static int swap_discard(void *ctx, uint64_t first_page_no, uint64_t page_count)
{
    struct swap *swap = ctx;
    uint64_t pages = swap->header.shape.page_count;
    if (first_page_no > pages || page_count > pages - first_page_no)
        return PGS_E_RANGE;
    pthread_mutex_lock(&swap->write_lock);
    int error = clear_older(swap, first_page_no, page_count);
    for (uint64_t i = 0; !error && i < page_count; i++)
        error = discard_one(swap, first_page_no + i);
    pthread_mutex_unlock(&swap->write_lock);
    return error;
}

static int flush_locked(struct swap *swap)
{
    int error = swap_leave_limbo(swap);
    /* What was cleared must not come back either. */
    return error ? error : swap_sync(swap);
}

static int swap_flush(void *ctx)
{
    struct swap *swap = ctx;
    pthread_mutex_lock(&swap->write_lock);
    int error = flush_locked(swap);
    pthread_mutex_unlock(&swap->write_lock);
    return error;
}

/* -- the rest --------------------------------------------------------------------------- */

static int swap_capacity(void *ctx, uint64_t *total_ret, uint64_t *used_ret)
{
    struct swap *swap = ctx;
    pthread_mutex_lock(&swap->map_lock);
    *total_ret = swap_bytes(swap, swap->bay);
    *used_ret = swap_bytes(swap, swap->space.taken_count - swap->units_max);
    pthread_mutex_unlock(&swap->map_lock);
    return PGS_OK;
}

static int swap_present(void *ctx, uint64_t first_page_no, uint64_t page_count, uint64_t *bits)
{
    struct swap *swap = ctx;
    uint64_t pages = swap->header.shape.page_count;
    if (first_page_no > pages || page_count > pages - first_page_no)
        return PGS_E_RANGE;
    memset(bits, 0, (page_count + 63) / 64 * sizeof *bits);
    pthread_mutex_lock(&swap->map_lock);
    for (uint64_t i = 0; i < page_count; i++)
        if (swap->places[first_page_no + i].unit != PLACE_NONE)
            bits[i / 64] |= (uint64_t)1 << i % 64;
    pthread_mutex_unlock(&swap->map_lock);
    return PGS_OK;
}

void swap_free(struct swap *swap)
{
    if (swap->fd >= 0)
        close(swap->fd);
    free(swap->places);
    free(swap->limbo);
    free(swap->write_buffer);
    free(swap->zero_unit);
    for (unsigned i = 0; i < READ_BUFFERS; i++)
        free(swap->read_buffers[i]);
    swap_space_deinit(&swap->space);
    pthread_mutex_destroy(&swap->write_lock);
    pthread_mutex_destroy(&swap->map_lock);
    pthread_mutex_destroy(&swap->read_lock);
    pthread_cond_destroy(&swap->read_given);
    free(swap);
}

static void swap_close(void *ctx)
{
    struct swap *swap = ctx;
    if (!swap->temporary)
        (void)flush_locked(swap); /* what it could not do, the next to open it does */
    swap_free(swap);
}

static uint64_t swap_memory_bytes(void *ctx)
{
    const struct swap *swap = ctx;
    return sizeof *swap + (swap->limbo ? LIMBO_MAX * sizeof *swap->limbo : 0) +
           swap->header.shape.page_count * sizeof *swap->places +
           swap_space_bytes(&swap->space) + swap->write_size + SWAP_ALIGN +
           READ_BUFFERS * swap->read_size;
}

struct pgs_blobs swap_blobs(struct swap *swap)
{
    return (struct pgs_blobs){.struct_size = sizeof(struct pgs_blobs),
                              .ctx = swap,
                              .get = swap_get,
                              .put = swap_put,
                              .discard = swap_discard,
                              .flush = swap_flush,
                              .capacity = swap_capacity,
                              .present = swap_present,
                              .close = swap_close,
                              .memory_bytes = swap_memory_bytes};
}
