/* SPDX-License-Identifier: MIT
 *
 * The messages of docs/PAGER.md, between bytes and what is asked and answered. No I/O.
 */
#ifndef PGS_PAGER_WIRE_H
#define PGS_PAGER_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/pager.h"

enum pager_op {
    PAGER_GET = 1,
    PAGER_PUT = 2,
    PAGER_DISCARD = 3,
    PAGER_FLUSH = 4,
    PAGER_CAPACITY = 5,
    PAGER_PRESENT = 6,
    PAGER_READ = 7
};

enum {
    PAGER_HEADER_SIZE = 24,
    PAGER_ITEM_SIZE = 16,
    PAGER_ANSWER = 1, /* flag of a header */
    PAGER_HEAD_MAX = PAGER_HEADER_SIZE + PGS_PAGER_BATCH_MAX * PAGER_ITEM_SIZE,
    PAGER_MESSAGE_MAX = PAGER_HEAD_MAX + PGS_PAGER_BYTES_MAX + PGS_PAGER_TEXT_MAX
};

/* What is asked, and where the answer goes. `blobs` for GET, PUT and READ, `first` and `count`
 * for DISCARD and PRESENT. */
struct pager_question {
    uint16_t op;
    uint64_t id;
    uint64_t first, count;
    struct pgs_blob *blobs;
    int32_t *statuses; /* one for each blob */
    uint64_t *words;   /* PRESENT: (count + 63) / 64; CAPACITY: 2 */
};

struct pager_header {
    uint32_t size; /* of what follows */
    uint16_t op;
    uint16_t flags;
    uint64_t id;
    int32_t status;
    uint32_t text_size; /* the last bytes of it */
};

/* Writes a question's header and items, at most PAGER_HEAD_MAX bytes; the blobs of a PUT
 * follow it. */
size_t pager_ask(const struct pager_question *question, uint32_t deadline_ms, uint8_t *head);

/* Reads an answer's header. PGS_E_CORRUPT: it cannot be one, or is of more than
 * PAGER_MESSAGE_MAX bytes. */
int pager_header_read(const uint8_t *bytes, struct pager_header *header_ret);

/* Takes the answer to a question from `body`, header->size bytes. *status_ret is what the
 * pager says of the whole. Returns PGS_E_CORRUPT where it is no answer to this question;
 * blobs and statuses may then have changed. Nothing is written beyond a blob's capacity. */
int pager_answer(const struct pager_question *question, const struct pager_header *header,
                 const uint8_t *body, int *status_ret);

#endif
