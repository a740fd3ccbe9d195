/* SPDX-License-Identifier: MIT
 *
 * Memory that faults in by itself: an object's pages as a range of addresses. A page
 * that is touched comes from the tier that has it, in C; pages leave the range by
 * the store's policy, under its budget, and come again when touched.
 *
 * A system call that is given addresses of pages that are missing gets EFAULT, unless
 * pgs_map_stats says that these are served too: pgs_map_prefetch, and a pin, come
 * before. A child process does not have the range.
 *
 * To serve a touch takes locks and memory. So the handler of a signal must not touch a range if
 * it may run while its thread is in a call of the store: the touch fails (PGS_E_REENTRY in a
 * function of a backing), or waits for what its own thread holds.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_MAP_H
#define PAGESTEP_MAP_H

#include "pagestep/store.h"

enum pgs_map_service {
    PGS_MAP_AUTO = 0,   /* PGS_MAP_SIGBUS where the kernel has it */
    PGS_MAP_SIGBUS = 1, /* the touching thread brings its page, in the handler of SIGBUS */
    PGS_MAP_THREAD = 2  /* a thread of the map's brings it; needs no handler of a signal */
};

/* How the store knows what was written through a map. */
enum pgs_map_writes {
    PGS_MAP_READ_ONLY = 0,
    PGS_MAP_WRITES_AUTO = 1,  /* PGS_MAP_WRITES_NOTED where the kernel has it */
    PGS_MAP_WRITES_FAULT = 2, /* a clean page's first write is a fault of its own */
    PGS_MAP_WRITES_NOTED = 3  /* the kernel notes it (Linux 6.7); not of anonymous memory */
};

typedef struct pgs_map pgs_map;

struct pgs_map_params {
    uint32_t struct_size; /* sizeof(struct pgs_map_params) */
    uint32_t service;     /* enum pgs_map_service */
    uint32_t writes;      /* enum pgs_map_writes */
    uint32_t around;      /* pages that a fault brings at first, 2 to 16; 0: 8; 1: always
                             the touched one alone */
};

/* Why there can be no map. */
struct pgs_map_support {
    int32_t system_error; /* errno of userfaultfd(2), or 0 */
    uint32_t by_sigbus;   /* 1: it can be had; _for_writes: of what is written as well */
    uint32_t by_sigbus_for_writes;
    uint32_t by_thread;
    uint32_t in_system_calls; /* by_thread: faults of system calls are served too */
    uint32_t notes_writes;
    const char *missing; /* what the kernel lacks, or NULL */
};

struct pgs_map_stats {
    uint32_t service;         /* enum pgs_map_service: which it is */
    uint32_t writes;          /* enum pgs_map_writes */
    uint32_t in_system_calls; /* 1: faults of system calls are served */
    uint32_t around;          /* pages that a fault without a pattern brings just now */
    uint64_t faults;          /* touches of pages that had to be brought */
    uint64_t attaches;        /* touches of pages that were in RAM, but not mapped */
    uint64_t write_faults;    /* first writes to clean pages, where these fault */
    uint64_t pages_ahead;     /* brought beside the one that was touched */
    uint64_t detaches;        /* pages whose mapping was taken away to see whether they are used */
    uint64_t ranges_dropped;  /* runs of addresses whose mapping was taken away whole */
    uint64_t failures;        /* touches that could not be served */
    uint64_t resident_bytes;  /* RAM of the object's pages */
};

void pgs_map_probe(struct pgs_map_support *support_ret);

/* Maps an object, whose page size must be a multiple of the system's. It has at most one
 * map at a time. Frames of its pages lie in the range's own memory from then on.
 * Errors: PGS_E_INVALID (the page size; a parameter), PGS_E_MAPPED (it has a map), PGS_E_RANGE,
 * PGS_E_NO_FAULTS (pgs_map_probe says why), PGS_E_PINNED (it pins a page), PGS_E_NOMEM,
 * PGS_E_BUDGET. */
int pgs_map_open(pgs_store *store, uint32_t object, const struct pgs_map_params *params,
                 pgs_map **map_ret);

/* Takes the range away; no thread may touch it any more. Pages keep what was
 * written. NULL is accepted. */
void pgs_map_close(pgs_map *map);

void *pgs_map_address(const pgs_map *map);
void pgs_map_stats(pgs_map *map, struct pgs_map_stats *stats_ret);

/* Brings pages and maps them, so that touching them does not fault until they leave, and are
 * detached; pinned ones are not. `writes`: nor does writing them. Errors: PGS_E_RANGE,
 * PGS_E_INVALID (it is read-only), PGS_E_ATOMIC, and as reading the page; *page_no_ret is the
 * first page that could not be had. It may be NULL.
 * This and pgs_map_detach may wait for another thread's page-in, also where all pages are there: in
 * an atomic section they are PGS_E_ATOMIC at once, and PGS_E_LOCK_ORDER with a lock that page-ins
 * take. */
int pgs_map_prefetch(pgs_map *map, uint64_t first_page_no, uint64_t page_count, uint32_t writes,
                     uint64_t *page_no_ret);

/* Takes the mapping of a run of pages away, whole; touches build it again. The pages stay
 * where they are. That of pinned pages stays, but a flush, a fork, and the end of a guard under
 * which a page had read as zeros take it away. Errors: PGS_E_RANGE, PGS_E_ATOMIC,
 * PGS_E_LOCK_ORDER. */
int pgs_map_detach(pgs_map *map, uint64_t first_page_no, uint64_t page_count);

/* While a guard is open, a touch that cannot be served reads zeros, and what it writes
 * is lost, until the last guard ends. That is so for any thread: one without a guard of its own may
 * read zeros, and is not told. pgs_map_guard_end gives an error where there was one since
 * this guard began: the first since any was open, and its page, which may be another guard's
 * where they overlap. Without a guard it is a
 * SIGBUS, and a line on standard error; and under one where nothing can take the page's place: a
 * write to one that is shared and pinned, when there is no RAM for another; a page that another
 * thread moves for twice wait_ms. */
uint64_t pgs_map_guard_begin(pgs_map *map);
int pgs_map_guard_end(pgs_map *map, uint64_t begun, uint64_t *page_no_ret);

#endif
