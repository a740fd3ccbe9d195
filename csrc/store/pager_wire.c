/* SPDX-License-Identifier: MIT
 *
 * The messages of the external pager. What it answers is as little trusted as a file.
 */
#include "store/pager_wire.h"

#include <stdbool.h>
#include <string.h>

#include "codec/le.h"
#include "pagestep/error.h"

enum { STATUS_MIN = -255 };

static bool has_items(uint16_t op)
{
    return op == PAGER_GET || op == PAGER_PUT || op == PAGER_READ;
}

/* GET and READ say how much is wanted, PUT how much follows. */
static size_t put_items(const struct pager_question *question, uint8_t *at, size_t *following)
{
    for (uint64_t i = 0; i < question->count; i++, at += PAGER_ITEM_SIZE) {
        const struct pgs_blob *blob = &question->blobs[i];
        uint32_t size = question->op == PAGER_PUT ? blob->size : blob->capacity;
        pgs_store_le64(at, blob->page_no);
        pgs_store_le32(at + 8, size);
        pgs_store_le32(at + 12, 0);
        *following += question->op == PAGER_PUT ? size : 0;
    }
    return question->count * PAGER_ITEM_SIZE;
}

size_t pager_ask(const struct pager_question *question, uint32_t deadline_ms, uint8_t *head)
{
    size_t size = 0, following = 0;
    uint8_t *body = head + PAGER_HEADER_SIZE;
    if (has_items(question->op)) {
        size = put_items(question, body, &following);
    } else if (question->op == PAGER_DISCARD || question->op == PAGER_PRESENT) {
        pgs_store_le64(body, question->first);
        pgs_store_le64(body + 8, question->count);
        size = 16;
    }
    pgs_store_le32(head, (uint32_t)(size + following));
    pgs_store_le16(head + 4, question->op);
    pgs_store_le16(head + 6, 0);
    pgs_store_le64(head + 8, question->id);
    pgs_store_le32(head + 16, deadline_ms);
    pgs_store_le32(head + 20, 0);
    return PAGER_HEADER_SIZE + size;
}

int pager_header_read(const uint8_t *bytes, struct pager_header *header_ret)
{
    struct pager_header header = {.size = pgs_load_le32(bytes),
                                  .op = pgs_load_le16(bytes + 4),
                                  .flags = pgs_load_le16(bytes + 6),
                                  .id = pgs_load_le64(bytes + 8),
                                  .status = (int32_t)pgs_load_le32(bytes + 16),
                                  .text_size = pgs_load_le32(bytes + 20)};
    if (header.size > PAGER_MESSAGE_MAX - PAGER_HEADER_SIZE || header.flags != PAGER_ANSWER ||
        header.op < PAGER_GET || header.op > PAGER_READ || header.status > 0 ||
        header.status < STATUS_MIN || header.text_size > PGS_PAGER_TEXT_MAX ||
        header.text_size > header.size)
        return PGS_E_CORRUPT;
    *header_ret = header;
    return PGS_OK;
}

/* One item, which must be of the page that was asked for; its bytes are at *data. */
static int take_item(const struct pager_question *question, uint64_t i, const uint8_t *item,
                     const uint8_t **data, const uint8_t *end)
{
    struct pgs_blob *blob = &question->blobs[i];
    int32_t status = (int32_t)pgs_load_le32(item + 8);
    uint32_t size = pgs_load_le32(item + 12);
    if (pgs_load_le64(item) != blob->page_no || status > 0 || status < STATUS_MIN)
        return PGS_E_CORRUPT;
    question->statuses[i] = status;
    if (question->op == PAGER_PUT)
        return size ? PGS_E_CORRUPT : PGS_OK;
    if (size > blob->capacity || size > (size_t)(end - *data) || (status && size))
        return PGS_E_CORRUPT;
    if (question->op == PAGER_READ && !status && size != blob->capacity)
        return PGS_E_CORRUPT;
    if (size)
        memcpy(blob->bytes, *data, size);
    blob->size = size;
    *data += size;
    return PGS_OK;
}

static int take_items(const struct pager_question *question, const uint8_t *body, size_t size)
{
    size_t items = question->count * PAGER_ITEM_SIZE;
    if (size < items)
        return PGS_E_CORRUPT;
    const uint8_t *data = body + items, *end = body + size;
    for (uint64_t i = 0; i < question->count; i++) {
        int error = take_item(question, i, body + i * PAGER_ITEM_SIZE, &data, end);
        if (error)
            return error;
    }
    return data == end ? PGS_OK : PGS_E_CORRUPT;
}

static int take_words(const struct pager_question *question, const uint8_t *body, size_t size)
{
    uint64_t words = question->op == PAGER_CAPACITY ? 2 : (question->count + 63) / 64;
    if (size != words * 8)
        return PGS_E_CORRUPT;
    for (uint64_t i = 0; i < words; i++)
        question->words[i] = pgs_load_le64(body + i * 8);
    uint64_t over = question->op == PAGER_PRESENT ? question->count % 64 : 0;
    if (over && question->words[words - 1] >> over)
        return PGS_E_CORRUPT;
    return PGS_OK;
}

int pager_answer(const struct pager_question *question, const struct pager_header *header,
                 const uint8_t *body, int *status_ret)
{
    size_t size = header->size - header->text_size;
    if (header->op != question->op)
        return PGS_E_CORRUPT;
    *status_ret = header->status;
    if (header->status)
        return size ? PGS_E_CORRUPT : PGS_OK;
    if (has_items(question->op))
        return take_items(question, body, size);
    if (question->op == PAGER_CAPACITY || question->op == PAGER_PRESENT)
        return take_words(question, body, size);
    return size ? PGS_E_CORRUPT : PGS_OK;
}
