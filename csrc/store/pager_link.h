/* SPDX-License-Identifier: MIT
 *
 * A socket that many threads ask over at once (pager_link.c).
 */
#ifndef PGS_PAGER_LINK_H
#define PGS_PAGER_LINK_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "store/pager_wire.h"

/* Under `lock`, but for what its comment says. */
struct pager_link {
    pthread_mutex_t lock;
    pthread_cond_t quiet; /* somebody has ended with the socket, or with sending */
    pid_t pid;            /* constant: whose the socket is */
    uint32_t deadline_ms; /* constant */
    int fd;
    uint32_t users; /* threads that use fd without the lock: it is not closed meanwhile */
    bool lost, leading, sending;
    uint64_t last_id;
    struct pager_call *calls; /* who waits for an answer */
    uint32_t in_size;         /* the leader's: bytes of `in` */
    uint32_t unsent_size;     /* the sender's: bytes of `unsent` */
    uint32_t text_size;
    char text[PGS_PAGER_TEXT_MAX];
    uint8_t in[PAGER_MESSAGE_MAX];     /* the leader's */
    uint8_t unsent[PAGER_MESSAGE_MAX]; /* the sender's: the rest of a message whose sender gave up */
};

/* The socket is the link's from now on. */
int pager_link_init(struct pager_link *link, int fd, uint32_t deadline_ms);
void pager_link_deinit(struct pager_link *link);

/* Ends it for all that wait. */
void pager_link_lose(struct pager_link *link);

/* Takes another socket, when nobody uses the former one any more. */
void pager_link_renew(struct pager_link *link, int fd);

/* A call's end, in nanoseconds of the monotonic clock. */
uint64_t pager_link_deadline(const struct pager_link *link);

/* Asks and waits. Returns what the pager says of the whole, PGS_E_TIMEOUT at the deadline
 * or PGS_E_STORE_LOST. Nothing is written to the question's buffers after it returned. */
int pager_link_ask(struct pager_link *link, struct pager_question *question, uint64_t deadline_ns);

#endif
