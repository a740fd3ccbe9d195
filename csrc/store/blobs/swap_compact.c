/* SPDX-License-Identifier: MIT
 *
 * Compaction: records slide down over the free units before them until enough lie together. A
 * record that would overlap itself goes by way of the bay, so that one whole copy of it is on
 * the medium at any moment.
 */
#include <string.h>

#include "pagestep/error.h"
#include "store/blobs/swap.h"

enum { GATHERED = 8 }; /* times what is needed, where there is so much, to do it rarely */

/* Writes the record that lies in write_buffer, anew, at a place, and makes that the page's own. */
static int copy_to(struct swap *swap, struct swap_record *record, uint64_t unit, uint32_t units)
{
    struct swap_place place = {.unit = (uint32_t)unit, .units = units};
    record->sequence = ++swap->sequence;
    swap_record_write(&swap->header, unit, record, swap->write_buffer + RECORD_HEADER_SIZE,
                      swap->write_buffer);
    int error = swap_write_units(swap, unit, units, swap->write_buffer);
    if (!error)
        error = swap_sync(swap);
    if (error)
        return error;
    pthread_mutex_lock(&swap->map_lock);
    swap->places[record->page_no] = place;
    pthread_mutex_unlock(&swap->map_lock);
    return PGS_OK;
}

/* By way of the bay. Its place has changed twice when the units that it came from are used. */
static int slide_over(struct swap *swap, struct swap_record *record, struct swap_place from,
                      uint64_t to)
{
    struct swap_place bay = {.unit = (uint32_t)swap->bay, .units = from.units};
    int error = swap->bay_is_full ? PGS_E_FULL : copy_to(swap, record, swap->bay, from.units);
    if (error)
        return error;
    pthread_mutex_lock(&swap->map_lock);
    swap_space_give(&swap->space, from.unit, from.units);
    swap_space_mark(&swap->space, to, from.units);
    pthread_mutex_unlock(&swap->map_lock);
    error = copy_to(swap, record, to, from.units);
    swap->bay_is_full = error != PGS_OK; /* there it stays */
    return error ? error : swap_clear(swap, bay);
}

static int slide(struct swap *swap, struct swap_record *record, struct swap_place from,
                 uint64_t to)
{
    if (to + from.units > from.unit)
        return slide_over(swap, record, from, to);
    pthread_mutex_lock(&swap->map_lock);
    swap_space_mark(&swap->space, to, from.units);
    pthread_mutex_unlock(&swap->map_lock);
    int error = copy_to(swap, record, to, from.units);
    bool copied = !error;
    if (copied)
        error = swap_clear(swap, from);
    if (copied && error)
        return error; /* its units stay taken until the file is opened again */
    pthread_mutex_lock(&swap->map_lock);
    swap_space_give(&swap->space, copied ? from.unit : to, from.units);
    pthread_mutex_unlock(&swap->map_lock);
    return error;
}

/* The record that begins at a unit; units 0 where what lies there cannot be moved. */
static int read_at(struct swap *swap, uint64_t unit, struct swap_record *record,
                   struct swap_place *place_ret)
{
    uint64_t left = swap->header.unit_count - unit;
    uint32_t units = left < swap->units_max ? (uint32_t)left : swap->units_max;
    int error = swap_read_units(swap, unit, units, swap->write_buffer);
    *place_ret = (struct swap_place){.unit = (uint32_t)unit};
    if (error || !swap_record_read(&swap->header, unit, swap->write_buffer, record))
        return error;
    struct swap_place place = swap->places[record->page_no];
    if (place.unit == unit)
        *place_ret = place;
    return PGS_OK;
}

int swap_compact(struct swap *swap, uint32_t count)
{
    uint64_t free = swap_space_free(&swap->space);
    uint64_t goal = free / GATHERED >= count ? (uint64_t)GATHERED * count : count;
    if (free < count)
        return PGS_E_FULL;
    uint64_t to = swap_space_next(&swap->space, 0, false), best = 0;
    while (to < swap->bay) {
        struct swap_record record;
        struct swap_place from;
        uint64_t at = swap_space_next(&swap->space, to, true);
        best = at - to > best ? at - to : best;
        if (best >= goal || at >= swap->bay)
            break;
        int error = read_at(swap, at, &record, &from);
        if (!error && from.units)
            error = slide(swap, &record, from, to);
        if (error)
            return error;
        to = swap_space_next(&swap->space, from.units ? to : at, false);
    }
    return best >= count ? PGS_OK : PGS_E_FULL;
}
