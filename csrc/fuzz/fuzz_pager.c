/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a pager's answer. The first two say what was asked: the call, and how many
 * blobs.
 */
#include "pagestep/error.h"
#include "store/pager_wire.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 96, WORDS = PGS_PAGER_PRESENT_MAX / 64 };

/* Every blob's room, and the statuses, end where the sanitizer watches. */
static void take(struct pager_question *question, const struct pager_header *header,
                 const uint8_t *bytes)
{
    int status = 0;
    uint8_t *body = malloc(header->size + !header->size);
    memcpy(body, bytes, header->size);
    int error = pager_answer(question, header, body, &status);
    if (error != PGS_OK && error != PGS_E_CORRUPT)
        abort();
    for (uint64_t i = 0; question->blobs && i < question->count; i++)
        if (question->blobs[i].size > question->blobs[i].capacity || question->statuses[i] > 0)
            abort();
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 + PAGER_HEADER_SIZE)
        return 0;
    struct pager_question question = {.op = (uint16_t)(1 + data[0] % PAGER_READ)};
    bool has_blobs = question.op == PAGER_GET || question.op == PAGER_PUT ||
                     question.op == PAGER_READ;
    question.count = has_blobs ? data[1] % (PGS_PAGER_BATCH_MAX + 1) : data[1] * UINT64_C(257);
    struct pgs_blob blobs[PGS_PAGER_BATCH_MAX];
    question.words = calloc(WORDS, sizeof *question.words);
    question.statuses = calloc(question.count + 1, sizeof *question.statuses);
    for (uint64_t i = 0; has_blobs && i < question.count; i++) {
        uint32_t room = question.op == PAGER_PUT ? 0 : (uint32_t)(i * 7 % ROOM);
        blobs[i] = (struct pgs_blob){.page_no = i, .capacity = room, .bytes = malloc(room + !room)};
    }
    question.blobs = has_blobs ? blobs : NULL;
    struct pager_header header;
    data += 2;
    size -= 2;
    if (!pager_header_read(data, &header) && header.size <= size - PAGER_HEADER_SIZE)
        take(&question, &header, data + PAGER_HEADER_SIZE);
    for (uint64_t i = 0; has_blobs && i < question.count; i++)
        free(blobs[i].bytes);
    free(question.statuses);
    free(question.words);
    return 0;
}
