/* SPDX-License-Identifier: MIT
 *
 * Opening a swap file: all its records are read, from the first unit to the last. Of each page
 * the one with the highest sequence number counts; what it took the place of is cleared, or
 * it would come back once the page is discarded.
 */
#define _GNU_SOURCE /* SEEK_DATA */
#include <stdlib.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "store/blobs/swap.h"

enum { WINDOW_BYTES = 1 << 20 };

struct scan {
    struct swap *swap;
    struct pgs_swap_info *info;
    uint64_t *sequences;   /* of each page's newest record */
    unsigned char *window; /* units from `first` to `end` */
    uint64_t first, end, units_max;
};

/* Units from `unit` on that are nothing but a hole of the file need not be read. */
static uint64_t skip_hole(const struct swap *swap, uint64_t unit)
{
    off_t from = (off_t)swap_offset(&swap->header, unit);
    off_t data = lseek(swap->fd, from, SEEK_DATA);
    if (data <= from)
        return unit;
    uint64_t found = ((uint64_t)data - SWAP_HEADER_SIZE) / swap->header.unit_size;
    return found < swap->header.unit_count ? found : swap->header.unit_count;
}

/* Has units from `unit` on in the window; NULL where they cannot be read. */
static const unsigned char *load(struct scan *scan, uint64_t unit, uint32_t units)
{
    struct swap *swap = scan->swap;
    if (unit < scan->first || unit + units > scan->end) {
        uint64_t left = swap->header.unit_count - unit;
        uint64_t count = left < scan->units_max ? left : scan->units_max;
        scan->first = scan->end = unit;
        if (swap_read_units(swap, unit, count, scan->window))
            return NULL;
        scan->end = unit + count;
    }
    return scan->window + swap_bytes(swap, unit - scan->first);
}

static int note(struct scan *scan, struct swap_place place, const struct swap_record *record)
{
    struct swap *swap = scan->swap;
    uint64_t page_no = record->page_no;
    if (record->sequence > swap->sequence)
        swap->sequence = record->sequence;
    pthread_mutex_lock(&swap->map_lock);
    swap_space_mark(&swap->space, place.unit, place.units);
    pthread_mutex_unlock(&swap->map_lock);
    bool is_newest = swap->places[page_no].unit == PLACE_NONE ||
                     record->sequence > scan->sequences[page_no];
    scan->info->stale_records += swap->places[page_no].unit != PLACE_NONE;
    if (!is_newest)
        return swap_to_limbo(swap, page_no, place);
    scan->sequences[page_no] = record->sequence;
    return swap_settle(swap, page_no, place);
}

static int scan_all(struct scan *scan)
{
    struct swap *swap = scan->swap;
    uint64_t unit = 0;
    while (unit < swap->header.unit_count) {
        if (unit >= scan->end)
            unit = skip_hole(swap, unit);
        if (unit == swap->header.unit_count)
            break;
        const unsigned char *bytes = load(scan, unit, 1);
        if (!bytes)
            return PGS_E_IO;
        uint32_t units = swap_record_begins(&swap->header, unit, bytes);
        struct swap_place place = {.unit = (uint32_t)unit, .units = units};
        struct swap_record record;
        if (units && !(bytes = load(scan, unit, units)))
            return PGS_E_IO;
        bool whole = units && swap_record_read(&swap->header, unit, bytes, &record);
        int error = whole ? note(scan, place, &record) : PGS_OK;
        if (error)
            return error;
        scan->info->torn_records += units && !whole;
        unit += whole ? units : 1;
    }
    return PGS_OK;
}

/* What is free of the bay is nobody else's. */
static void take_bay(struct swap *swap)
{
    for (uint64_t at = swap->bay; at < swap->header.unit_count; at++)
        if (swap_space_next(&swap->space, at, false) == at)
            swap_space_mark(&swap->space, at, 1);
}

/* A compaction that was cut off may have left the newest record of a page in the bay. */
static int move_out(struct swap *swap, uint64_t page_no)
{
    struct swap_place from = swap->places[page_no];
    struct swap_record record;
    int error = swap_read_units(swap, from.unit, from.units, swap->write_buffer);
    if (error || !swap_record_read(&swap->header, from.unit, swap->write_buffer, &record))
        return error ? error : PGS_E_CORRUPT;
    uint64_t to = swap_space_take(&swap->space, from.units);
    if (to == SPACE_NONE)
        return PGS_E_FULL;
    record.sequence = ++swap->sequence;
    swap_record_write(&swap->header, to, &record, swap->write_buffer + RECORD_HEADER_SIZE,
                      swap->write_buffer);
    error = swap_write_units(swap, to, from.units, swap->write_buffer);
    if (!error)
        error = swap_settle(swap, page_no,
                            (struct swap_place){.unit = (uint32_t)to, .units = from.units});
    if (!error)
        error = swap_leave_limbo(swap);
    take_bay(swap);
    return error;
}

static int empty_bay(struct swap *swap, struct pgs_swap_info *info)
{
    int error = PGS_OK;
    take_bay(swap);
    for (uint64_t i = 0; !error && i < swap->header.shape.page_count; i++) {
        struct swap_place place = swap->places[i];
        info->page_count += place.unit != PLACE_NONE;
        if (place.unit != PLACE_NONE && place.unit + (uint64_t)place.units > swap->bay)
            error = move_out(swap, i);
    }
    return error;
}

int swap_scan(struct swap *swap, struct pgs_swap_info *info)
{
    if (info->is_new) {
        take_bay(swap);
        return PGS_OK;
    }
    struct scan scan = {.swap = swap, .info = info};
    scan.units_max = WINDOW_BYTES / swap->header.unit_size;
    scan.sequences = calloc(swap->header.shape.page_count, sizeof *scan.sequences);
    scan.window = aligned_alloc(SWAP_ALIGN, WINDOW_BYTES);
    int error = scan.sequences && scan.window ? scan_all(&scan) : PGS_E_NOMEM;
    free(scan.sequences);
    free(scan.window);
    if (!error)
        error = swap_leave_limbo(swap);
    return error ? error : empty_bay(swap, info);
}
