/* SPDX-License-Identifier: MIT
 *
 * The external pager's client, against a peer that is a thread at the other end of a
 * socket pair: it answers, delays, lies or goes, by name.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

#include "check.h"
#include "codec/le.h"
#include "pagestep.h"
#include "store/pager_wire.h"

enum { PAGES = 256, BLOB = 512, THREADS = 4 };

/* Tests of lateness wait for a deadline; in the others a slow machine must not come near one. */
enum { SHORT_MS = 250, LONG_MS = 60000 };

enum peer_fault {
    PEER_HONEST,
    PEER_SILENT,       /* takes questions and never answers */
    PEER_LATE,         /* answers after the deadline */
    PEER_UNHURRIED,    /* answers one by one, each a little later */
    PEER_BACKWARDS,    /* answers two at a time, the later first */
    PEER_DEAF,         /* does not even read */
    PEER_GOES,         /* ends with a question in hand */
    PEER_TORN,         /* ends in the middle of an answer */
    PEER_DRIBBLES,     /* sends byte by byte */
    PEER_WRONG_ID,     /* the rest lie */
    PEER_WRONG_OP,
    PEER_WRONG_PAGE,
    PEER_TOO_LONG,     /* a blob beyond its capacity */
    PEER_HUGE,         /* a header of 4 GiB */
    PEER_BAD_STATUS,
    PEER_LIES_END
};

struct peer {
    int fd;
    _Atomic int fault;
    pthread_t thread;
    uint8_t pages[PAGES][BLOB];
    uint32_t sizes[PAGES];
    uint8_t held[PAGER_MESSAGE_MAX];
    size_t held_size;
};

