/* SPDX-License-Identifier: MIT
 *
 * What was written where it should not have been: guards behind the blocks of a
 * non-paged heap, poison in its free memory.
 */
#include <string.h>

#include "store/heap_internal.h"

static uint64_t end_of(const struct run *run)
{
    return ((uint64_t)run->start + run->length) * GRANULE;
}

static uint64_t guard_start(const struct run *run)
{
    return (uint64_t)run->start * GRANULE + run->size_bytes;
}

/* Guards differ from block to block: a block that is copied over another with
 * what lies behind it shows as well. */
static unsigned char guard_byte(uint64_t handle, uint64_t offset)
{
    return (unsigned char)((handle + 1) * UINT64_C(0x9E3779B97F4A7C15) >> 8 * (offset % 8));
}

void guard_set(const pgs_heap *heap, uint32_t run)
{
    const struct run *at = &heap->runs.table[run];
    uint64_t handle = handle_of(heap, run);
    for (uint64_t i = guard_start(at); i < end_of(at); i++)
        heap->memory[i] = guard_byte(handle, i);
}

uint64_t guard_broken(const pgs_heap *heap, uint32_t run)
{
    const struct run *at = &heap->runs.table[run];
    uint64_t handle = handle_of(heap, run);
    for (uint64_t i = guard_start(at); i < end_of(at); i++)
        if (heap->memory[i] != guard_byte(handle, i))
            return i;
    return UINT64_MAX;
}

void poison(const pgs_heap *heap, uint64_t offset, uint64_t size)
{
    memset(heap->memory + offset, POISON, size);
}

uint64_t poison_broken(const pgs_heap *heap, uint32_t run)
{
    const struct run *at = &heap->runs.table[run];
    uint64_t start = (uint64_t)at->start * GRANULE, size = (uint64_t)at->length * GRANULE;
    const unsigned char *bytes = heap->memory + start;
    /* Each byte is the one before it: all are the first. */
    if (bytes[0] == POISON && memcmp(bytes, bytes + 1, size - 1) == 0)
        return UINT64_MAX;
    while (*bytes == POISON)
        bytes++;
    return (uint64_t)(bytes - heap->memory);
}
