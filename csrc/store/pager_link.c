/* SPDX-License-Identifier: MIT
 *
 * A socket that many threads ask over at once. One of those that wait is the leader and
 * reads for all, into a buffer of the link's: so a thread that gives up leaves nothing
 * behind that could be written to later, and a message half read is the next leader's.
 * Sending goes in turn. What a sender that gave up had not sent is sent before the next
 * message, for the pager must not lose count of the bytes.
 */
#define _GNU_SOURCE /* ppoll */
#include "store/pager_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "pagestep/error.h"

enum { SECOND_NS = 1000000000 };

struct pager_call {
    struct pager_call *next;
    const struct pager_question *question;
    bool done;
    bool waits; /* for `wake`; else it is sending, or leads */
    int status;
    pthread_cond_t wake;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static struct timespec as_time(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

uint64_t pager_link_deadline(const struct pager_link *link)
{
    return now_ns() + (uint64_t)link->deadline_ms * 1000000;
}

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int pager_link_init(struct pager_link *link, int fd, uint32_t deadline_ms)
{
    if (pthread_mutex_init(&link->lock, NULL))
        return PGS_E_NOMEM;
    cond_init(&link->quiet);
    link->pid = getpid();
    link->deadline_ms = deadline_ms;
    link->fd = fd;
    return PGS_OK;
}

void pager_link_deinit(struct pager_link *link)
{
    close(link->fd);
    pthread_cond_destroy(&link->quiet);
    pthread_mutex_destroy(&link->lock);
}

/* -- under the lock ------------------------------------------------------------------- */

static void finish(struct pager_call *call, int status)
{
    call->done = true;
    call->status = status;
    pthread_cond_signal(&call->wake);
}

static void lose(struct pager_link *link)
{
    link->lost = true;
    shutdown(link->fd, SHUT_RDWR); /* whoever polls it wakes */
    for (struct pager_call *call = link->calls; call; call = call->next)
        if (!call->done)
            finish(call, PGS_E_STORE_LOST);
    pthread_cond_broadcast(&link->quiet);
}

static void release(struct pager_link *link)
{
    link->users--;
    pthread_cond_broadcast(&link->quiet);
}

static void unlink_call(struct pager_link *link, const struct pager_call *call)
{
    struct pager_call **at = &link->calls;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
}

/* Somebody who still waits must read on. */
static void pass_lead(struct pager_link *link)
{
    struct pager_call *call = link->calls;
    while (call && (call->done || !call->waits))
        call = call->next;
    if (call && !link->leading)
        pthread_cond_signal(&call->wake);
}

/* An answer that nobody waits for any more is dropped. */
static int deliver(struct pager_link *link, const struct pager_header *header, const uint8_t *body)
{
    if (header->text_size) {
        memcpy(link->text, body + header->size - header->text_size, header->text_size);
        link->text_size = header->text_size;
    }
    struct pager_call *call = link->calls;
    while (call && call->question->id != header->id)
        call = call->next;
    if (!call || call->done)
        return header->id && header->id <= link->last_id ? PGS_OK : PGS_E_CORRUPT;
    int status;
    int error = pager_answer(call->question, header, body, &status);
    if (!error)
        finish(call, status);
    return error;
}

/* Takes the whole messages in `in`. */
static int consume(struct pager_link *link)
{
    uint32_t at = 0;
    while (link->in_size - at >= PAGER_HEADER_SIZE) {
        struct pager_header header;
        int error = pager_header_read(link->in + at, &header);
        if (!error && link->in_size - at - PAGER_HEADER_SIZE < header.size)
            break;
        if (!error)
            error = deliver(link, &header, link->in + at + PAGER_HEADER_SIZE);
        if (error)
            return error;
        at += PAGER_HEADER_SIZE + header.size;
    }
    memmove(link->in, link->in + at, link->in_size - at);
    link->in_size -= at;
    return PGS_OK;
}

/* -- without the lock ----------------------------------------------------------------- */

static int wait_for(int fd, short events, uint64_t deadline_ns)
{
    uint64_t now = now_ns();
    struct timespec left = as_time(deadline_ns > now ? deadline_ns - now : 0);
    struct pollfd poll = {.fd = fd, .events = events};
    int ready = ppoll(&poll, 1, &left, NULL);
    if (ready == 0)
        return PGS_E_TIMEOUT;
    return ready > 0 || errno == EINTR ? PGS_OK : PGS_E_STORE_LOST;
}

static int receive(int fd, uint8_t *bytes, size_t capacity, uint64_t deadline_ns,
                   uint32_t *size_ret)
{
    *size_ret = 0;
    int error = wait_for(fd, POLLIN, deadline_ns);
    if (error)
        return error;
    ssize_t size = recv(fd, bytes, capacity, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return PGS_OK;
    if (size <= 0)
        return PGS_E_STORE_LOST;
    *size_ret = (uint32_t)size;
    return PGS_OK;
}

/* Sends pieces; those that are not are left in `pieces`, from *first on. */
static int send_pieces(int fd, struct iovec *pieces, size_t count, uint64_t deadline_ns,
                       size_t *first)
{
    while (*first < count) {
        struct msghdr message = {.msg_iov = pieces + *first, .msg_iovlen = count - *first};
        ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return PGS_E_STORE_LOST;
        size_t left = sent > 0 ? (size_t)sent : 0;
        while (*first < count && left >= pieces[*first].iov_len)
            left -= pieces[(*first)++].iov_len;
        if (*first < count) {
            pieces[*first].iov_base = (uint8_t *)pieces[*first].iov_base + left;
            pieces[*first].iov_len -= left;
            int error = wait_for(fd, POLLOUT, deadline_ns);
            if (error)
                return error;
        }
    }
    return PGS_OK;
}

static void keep_unsent(struct pager_link *link, const struct iovec *pieces, size_t count)
{
    link->unsent_size = 0;
    for (size_t i = 0; i < count; i++) {
        memmove(link->unsent + link->unsent_size, pieces[i].iov_base, pieces[i].iov_len);
        link->unsent_size += (uint32_t)pieces[i].iov_len;
    }
}

static int send_question(struct pager_link *link, int fd, const struct pager_question *question,
                         uint64_t deadline_ns)
{
    uint8_t head[PAGER_HEAD_MAX];
    struct iovec pieces[2 + PGS_PAGER_BATCH_MAX];
    size_t first = 0, count = 0, unsent = link->unsent_size;
    if (unsent)
        pieces[count++] = (struct iovec){link->unsent, unsent};
    uint64_t now = now_ns();
    uint64_t left_ms = deadline_ns > now ? (deadline_ns - now) / 1000000 : 0;
    pieces[count++] = (struct iovec){head, pager_ask(question, (uint32_t)left_ms, head)};
    for (uint64_t i = 0; question->op == PAGER_PUT && i < question->count; i++)
        pieces[count++] = (struct iovec){question->blobs[i].bytes, question->blobs[i].size};
    size_t head_size = pieces[unsent ? 1 : 0].iov_len;
    int error = send_pieces(fd, pieces, count, deadline_ns, &first);
    if (!error) {
        link->unsent_size = 0;
    } else if (unsent && first == 0) {
        keep_unsent(link, pieces, 1); /* nothing of this question has gone */
    } else if (unsent && first == 1 && pieces[1].iov_len == head_size) {
        link->unsent_size = 0;
    } else if (unsent || first > 0 || pieces[0].iov_len != head_size) {
        keep_unsent(link, pieces + first, count - first);
    }
    return error;
}

/* -- a call --------------------------------------------------------------------------- */

/* Under the lock, which it gives up meanwhile. */
static int ask(struct pager_link *link, struct pager_call *call, uint64_t deadline_ns)
{
    struct timespec end = as_time(deadline_ns);
    while (link->sending && !call->done)
        if (pthread_cond_timedwait(&link->quiet, &link->lock, &end) && link->sending)
            return call->done ? PGS_OK : PGS_E_TIMEOUT;
    if (call->done)
        return PGS_OK;
    link->sending = true;
    link->users++;
    int fd = link->fd;
    pthread_mutex_unlock(&link->lock);
    int error = send_question(link, fd, call->question, deadline_ns);
    pthread_mutex_lock(&link->lock);
    link->sending = false;
    if (error == PGS_E_STORE_LOST && !link->lost)
        lose(link);
    release(link);
    return error;
}

static int lead(struct pager_link *link, struct pager_call *call, uint64_t deadline_ns)
{
    int error = PGS_OK;
    link->leading = true;
    link->users++;
    while (!call->done && !error) {
        int fd = link->fd;
        uint32_t size, room = PAGER_MESSAGE_MAX - link->in_size;
        pthread_mutex_unlock(&link->lock);
        error = receive(fd, link->in + link->in_size, room, deadline_ns, &size);
        pthread_mutex_lock(&link->lock);
        link->in_size += size;
        if (!link->lost && (error == PGS_E_STORE_LOST || consume(link)))
            lose(link);
    }
    link->leading = false;
    release(link);
    return error;
}

int pager_link_ask(struct pager_link *link, struct pager_question *question, uint64_t deadline_ns)
{
    if (getpid() != link->pid)
        return PGS_E_STORE_LOST;
    struct pager_call call = {.question = question};
    struct timespec end = as_time(deadline_ns);
    cond_init(&call.wake);
    pthread_mutex_lock(&link->lock);
    if (link->lost) {
        call.done = true;
        call.status = PGS_E_STORE_LOST;
    }
    question->id = ++link->last_id;
    call.next = link->calls;
    link->calls = &call;
    int error = call.done ? PGS_OK : ask(link, &call, deadline_ns);
    while (!call.done && !error) {
        call.waits = link->leading;
        if (!call.waits)
            error = lead(link, &call, deadline_ns);
        else if (pthread_cond_timedwait(&call.wake, &link->lock, &end) == ETIMEDOUT)
            error = PGS_E_TIMEOUT;
    }
    unlink_call(link, &call);
    pass_lead(link);
    pthread_mutex_unlock(&link->lock);
    pthread_cond_destroy(&call.wake);
    return call.done ? call.status : error;
}

/* -- its owner ------------------------------------------------------------------------ */

void pager_link_lose(struct pager_link *link)
{
    pthread_mutex_lock(&link->lock);
    lose(link);
    pthread_mutex_unlock(&link->lock);
}

void pager_link_renew(struct pager_link *link, int fd)
{
    pthread_mutex_lock(&link->lock);
    lose(link);
    while (link->users)
        pthread_cond_wait(&link->quiet, &link->lock);
    close(link->fd);
    link->fd = fd;
    link->in_size = link->unsent_size = 0;
    link->lost = false;
    pthread_mutex_unlock(&link->lock);
}
