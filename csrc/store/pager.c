/* SPDX-License-Identifier: MIT
 *
 * The external pager, as its client: batches cut into messages. The link does the rest.
 */
#include "pagestep/pager.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "store/pager_internal.h"
#include "store/pager_link.h"

enum { DEADLINE_MS_MAX = 3600000 };

struct pgs_pager {
    _Atomic uint32_t owners;
    uint32_t flags;
    struct pager_link link;
};

int pgs_pager_open(int fd, const struct pgs_pager_params *params, pgs_pager **pager_ret)
{
    if (params->struct_size != sizeof *params || params->deadline_ms == 0 ||
        params->deadline_ms > DEADLINE_MS_MAX || params->flags & ~(uint32_t)PGS_PAGER_READ_ONLY)
        return PGS_E_INVALID;
    pgs_pager *pager = calloc(1, sizeof *pager);
    if (!pager)
        return PGS_E_NOMEM;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int error = own < 0 ? PGS_E_IO : pager_link_init(&pager->link, own, params->deadline_ms);
    if (error) {
        if (own >= 0)
            close(own);
        free(pager);
        return error;
    }
    atomic_init(&pager->owners, 1);
    pager->flags = params->flags;
    *pager_ret = pager;
    return PGS_OK;
}

void pager_keep(pgs_pager *pager)
{
    atomic_fetch_add_explicit(&pager->owners, 1, memory_order_relaxed);
}

/* In a process forked from its own, another thread's lock may be held for ever and the socket
 * is the parent's to shut down: it is left as it is. */
void pager_let_go(pgs_pager *pager)
{
    if (getpid() != pager->link.pid)
        return;
    if (atomic_fetch_sub_explicit(&pager->owners, 1, memory_order_acq_rel) != 1)
        return;
    pager_link_deinit(&pager->link);
    free(pager);
}

void pgs_pager_close(pgs_pager *pager)
{
    if (!pager || getpid() != pager->link.pid)
        return;
    pager_link_lose(&pager->link);
    pager_let_go(pager);
}

int pgs_pager_reconnect(pgs_pager *pager, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return PGS_E_IO;
    pager_link_renew(&pager->link, own);
    return PGS_OK;
}

int pgs_pager_is_connected(pgs_pager *pager)
{
    pthread_mutex_lock(&pager->link.lock);
    int connected = !pager->link.lost;
    pthread_mutex_unlock(&pager->link.lock);
    return connected;
}

void pgs_pager_text(pgs_pager *pager, char *text, size_t capacity, size_t *size_ret)
{
    pthread_mutex_lock(&pager->link.lock);
    *size_ret = pager->link.text_size < capacity ? pager->link.text_size : capacity;
    memcpy(text, pager->link.text, *size_ret);
    pthread_mutex_unlock(&pager->link.lock);
}

/* -- blobs ---------------------------------------------------------------------------- */

/* How many of the blobs go into one message; 0: not even the first one can. */
static size_t batch_of(const struct pgs_blob *blobs, size_t count, uint16_t op)
{
    size_t bytes = 0, taken = 0;
    while (taken < count && taken < PGS_PAGER_BATCH_MAX) {
        bytes += op == PAGER_PUT ? blobs[taken].size : blobs[taken].capacity;
        if (bytes > PGS_PAGER_BYTES_MAX)
            break;
        taken++;
    }
    return taken;
}

static int ask_one(pgs_pager *pager, struct pager_question *question, uint64_t deadline_ns)
{
    int error = pager_link_ask(&pager->link, question, deadline_ns);
    for (uint64_t i = 0; i < question->count; i++) {
        if (error)
            question->statuses[i] = error;
        if (question->statuses[i] && question->op != PAGER_PUT)
            question->blobs[i].size = 0;
    }
    for (uint64_t i = 0; i < question->count && !error; i++)
        error = question->statuses[i];
    return error;
}

