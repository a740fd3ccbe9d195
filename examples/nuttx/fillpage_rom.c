/* SPDX-License-Identifier: MIT
 *
 * up_fillpage for NuttX's on-demand paging on ARM, from a ROM image. Page 0 of
 * the image is at PG_PAGED_VBASE: the image is made of the paged region alone,
 * because it lies in the other one itself.
 *
 * This file, the reader and the image must be in the locked region.
 */
#include <nuttx/config.h>

#include <errno.h>
#include <stdbool.h>

#include <nuttx/page.h>
#include <nuttx/sched.h>

#include "pagestep_rom.h"

#ifndef CONFIG_PAGING_BLOCKINGFILL
#error "a page is there when up_fillpage returns: choose CONFIG_PAGING_BLOCKINGFILL"
#endif

/* What `pagestep rom build --dictionary in-place` wrote, as C source or ELF object. */
extern const unsigned char pagestep_rom[];
extern const unsigned long pagestep_rom_size;

/* Fills the page at `vpage` with what belongs to the address that the task
 * faulted at. All errors are fatal to the caller. */
int up_fillpage(FAR struct tcb_s *tcb, FAR void *vpage)
{
    static struct pgs_rom rom;
    static bool is_open;
    uint32_t page_no = (uint32_t)(tcb->xcp.far - PG_PAGED_VBASE) >> PAGESHIFT;

    /* The first fault opens the image; one worker thread fills all pages. No
     * RAM, because the dictionary is used where it lies. */
    if (!is_open)
        is_open = pgs_rom_open(pagestep_rom, pagestep_rom_size, &pgs_rom_kit_small, NULL, 0,
                               &rom) == PGS_OK &&
                  rom.page_size == PAGESIZE;
    return is_open && pgs_rom_page(&rom, page_no, vpage) == PGS_OK ? OK : -EIO;
}