static bool read_all(int fd, void *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t got = recv(fd, (uint8_t *)bytes + at, size - at, 0);
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

static bool send_all(int fd, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t sent = send(fd, bytes + at, size - at, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += (size_t)sent;
    }
    return true;
}

static void nap(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Does what a question asks; `answer` gets all but its header. */
static size_t serve(struct peer *peer, uint16_t op, const uint8_t *body, size_t size,
                    uint8_t *answer)
{
    size_t count = size / PAGER_ITEM_SIZE, items = 0, data;
    if (op == PAGER_FLUSH)
        return 0;
    if (op == PAGER_CAPACITY || op == PAGER_PRESENT) {
        size_t words = op == PAGER_CAPACITY ? 2 : (size_t)(pgs_load_le64(body + 8) + 63) / 64;
        memset(answer, 0, words * 8);
        for (uint64_t i = 0; op == PAGER_PRESENT && i < pgs_load_le64(body + 8); i++) {
            uint64_t page = pgs_load_le64(body) + i;
            answer[i / 8] |= (uint8_t)((page < PAGES && peer->sizes[page]) << i % 8);
        }
        return words * 8;
    }
    if (op == PAGER_DISCARD) {
        for (uint64_t i = 0; i < pgs_load_le64(body + 8); i++)
            peer->sizes[pgs_load_le64(body) + i] = 0;
        return 0;
    }
    if (op == PAGER_PUT) /* the items end where their bytes begin */
        for (count = 0, data = 0; count * PAGER_ITEM_SIZE + data < size; count++)
            data += pgs_load_le32(body + count * PAGER_ITEM_SIZE + 8);
    data = count * PAGER_ITEM_SIZE;
    for (size_t i = 0, at = data; i < count; i++, items += PAGER_ITEM_SIZE) {
        const uint8_t *item = body + i * PAGER_ITEM_SIZE;
        uint64_t page = pgs_load_le64(item);
        uint32_t wanted = pgs_load_le32(item + 8), got = 0;
        int32_t status = page < PAGES ? 0 : PGS_E_RANGE;
        if (op == PAGER_PUT && !status) {
            memcpy(peer->pages[page], body + at, wanted);
            peer->sizes[page] = wanted;
            at += wanted;
        } else if (op == PAGER_READ && !status) {
            memset(answer + data, (int)page, wanted);
            got = wanted;
        } else if (!status) {
            got = peer->sizes[page];
            memcpy(answer + data, peer->pages[page], got);
        }
        pgs_store_le64(answer + items, page);
        pgs_store_le32(answer + items + 8, (uint32_t)status);
        pgs_store_le32(answer + items + 12, got);
        data += got;
    }
    return data;
}

static void lie(uint8_t *message, enum peer_fault fault)
{
    switch (fault) {
    case PEER_WRONG_ID:
        pgs_store_le64(message + 8, pgs_load_le64(message + 8) + 1000);
        break;
    case PEER_WRONG_OP:
        message[4] ^= 3;
        break;
    case PEER_WRONG_PAGE:
        message[PAGER_HEADER_SIZE] ^= 1;
        break;
    case PEER_TOO_LONG:
        pgs_store_le32(message + PAGER_HEADER_SIZE + 12, BLOB + 1);
        break;
    case PEER_HUGE:
        pgs_store_le32(message, UINT32_MAX);
        break;
    case PEER_BAD_STATUS:
        pgs_store_le32(message + 16, 7);
        break;
    default:
        break;
    }
}

static bool send_answer(struct peer *peer, uint8_t *message, size_t size, int fault)
{
    if (fault == PEER_SILENT)
        return true;
    if (fault == PEER_LATE)
        nap(4 * SHORT_MS);
    if (fault == PEER_UNHURRIED)
        nap(15);
    if (fault == PEER_GOES)
        return false;
    if (fault == PEER_TORN) {
        send_all(peer->fd, message, size - 1);
        return false;
    }
    if (fault == PEER_BACKWARDS && !peer->held_size) {
        memcpy(peer->held, message, size);
        peer->held_size = size;
        return true;
    }
    for (; fault == PEER_DRIBBLES && size > 1; message++, size--)
        if (!send_all(peer->fd, message, 1))
            return false;
    lie(message, (enum peer_fault)fault);
    bool went = send_all(peer->fd, message, size);
    if (peer->held_size) {
        went = went && send_all(peer->fd, peer->held, peer->held_size);
        peer->held_size = 0;
    }
    return went;
}

/* What was held for the next answer goes alone where no question comes. */
static void let_go_of_held(struct peer *peer)
{
    struct pollfd question = {.fd = peer->fd, .events = POLLIN};
    if (peer->held_size && poll(&question, 1, 5) == 0) {
        send_all(peer->fd, peer->held, peer->held_size);
        peer->held_size = 0;
    }
}

static void *peer_main(void *arg)
{
    struct peer *peer = arg;
    static _Thread_local uint8_t question[PAGER_MESSAGE_MAX], answer[PAGER_MESSAGE_MAX];
    for (;;) {
        while (atomic_load(&peer->fault) == PEER_DEAF)
            nap(5);
        let_go_of_held(peer);
        if (!read_all(peer->fd, question, PAGER_HEADER_SIZE))
            break;
        uint32_t size = pgs_load_le32(question);
        uint16_t op = pgs_load_le16(question + 4);
        CHECK(size <= PAGER_MESSAGE_MAX - PAGER_HEADER_SIZE);
        if (!read_all(peer->fd, question + PAGER_HEADER_SIZE, size))
            break;
        int fault = atomic_load(&peer->fault);
        size_t got = serve(peer, op, question + PAGER_HEADER_SIZE, size,
                           answer + PAGER_HEADER_SIZE);
        memcpy(answer, question, PAGER_HEADER_SIZE);
        pgs_store_le32(answer, (uint32_t)got);
        pgs_store_le16(answer + 6, PAGER_ANSWER);
        pgs_store_le32(answer + 16, 0);
        if (!send_answer(peer, answer, PAGER_HEADER_SIZE + got, fault))
            break;
    }
    shutdown(peer->fd, SHUT_RDWR);
    return NULL;
}

/* Returns the client's end. */
static int peer_start(struct peer *peer, enum peer_fault fault)
{
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    peer->fd = ends[1];
    peer->held_size = 0;
    atomic_store(&peer->fault, fault);
    CHECK_EQ(pthread_create(&peer->thread, NULL, peer_main, peer), 0);
    return ends[0];
}

static void peer_end(struct peer *peer)
{
    shutdown(peer->fd, SHUT_RDWR);
    pthread_join(peer->thread, NULL);
    close(peer->fd);
}

struct fixture {
    struct peer peer;
    pgs_pager *pager;
    struct pgs_blobs blobs;
};

static struct fixture *fixture_open_for(enum peer_fault fault, uint32_t deadline_ms)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    int fd = peer_start(&fixture->peer, fault);
    int small = 4096; /* so that messages go in pieces */
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    struct pgs_pager_params params = {.struct_size = sizeof params, .deadline_ms = deadline_ms};
    CHECK_EQ(pgs_pager_open(fd, &params, &fixture->pager), PGS_OK);
    CHECK_EQ(pgs_pager_blobs(fixture->pager, &fixture->blobs), PGS_OK);
    close(fd);
    return fixture;
}

static struct fixture *fixture_open(enum peer_fault fault)
{
    return fixture_open_for(fault, LONG_MS);
}

static void fixture_close(struct fixture *fixture)
{
    pgs_pager_close(fixture->pager);
    fixture->blobs.close(fixture->blobs.ctx);
    atomic_store(&fixture->peer.fault, PEER_HONEST);
    peer_end(&fixture->peer);
    free(fixture);
}

static int put_one(struct fixture *fixture, uint64_t page_no, int byte)
{
    uint8_t bytes[BLOB];
    int32_t status;
    memset(bytes, byte, sizeof bytes);
    struct pgs_blob blob = {.page_no = page_no, .bytes = bytes, .size = BLOB};
    return fixture->blobs.put(fixture->blobs.ctx, &blob, 1, &status);
}

static int get_one(struct fixture *fixture, uint64_t page_no, int byte)
{
    uint8_t bytes[BLOB], wanted[BLOB];
    int32_t status;
    struct pgs_blob blob = {.page_no = page_no, .bytes = bytes, .capacity = BLOB};
    int error = fixture->blobs.get(fixture->blobs.ctx, &blob, 1, &status);
    CHECK_EQ(error, status);
    if (!error) {
        memset(wanted, byte, sizeof wanted);
        CHECK_EQ(blob.size, byte < 0 ? 0 : BLOB);
        CHECK_BYTES(bytes, wanted, blob.size);
    } else {
        CHECK_EQ(blob.size, 0);
    }
    return error;
}

/* A machine that stalls makes an honest peer late too: it is asked again. */
static int in_time(int (*call)(struct fixture *, uint64_t, int), struct fixture *fixture,
                   uint64_t page_no, int byte)
{
    int error = PGS_E_TIMEOUT;
    for (int tries = 0; tries < 100 && error == PGS_E_TIMEOUT; tries++)
        error = call(fixture, page_no, byte);
    return error;
}

/* -- what it shows --------------------------------------------------------------------- */

static void test_all_calls(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    struct pgs_blobs *blobs = &fixture->blobs;
    uint64_t total = 1, used = 1, bits[4];
    CHECK_EQ(get_one(fixture, 3, -1), PGS_OK);
    CHECK_EQ(put_one(fixture, 3, 'a'), PGS_OK);
    CHECK_EQ(put_one(fixture, 70, 'b'), PGS_OK);
    CHECK_EQ(get_one(fixture, 3, 'a'), PGS_OK);
    CHECK_EQ(get_one(fixture, PAGES, -1), PGS_E_RANGE);
    CHECK_EQ(blobs->present(blobs->ctx, 1, 100, bits), PGS_OK);
    CHECK_EQ(bits[0], 1 << 2);
    CHECK_EQ(bits[1], 1 << 5);
    CHECK_EQ(blobs->discard(blobs->ctx, 0, 10), PGS_OK);
    CHECK_EQ(get_one(fixture, 3, -1), PGS_OK);
    CHECK_EQ(blobs->flush(blobs->ctx), PGS_OK);
    CHECK_EQ(blobs->capacity(blobs->ctx, &total, &used), PGS_OK);
    CHECK_EQ(total + used, 0);
    CHECK_EQ(blobs->discard(blobs->ctx, UINT64_MAX, 2), PGS_E_RANGE);
    fixture_close(fixture);
}

static void test_batches_are_cut(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    static uint8_t bytes[PAGES][BLOB], back[PAGES][BLOB];
    struct pgs_blob blobs[PAGES];
    int32_t statuses[PAGES];
    for (int i = 0; i < PAGES; i++) {
        memset(bytes[i], i, BLOB);
        blobs[i] = (struct pgs_blob){.page_no = i, .bytes = bytes[i], .size = BLOB};
    }
    CHECK_EQ(fixture->blobs.put(fixture->blobs.ctx, blobs, PAGES, statuses), PGS_OK);
    for (int i = 0; i < PAGES; i++)
        blobs[i] = (struct pgs_blob){.page_no = i, .bytes = back[i], .capacity = BLOB};
    CHECK_EQ(fixture->blobs.get(fixture->blobs.ctx, blobs, PAGES, statuses), PGS_OK);
    CHECK_BYTES(back, bytes, sizeof bytes);
    blobs[7].capacity = PGS_PAGER_BYTES_MAX + 1;
    CHECK_EQ(fixture->blobs.get(fixture->blobs.ctx, blobs, PAGES, statuses), PGS_E_INVALID);
    for (int i = 0; i < PAGES; i++)
        CHECK_EQ(statuses[i], i == 7 ? PGS_E_INVALID : PGS_OK);
    fixture_close(fixture);
}

static void test_deadline(void)
{
    struct fixture *fixture = fixture_open_for(PEER_SILENT, SHORT_MS);
    CHECK_EQ(get_one(fixture, 1, -1), PGS_E_TIMEOUT);
    CHECK_EQ(put_one(fixture, 1, 'x'), PGS_E_TIMEOUT);
    atomic_store(&fixture->peer.fault, PEER_HONEST);
    CHECK_EQ(in_time(get_one, fixture, 1, 'x'), PGS_OK);
    fixture_close(fixture);
}

/* A late answer is to no later question. */
static void test_late_answers_are_dropped(void)
{
    struct fixture *fixture = fixture_open_for(PEER_HONEST, SHORT_MS);
    CHECK_EQ(in_time(put_one, fixture, 1, 'p'), PGS_OK);
    CHECK_EQ(in_time(put_one, fixture, 2, 'q'), PGS_OK);
    atomic_store(&fixture->peer.fault, PEER_LATE);
    CHECK_EQ(get_one(fixture, 1, 'p'), PGS_E_TIMEOUT);
    atomic_store(&fixture->peer.fault, PEER_HONEST);
    CHECK_EQ(in_time(get_one, fixture, 2, 'q'), PGS_OK);
    CHECK_EQ(in_time(get_one, fixture, 1, 'p'), PGS_OK);
    fixture_close(fixture);
}

/* Senders give up on a full socket; when it drains, every byte of theirs comes out in order. */
static void test_a_deaf_peer(void)
{
    struct fixture *fixture = fixture_open_for(PEER_DEAF, SHORT_MS);
    static uint8_t bytes[PGS_PAGER_BATCH_MAX][BLOB];
    struct pgs_blob blobs[PGS_PAGER_BATCH_MAX];
    int32_t statuses[PGS_PAGER_BATCH_MAX];
    memset(bytes, 'd', sizeof bytes);
    for (int i = 0; i < PGS_PAGER_BATCH_MAX; i++)
        blobs[i] = (struct pgs_blob){.page_no = i, .bytes = bytes[i], .size = BLOB};
    for (int i = 0; i < 9; i++)
        CHECK_EQ(fixture->blobs.put(fixture->blobs.ctx, blobs, PGS_PAGER_BATCH_MAX, statuses),
                 PGS_E_TIMEOUT);
    CHECK_EQ(statuses[9], PGS_E_TIMEOUT);
    atomic_store(&fixture->peer.fault, PEER_HONEST);
    for (int i = 0; i < PGS_PAGER_BATCH_MAX; i++)
        CHECK_EQ(in_time(get_one, fixture, (uint64_t)i, 'd'), PGS_OK);
    CHECK_EQ(in_time(put_one, fixture, 5, 'e'), PGS_OK);
    CHECK_EQ(in_time(get_one, fixture, 5, 'e'), PGS_OK);
    CHECK_EQ(pgs_pager_is_connected(fixture->pager), 1);
    fixture_close(fixture);
}

static void test_dribbling(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    CHECK_EQ(put_one(fixture, 9, 'z'), PGS_OK);
    atomic_store(&fixture->peer.fault, PEER_DRIBBLES);
    CHECK_EQ(get_one(fixture, 9, 'z'), PGS_OK);
    fixture_close(fixture);
}

static void test_who_goes_or_lies_is_lost(void)
{
    for (int fault = PEER_GOES; fault < PEER_LIES_END; fault++) {
        if (fault == PEER_DRIBBLES)
            continue;
        struct fixture *fixture = fixture_open(PEER_HONEST);
        CHECK_EQ(put_one(fixture, 4, 'k'), PGS_OK);
        atomic_store(&fixture->peer.fault, fault);
        CHECK_EQ(get_one(fixture, 4, 'k'), PGS_E_STORE_LOST);
        CHECK_EQ(pgs_pager_is_connected(fixture->pager), 0);
        CHECK_EQ(get_one(fixture, 4, 'k'), PGS_E_STORE_LOST);
        fixture_close(fixture);
    }
}

/* The blob that was kept is longer than there is room for. */
static void test_more_than_there_is_room_for(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    uint8_t bytes[2 * BLOB];
    int32_t status;
    struct pgs_blob blob = {.page_no = 4, .bytes = bytes, .capacity = BLOB / 2};
    CHECK_EQ(put_one(fixture, 4, 'k'), PGS_OK);
    memset(bytes, 0, sizeof bytes);
    CHECK_EQ(fixture->blobs.get(fixture->blobs.ctx, &blob, 1, &status), PGS_E_STORE_LOST);
    for (int i = BLOB / 2; i < 2 * BLOB; i++)
        CHECK_EQ(bytes[i], 0);
    fixture_close(fixture);
}

static void test_another_pager(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    CHECK_EQ(put_one(fixture, 4, 'k'), PGS_OK);
    atomic_store(&fixture->peer.fault, PEER_TORN);
    CHECK_EQ(get_one(fixture, 4, 'k'), PGS_E_STORE_LOST);
    peer_end(&fixture->peer);
    int fd = peer_start(&fixture->peer, PEER_HONEST);
    CHECK_EQ(pgs_pager_reconnect(fixture->pager, fd), PGS_OK);
    close(fd);
    CHECK_EQ(get_one(fixture, 4, 'k'), PGS_OK);
    fixture_close(fixture);
}

static void test_pages_of_a_file(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    struct pgs_extent extents[] = {{0, 16, 512}, {600, 200, 1000}};
    struct pgs_backing backing;
    uint8_t page[1024], wanted[1024] = {0};
    CHECK_EQ(pgs_backing_pager(fixture->pager, extents, 2, 1024, &backing), PGS_OK);
    CHECK_EQ(backing.page_in(backing.ctx, 0, page), PGS_OK);
    memset(wanted, 16, 512);
    memset(wanted + 600, 200, 424);
    CHECK_BYTES(page, wanted, sizeof page);
    CHECK_EQ(backing.page_in(backing.ctx, 1, page), PGS_E_RANGE); /* offset 624 */
    CHECK_EQ(backing.page_in(backing.ctx, 2, page), PGS_OK);
    backing.close(backing.ctx);
    fixture_close(fixture);
}

struct worker {
    struct fixture *fixture;
    int number, error;
    bool until_lost;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct noise noise = {(uint64_t)worker->number + 1};
    int known[PAGES / THREADS];
    memset(known, -1, sizeof known);
    for (int i = 0; !worker->error && (i < 2000 || worker->until_lost); i++) {
        int at = (int)noise_below(&noise, PAGES / THREADS), byte = (int)noise_below(&noise, 256);
        uint64_t page = (uint64_t)(at * THREADS + worker->number);
        if (noise_below(&noise, 2)) {
            worker->error = put_one(worker->fixture, page, byte);
            known[at] = byte;
        } else {
            worker->error = get_one(worker->fixture, page, known[at]);
        }
    }
    return NULL;
}

/* Every worker ends with the result wanted; where it is a lost peer, the peer goes meanwhile. */
static void run_workers(struct fixture *fixture, int count, int wanted)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.fixture = fixture, .number = i, .until_lost = wanted != 0};
        CHECK_EQ(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    if (wanted) {
        nap(20);
        atomic_store(&fixture->peer.fault, PEER_GOES);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(workers[i].error, wanted);
    }
}

