/* SPDX-License-Identifier: MIT */
#include "store/blobs/swap_space.h"

#include <assert.h>
#include <stdlib.h>

#include "pagestep/error.h"

enum { WORD = 64 };

static uint64_t word_count(const struct swap_space *space)
{
    return (space->unit_count + WORD - 1) / WORD;
}

int swap_space_init(struct swap_space *space, uint64_t unit_count)
{
    *space = (struct swap_space){.unit_count = unit_count};
    space->taken = calloc(word_count(space), sizeof *space->taken);
    return space->taken ? PGS_OK : PGS_E_NOMEM;
}

void swap_space_deinit(struct swap_space *space)
{
    free(space->taken);
}

uint64_t swap_space_bytes(const struct swap_space *space)
{
    return word_count(space) * sizeof *space->taken;
}

uint64_t swap_space_next(const struct swap_space *space, uint64_t at, bool taken)
{
    while (at < space->unit_count) {
        uint64_t word = space->taken[at / WORD];
        word = (taken ? word : ~word) >> at % WORD;
        if (word) {
            at += (uint64_t)__builtin_ctzll(word);
            return at < space->unit_count ? at : space->unit_count;
        }
        at += WORD - at % WORD;
    }
    return space->unit_count;
}

static uint64_t find(const struct swap_space *space, uint64_t from, uint64_t to, uint32_t count)
{
    uint64_t at = swap_space_next(space, from, false);
    while (at < to) {
        uint64_t end = swap_space_next(space, at, true);
        if (end - at >= count)
            return at;
        at = swap_space_next(space, end, false);
    }
    return SPACE_NONE;
}

void swap_space_mark(struct swap_space *space, uint64_t first, uint32_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        assert(!(space->taken[i / WORD] >> i % WORD & 1));
        space->taken[i / WORD] |= (uint64_t)1 << i % WORD;
    }
    space->taken_count += count;
}

void swap_space_give(struct swap_space *space, uint64_t first, uint32_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        assert(space->taken[i / WORD] >> i % WORD & 1);
        space->taken[i / WORD] &= ~((uint64_t)1 << i % WORD);
    }
    space->taken_count -= count;
}

uint64_t swap_space_take(struct swap_space *space, uint32_t count)
{
    uint64_t at = find(space, space->cursor, space->unit_count, count);
    if (at == SPACE_NONE)
        at = find(space, 0, space->cursor, count);
    if (at == SPACE_NONE)
        return at;
    swap_space_mark(space, at, count);
    space->cursor = at + count < space->unit_count ? at + count : 0;
    return at;
}
