/* SPDX-License-Identifier: MIT
 *
 * Where the pages of a mapped object lie while they are in RAM: a file in memory,
 * each page at its own offset. The store reads and writes it through a mapping
 * of its own, where nothing ever faults but for the kernel's own bookkeeping; what users
 * touch is another mapping of it (map/range.h). Pages without RAM are holes.
 */
#ifndef PGS_HOME_H
#define PGS_HOME_H

#include <stdbool.h>
#include <stddef.h>

struct home {
    unsigned char *bytes; /* the store's mapping */
    size_t size;
    int fd;
    unsigned forks; /* home_forks() when it was opened */
};

/* Returns 0 or an errno. */
int home_open(size_t size, struct home **home_ret);
void home_free(struct home *home); /* NULL is accepted */

/* Gives the RAM of these bytes back; no mapping shows them any more. */
void home_drop(const struct home *home, size_t offset, size_t size);

/* How often this process, or those before it, have been forked off others. */
unsigned home_forks(void);

/* Whether what was made at that count is in this process. In a child process something else may be
 * at its addresses, and its threads are not there. */
bool home_is_here(unsigned forks);

#endif
