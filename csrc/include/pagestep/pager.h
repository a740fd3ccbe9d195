/* SPDX-License-Identifier: MIT
 *
 * The external pager: a process of its own that keeps pages, or reads a file's bytes,
 * and is spoken to over a socket (docs/PAGER.md is the protocol). This is the side that
 * asks. Any number of threads ask at once; none waits beyond the deadline. No thread of
 * this side is needed for an answer: one of those that wait reads for all.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_PAGER_H
#define PAGESTEP_PAGER_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/blobs.h"
#include "pagestep/store.h"

enum {
    /* Of one message; longer batches are cut. */
    PGS_PAGER_BATCH_MAX = 64,      /* blobs or ranges */
    PGS_PAGER_BYTES_MAX = 131072,  /* bytes of them together, and so of one */
    PGS_PAGER_PRESENT_MAX = 65536, /* pages that are asked about */
    PGS_PAGER_TEXT_MAX = 1024      /* bytes of what a pager says of an error */
};

struct pgs_pager_params {
    uint32_t struct_size; /* sizeof(struct pgs_pager_params) */
    uint32_t deadline_ms; /* of every call; 1 to 3,600,000 */
    uint32_t flags;       /* enum pgs_pager_flag, or'ed */
};

enum pgs_pager_flag { PGS_PAGER_READ_ONLY = 1 /* pgs_pager_blobs gives no put and no discard */ };

typedef struct pgs_pager pgs_pager;

/* Opens a client of the pager at the other end of `fd`, a connected stream socket, which is
 * duplicated. The handle is for one owner, who may change the socket later. All RAM is taken
 * here. Errors: PGS_E_INVALID, PGS_E_NOMEM, PGS_E_IO. */
int pgs_pager_open(int fd, const struct pgs_pager_params *params, pgs_pager **pager_ret);

/* The owner goes: whoever waits gets PGS_E_STORE_LOST, and so does every later call. What
 * pgs_pager_blobs and pgs_backing_pager gave stays valid until its own close. NULL is
 * accepted. */
void pgs_pager_close(pgs_pager *pager);

/* Goes on with another pager at `fd`, which is duplicated. Who waits for the former one gets
 * PGS_E_STORE_LOST. Errors: PGS_E_IO. */
int pgs_pager_reconnect(pgs_pager *pager, int fd);

/* Whether the last pager is still spoken to: 0 once it has ended, its socket was closed, or it
 * broke the protocol, after which it is not listened to any more. */
int pgs_pager_is_connected(pgs_pager *pager);

/* Gives the pager's store as blobs. Their functions, called in a process that was forked
 * from the one that opened the client, return PGS_E_STORE_LOST: two processes cannot share
 * a socket. */
int pgs_pager_blobs(pgs_pager *pager, struct pgs_blobs *blobs_ret);

/* Bytes of a file that the pager reads: blobs[i].page_no is where they begin, in bytes,
 * and blobs[i].capacity how many they are; size is set to capacity, or 0 where the status
 * is an error. */
int pgs_pager_read(pgs_pager *pager, struct pgs_blob *blobs, size_t count, int32_t *statuses_ret);

/* Copies what the pager said of its last error, without a zero behind it; *size_ret is how
 * many bytes there are, at most PGS_PAGER_TEXT_MAX. */
void pgs_pager_text(pgs_pager *pager, char *text, size_t capacity, size_t *size_ret);

/* A read-only backing over a file that the pager reads: the object's bytes lie at
 * `extents`, as for pgs_backing_file. Its pages are not read when the object is added;
 * each one's checksum is kept when it is first read. Errors: PGS_E_INVALID, PGS_E_NOMEM. */
int pgs_backing_pager(pgs_pager *pager, const struct pgs_extent *extents, size_t extent_count,
                      uint32_t page_size, struct pgs_backing *backing_ret);

#endif
