/* SPDX-License-Identifier: MIT
 *
 * Replays accesses against a store, and holds every page against a shadow.
 */
#include <string.h>

#include "store/call.h"

/* A write changes one of a few words of its page: pages of a running system
 * change in places, and must not end as noise. */
enum { WORDS_WRITTEN = 8, WORD_BYTES = 8 };

static uint32_t word_offset(uint32_t page_no, uint64_t event, uint32_t page_size)
{
    uint32_t spread = page_size / WORDS_WRITTEN;
    uint32_t within = page_no * 2654435761u % (spread / WORD_BYTES) * WORD_BYTES;
    return (uint32_t)(event % WORDS_WRITTEN) * spread + within;
}

static int touch(struct call *call, uint32_t page_no, bool writes, uint64_t event,
                 unsigned char *expected)
{
    if (!writes)
        return call_do(call, page_no, NEEDS_ENTRY, page_compare, expected);
    uint32_t offset = word_offset(page_no, event, call->job.store->page_size);
    struct part part = {.offset = offset, .size = WORD_BYTES, .in = &event};
    int error = call_do(call, page_no, NEEDS_ENTRY, page_write_part, &part);
    if (!error)
        memcpy(expected + offset, &event, WORD_BYTES);
    return error;
}

int pgs_replay(pgs_store *store, uint32_t object, const uint32_t *page_nos, const uint8_t *kinds,
               size_t count, uint64_t first_event, void *shadow, size_t *done_ret)
{
    struct call call;
    size_t i = 0;
    *done_ret = 0;
    int error = call_begin(&call, store, object, CALL_USES, 0, NULL);
    if (error)
        return error;
    for (; i < count && !error; i++) {
        error = touch(&call, page_nos[i], kinds[i] == PGS_ACCESS_WRITE, first_event + i,
                      (unsigned char *)shadow + (uint64_t)page_nos[i] * store->page_size);
    }
    *done_ret = error ? i - 1 : i;
    call_note(&call, 0, error);
    return call_end(&call);
}
