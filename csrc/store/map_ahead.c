/* SPDX-License-Identifier: MIT
 *
 * How many pages a fault brings. A touch beside the last of a stream goes on with it and
 * brings twice as many as the one before; a touch that is of no stream halves what such
 * touches bring. (Streams as in Linux's read-ahead, mm/readahead.c, but found by
 * where they would go on, so that several threads and arrays can share a map.)
 */
#include "store/map_internal.h"

void ahead_init(struct ahead *ahead, uint32_t around)
{
    pthread_mutex_init(&ahead->lock, NULL);
    ahead->start = ahead->start_max = around;
    for (unsigned i = 0; i < STREAMS; i++)
        ahead->streams[i] = (struct stream){.above = UINT64_MAX, .below = UINT64_MAX};
}

void ahead_deinit(struct ahead *ahead)
{
    pthread_mutex_destroy(&ahead->lock);
}

uint32_t ahead_start(struct ahead *ahead)
{
    pthread_mutex_lock(&ahead->lock);
    uint32_t start = ahead->start;
    pthread_mutex_unlock(&ahead->lock);
    return start;
}

static uint32_t least(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

struct window ahead_choose(struct ahead *ahead, uint64_t page_no, uint32_t most)
{
    struct window window = {0};
    pthread_mutex_lock(&ahead->lock);
    for (unsigned i = 0; i < STREAMS && !window.count; i++) {
        struct stream *stream = &ahead->streams[i];
        if (stream->above != page_no && stream->below != page_no)
            continue;
        window.down = stream->above != page_no;
        window.count = least(stream->window * 2, AROUND_MAX);
        ahead->start = least(ahead->start * 2, ahead->start_max);
    }
    if (!window.count) {
        window.count = ahead->start;
        ahead->start -= ahead->start / 2;
    }
    pthread_mutex_unlock(&ahead->lock);
    window.count = least(window.count, most);
    return window;
}

/* The stream that it goes on with, or the one that was idle longest. */
static struct stream *stream_of(struct ahead *ahead, uint64_t page_no)
{
    struct stream *oldest = &ahead->streams[0];
    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *stream = &ahead->streams[i];
        if (stream->above == page_no || stream->below == page_no)
            return stream;
        if (ahead->faults - stream->used > ahead->faults - oldest->used)
            oldest = stream;
    }
    return oldest;
}

void ahead_note(struct ahead *ahead, uint64_t page_no, struct window brought)
{
    pthread_mutex_lock(&ahead->lock);
    ahead->faults++;
    *stream_of(ahead, page_no) =
        (struct stream){.above = brought.down ? page_no + 1 : page_no + brought.count,
                        .below = brought.down ? page_no - brought.count : page_no - 1,
                        .window = brought.count,
                        .used = ahead->faults};
    pthread_mutex_unlock(&ahead->lock);
}