static void test_threads(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    run_workers(fixture, THREADS, PGS_OK);
    fixture_close(fixture);
    fixture = fixture_open(PEER_HONEST);
    run_workers(fixture, THREADS, PGS_E_STORE_LOST);
    fixture_close(fixture);
}

struct getter {
    struct fixture *fixture;
    int result;
};

static void *get_never_put(void *arg)
{
    struct getter *getter = arg;
    getter->result = get_one(getter->fixture, 1, -1);
    return NULL;
}

static void run_getters(struct fixture *fixture, bool peer_goes, int wanted)
{
    struct getter getters[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        getters[i] = (struct getter){.fixture = fixture};
        CHECK_EQ(pthread_create(&threads[i], NULL, get_never_put, &getters[i]), 0);
    }
    nap(100);
    if (peer_goes)
        shutdown(fixture->peer.fd, SHUT_RDWR);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(getters[i].result, wanted);
    }
}

/* Whoever led and has its answer leaves; one that waits must read on, long before its deadline. */
static void test_another_leads(void)
{
    struct fixture *fixture = fixture_open(PEER_UNHURRIED);
    for (int i = 0; i < 3; i++)
        run_getters(fixture, false, PGS_OK);
    fixture_close(fixture);
}

/* None waits for its deadline. */
static void test_all_that_wait_hear_of_the_end(void)
{
    struct fixture *fixture = fixture_open(PEER_SILENT);
    run_getters(fixture, true, PGS_E_STORE_LOST);
    fixture_close(fixture);
}