static int ask_blobs(pgs_pager *pager, uint16_t op, struct pgs_blob *blobs, size_t count,
                     int32_t *statuses)
{
    uint64_t deadline_ns = pager_link_deadline(&pager->link);
    int first = PGS_OK;
    for (size_t at = 0; at < count;) {
        struct pager_question question = {.op = op, .blobs = blobs + at, .statuses = statuses + at};
        question.count = batch_of(blobs + at, count - at, op);
        int error = PGS_E_INVALID;
        if (question.count) {
            error = ask_one(pager, &question, deadline_ns);
        } else {
            statuses[at] = error;
            question.count = 1;
        }
        first = first ? first : error;
        at += question.count;
    }
    return first;
}

static int blobs_get(void *ctx, struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    return ask_blobs(ctx, PAGER_GET, blobs, count, statuses_ret);
}

static int blobs_put(void *ctx, const struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    /* A PUT's blobs are only read. */
    return ask_blobs(ctx, PAGER_PUT, (struct pgs_blob *)blobs, count, statuses_ret);
}

int pgs_pager_read(pgs_pager *pager, struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    return ask_blobs(pager, PAGER_READ, blobs, count, statuses_ret);
}

/* -- the store as a whole ------------------------------------------------------------- */

static int ask(pgs_pager *pager, struct pager_question question)
{
    return pager_link_ask(&pager->link, &question, pager_link_deadline(&pager->link));
}

static int blobs_discard(void *ctx, uint64_t first_page_no, uint64_t page_count)
{
    if (page_count > UINT64_MAX - first_page_no)
        return PGS_E_RANGE;
    return ask(ctx, (struct pager_question){
                        .op = PAGER_DISCARD, .first = first_page_no, .count = page_count});
}

static int blobs_flush(void *ctx)
{
    return ask(ctx, (struct pager_question){.op = PAGER_FLUSH});
}

static int blobs_capacity(void *ctx, uint64_t *total_ret, uint64_t *used_ret)
{
    uint64_t words[2] = {0, 0};
    int error = ask(ctx, (struct pager_question){.op = PAGER_CAPACITY, .words = words});
    *total_ret = words[0];
    *used_ret = words[1];
    return error;
}

static int blobs_present(void *ctx, uint64_t first_page_no, uint64_t page_count, uint64_t *bits)
{
    pgs_pager *pager = ctx;
    uint64_t deadline_ns = pager_link_deadline(&pager->link);
    int error = page_count > UINT64_MAX - first_page_no ? PGS_E_RANGE : PGS_OK;
    for (uint64_t at = 0; at < page_count && !error; at += PGS_PAGER_PRESENT_MAX) {
        uint64_t left = page_count - at;
        struct pager_question question = {
            .op = PAGER_PRESENT,
            .first = first_page_no + at,
            .count = left < PGS_PAGER_PRESENT_MAX ? left : PGS_PAGER_PRESENT_MAX,
            .words = bits + at / 64};
        error = pager_link_ask(&pager->link, &question, deadline_ns);
    }
    return error;
}

static void blobs_close(void *ctx)
{
    pager_let_go(ctx);
}

uint64_t pager_memory_bytes(void *ctx)
{
    (void)ctx;
    return sizeof(struct pgs_pager);
}

int pgs_pager_blobs(pgs_pager *pager, struct pgs_blobs *blobs_ret)
{
    pager_keep(pager);
    *blobs_ret = (struct pgs_blobs){.struct_size = sizeof *blobs_ret,
                                    .ctx = pager,
                                    .get = blobs_get,
                                    .flush = blobs_flush,
                                    .capacity = blobs_capacity,
                                    .present = blobs_present,
                                    .close = blobs_close,
                                    .memory_bytes = pager_memory_bytes};
    if (!(pager->flags & PGS_PAGER_READ_ONLY)) {
        blobs_ret->put = blobs_put;
        blobs_ret->discard = blobs_discard;
    }
    return PGS_OK;
}
