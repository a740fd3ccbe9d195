/* SPDX-License-Identifier: MIT */
#include <unistd.h>

#include "pagestep/error.h"
#include "store/blobs/swap.h"
#include "store/file_io.h"

int swap_read_units(const struct swap *swap, uint64_t unit, uint64_t units, void *to)
{
    return file_read(swap->fd, to, swap_bytes(swap, units), swap_offset(&swap->header, unit));
}

int swap_write_units(const struct swap *swap, uint64_t unit, uint64_t units, const void *from)
{
    return file_write(swap->fd, from, swap_bytes(swap, units), swap_offset(&swap->header, unit));
}

int swap_sync(const struct swap *swap)
{
    return swap->temporary || fdatasync(swap->fd) == 0 ? PGS_OK : PGS_E_IO;
}

int swap_clear(const struct swap *swap, struct swap_place place)
{
    return swap->temporary ? PGS_OK : swap_write_units(swap, place.unit, 1, swap->zero_unit);
}

static void give(struct swap *swap, struct swap_place place)
{
    pthread_mutex_lock(&swap->map_lock);
    swap_space_give(&swap->space, place.unit, place.units);
    pthread_mutex_unlock(&swap->map_lock);
}

int swap_leave_limbo(struct swap *swap)
{
    if (!swap->limbo_count)
        return PGS_OK;
    int error = swap_sync(swap);
    while (!error && swap->limbo_count) {
        struct swap_place place = swap->limbo[swap->limbo_count - 1].place;
        error = swap_clear(swap, place);
        if (error)
            break;
        give(swap, place);
        swap->limbo_count--;
    }
    return error;
}

int swap_to_limbo(struct swap *swap, uint64_t page_no, struct swap_place place)
{
    int error = PGS_OK;
    if (swap->temporary) {
        give(swap, place);
        return PGS_OK;
    }
    if (swap->limbo_count == LIMBO_MAX)
        error = swap_leave_limbo(swap);
    if (!error)
        swap->limbo[swap->limbo_count++] =
            (struct swap_limbo){.place = place, .page_no = page_no};
    return error;
}

int swap_settle(struct swap *swap, uint64_t page_no, struct swap_place place)
{
    pthread_mutex_lock(&swap->map_lock);
    struct swap_place old = swap->places[page_no];
    swap->places[page_no] = place;
    pthread_mutex_unlock(&swap->map_lock);
    return old.unit == PLACE_NONE ? PGS_OK : swap_to_limbo(swap, page_no, old);
}