static void test_answers_out_of_order(void)
{
    struct fixture *fixture = fixture_open(PEER_BACKWARDS);
    run_workers(fixture, 2, PGS_OK);
    fixture_close(fixture);
}

static void test_the_owner_goes_first(void)
{
    struct fixture *fixture = fixture_open(PEER_HONEST);
    pgs_pager_close(fixture->pager);
    fixture->pager = NULL;
    CHECK_EQ(get_one(fixture, 1, -1), PGS_E_STORE_LOST);
    fixture_close(fixture);
}

static void test_bad_arguments(void)
{
    struct pgs_pager_params params = {.struct_size = sizeof params, .deadline_ms = 1};
    pgs_pager *pager;
    CHECK_EQ(pgs_pager_open(-1, &params, &pager), PGS_E_IO);
    params.deadline_ms = 0;
    CHECK_EQ(pgs_pager_open(0, &params, &pager), PGS_E_INVALID);
    params = (struct pgs_pager_params){.struct_size = 3, .deadline_ms = 1};
    CHECK_EQ(pgs_pager_open(0, &params, &pager), PGS_E_INVALID);
    pgs_pager_close(NULL);
}

int main(void)
{
    RUN(test_all_calls);
    RUN(test_batches_are_cut);
    RUN(test_deadline);
    RUN(test_late_answers_are_dropped);
    RUN(test_a_deaf_peer);
    RUN(test_dribbling);
    RUN(test_who_goes_or_lies_is_lost);
    RUN(test_more_than_there_is_room_for);
    RUN(test_another_pager);
    RUN(test_pages_of_a_file);
    RUN(test_threads);
    RUN(test_another_leads);
    RUN(test_all_that_wait_hear_of_the_end);
    RUN(test_answers_out_of_order);
    RUN(test_the_owner_goes_first);
    RUN(test_bad_arguments);
    return 0;
}
