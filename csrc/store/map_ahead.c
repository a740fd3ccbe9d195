/* SPDX-License-Identifier: MIT
 *
 * How many pages a fault brings. A touch of what the one before had brought, or of what comes
 * behind it, goes on with a stream and brings twice as many; one that is of no stream halves
 * what such touches bring. (Streams as in Linux's read-ahead, mm/readahead.c, but found by
 * where they would go on, so that several threads and arrays can share a map.)
 */
#include "store/map_internal.h"

enum { ASKED_FROM = 2 }; /* what comes next is wanted of a stream whose touches bring so many */

void ahead_init(struct ahead *ahead, uint32_t around)
{
    *ahead = (struct ahead){.start = around, .start_max = around};
    pthread_mutex_init(&ahead->lock, NULL);
    for (unsigned i = 0; i < STREAMS; i++)
        ahead->streams[i].from = UINT64_MAX;
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

/* Which way a touch would go on with a stream, were there nothing but its place: 1, -1, or 0, it
 * does not. Only a stream's second touch tells which way it goes. */
static int goes_on(const struct stream *stream, uint64_t page_no)
{
    if (stream->from == UINT64_MAX || page_no == stream->from)
        return 0;
    if (page_no > stream->from)
        return stream->way >= 0 && page_no - stream->from <= stream->span;
    if (stream->way < 0)
        return -(stream->from - page_no <= stream->span);
    return -(stream->way == 0 && stream->from - page_no == 1);
}

/* The same, but a touch goes on only beside a page that is mapped: a long span, perhaps of
 * a stream that has ended, has many pages that are touched by chance. */
static int way_of(const struct stream *stream, const struct touched *touched)
{
    int way = goes_on(stream, touched->page_no);
    return (way > 0 && touched->below) || (way < 0 && touched->above) ? way : 0;
}

/* The stream that it goes on with, and which way; or the one that was idle longest, and 0. */
static struct stream *stream_of(struct ahead *ahead, const struct touched *touched, int *way_ret)
{
    struct stream *oldest = &ahead->streams[0];
    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *stream = &ahead->streams[i];
        *way_ret = way_of(stream, touched);
        if (*way_ret)
            return stream;
        if (ahead->faults - stream->used > ahead->faults - oldest->used)
            oldest = stream;
    }
    return oldest;
}

/* Pages that are wanted beyond a window: many once the stream has shown that it goes on. */
static uint32_t beyond(uint32_t window, uint32_t most)
{
    return window < WINDOW_MAX ? window : least(DEPTH * window, DEPTH / 2 * most);
}

struct plan ahead_plan(struct ahead *ahead, const struct touched *touched)
{
    struct plan plan = {0};
    uint64_t page_no = touched->page_no;
    uint32_t most = touched->most;
    pthread_mutex_lock(&ahead->lock);
    int way;
    struct stream *stream = stream_of(ahead, touched, &way);
    uint32_t window = least(ahead->start, most);
    plan.down = way < 0;
    /* Who wants one page for the first touch wants no more for any. */
    if (way && ahead->start_max > 1) {
        window = least(least(stream->window * 2, WINDOW_MAX), most);
        ahead->start = least(ahead->start * 2, ahead->start_max);
    } else {
        ahead->start -= ahead->start / 2;
    }
    plan.count = touched->have ? 0 : window;
    uint32_t near = touched->have + plan.count;
    if (way && stream->window >= ASKED_FROM)
        plan.wanted = run_of(page_behind(page_no, near, plan.down), beyond(window, most), plan.down);
    *stream = (struct stream){.from = page_no, .span = near + run_pages(plan.wanted),
                              .window = window, .way = way, .used = ++ahead->faults};
    pthread_mutex_unlock(&ahead->lock);
    return plan;
}
