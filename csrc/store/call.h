/* SPDX-License-Identifier: MIT
 *
 * A call of the public interface under way: it takes a worker, then works
 * page by page, and notes each page's outcome.
 */
#ifndef PGS_CALL_H
#define PGS_CALL_H

#include "store/family.h"

/* The job's page changes from page to page. */
struct call {
    struct job job;
    int32_t *statuses; /* or NULL: stop at the first error */
    int first_error;
};

/* What a call is for: to use pages; to move them, which an atomic section must not; or to do
 * what needs no page's bytes, and so no decoder, for which there may be no RAM. */
enum call_kind { CALL_USES, CALL_MOVES, CALL_TENDS };

/* Begins a call on `count` pages; after an error it must not be ended, and
 * every status is that error. */
int call_begin(struct call *call, pgs_store *store, uint32_t object, enum call_kind kind,
               size_t count, int32_t *statuses);

/* Gives every page the same error. */
void call_refuse(struct call *call, size_t count, int error);

/* Whether the object has all these pages. */
bool call_has(const struct call *call, const uint64_t *page_nos, size_t count);

/* Makes page_no the job's page; PGS_E_RANGE where there is none. It has no entry yet
 * where job.page is NULL. */
int call_select(struct call *call, uint64_t page_no);

/* What is done to a page that was never written, and has no entry. */
enum page_need { LOOKS, /* its entry is not needed */
                 NEEDS_ENTRY };

/* Notes the outcome of the i-th page; false where the call is to stop. */
bool call_note(struct call *call, size_t i, int error);

/* Ends the call: 0, or the first error noted. */
int call_end(struct call *call);

/* Does `action` for each page; it gets its row of page_size `bytes`, if any. */
typedef int page_action(const struct job *job, void *bytes);
/* Does it for one page, anew as often as that moved. */
int call_do(struct call *call, uint64_t page_no, enum page_need need, page_action *action,
            void *bytes);
void call_run(struct call *call, const uint64_t *page_nos, size_t count, enum page_need need,
              page_action *action, void *bytes);
int call_for_each(pgs_store *store, uint32_t object, enum call_kind kind,
                  const uint64_t *page_nos, size_t count, int32_t *statuses, enum page_need need,
                  page_action *action, void *bytes);

/* Bytes of one page. */
struct part {
    uint32_t offset, size;
    void *out;      /* or NULL */
    const void *in; /* or NULL */
};

/* access.c: one page each */
page_action page_compare;   /* expected bytes */
page_action page_read_part; /* a struct part; LOOKS will do */
page_action page_write_part;
/* Claims the page and has it in a frame; a hit is noted. On error it is not claimed. */
int page_claim_hot(const struct job *job);

#endif
