/* SPDX-License-Identifier: MIT
 *
 * Which units of a swap file are taken: a bit each, searched from where the last run was found
 * (next fit). It has no lock of its own.
 */
#ifndef PGS_SWAP_SPACE_H
#define PGS_SWAP_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#define SPACE_NONE UINT64_MAX

struct swap_space {
    uint64_t *taken;
    uint64_t unit_count, taken_count, cursor;
};

/* All free. PGS_E_NOMEM. */
int swap_space_init(struct swap_space *space, uint64_t unit_count);
void swap_space_deinit(struct swap_space *space);
uint64_t swap_space_bytes(const struct swap_space *space);

/* Takes the next free run of `count` units; SPACE_NONE where none is long enough. */
uint64_t swap_space_take(struct swap_space *space, uint32_t count);
/* Takes these, which are free. */
void swap_space_mark(struct swap_space *space, uint64_t first, uint32_t count);
/* Frees these, which are taken. */
void swap_space_give(struct swap_space *space, uint64_t first, uint32_t count);

/* From `at` on, the first unit that is free (taken); unit_count where there is none. */
uint64_t swap_space_next(const struct swap_space *space, uint64_t at, bool taken);

static inline uint64_t swap_space_free(const struct swap_space *space)
{
    return space->unit_count - space->taken_count;
}

#endif
