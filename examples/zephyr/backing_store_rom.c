/* SPDX-License-Identifier: MIT
 *
 * A backing store for Zephyr's demand paging that reads a ROM image. Read-only:
 * the on-demand section's pages come from the image, and leave RAM without
 * being written. Page 0 of the image is the section's first page.
 *
 * This file, the reader and the image are never themselves on demand.
 */
#include <errno.h>

#include <kernel_arch_interface.h>
#include <mmu.h>
#include <zephyr/kernel.h>
#include <zephyr/kernel/mm/demand_paging.h>
#include <zephyr/linker/linker-defs.h>

#include "pagestep_rom.h"

/* What `pagestep rom build --dictionary in-place` wrote, as C source or ELF object. */
extern const unsigned char pagestep_rom[];
extern const unsigned long pagestep_rom_size;

static struct pgs_rom rom;

void k_mem_paging_backing_store_init(void)
{
    /* No RAM, because the dictionary is used where it lies. */
    if (pgs_rom_open(pagestep_rom, pagestep_rom_size, &pgs_rom_kit_small, NULL, 0, &rom) !=
            PGS_OK ||
        rom.page_size != CONFIG_MMU_PAGE_SIZE)
        k_panic();
}

/* A location is the page's offset in the image. */
int k_mem_paging_backing_store_location_query(void *addr, uintptr_t *location)
{
    uintptr_t offset = (uintptr_t)addr - (uintptr_t)lnkr_ondemand_start;

    if (offset / CONFIG_MMU_PAGE_SIZE >= rom.page_count)
        return -EFAULT;
    *location = offset - offset % CONFIG_MMU_PAGE_SIZE;
    return 0;
}

int k_mem_paging_backing_store_location_get(struct k_mem_page_frame *pf, uintptr_t *location,
                                            bool page_fault)
{
    (void)page_fault;
    if (!k_mem_page_frame_is_backed(pf))
        return -ENOMEM; /* not a page of the image: there is no room for it */
    return k_mem_paging_backing_store_location_query(k_mem_page_frame_to_virt(pf), location);
}

void k_mem_paging_backing_store_location_free(uintptr_t location)
{
    (void)location;
}

void k_mem_paging_backing_store_page_in(uintptr_t location)
{
    uint32_t page_no = (uint32_t)(location / CONFIG_MMU_PAGE_SIZE);

    if (pgs_rom_page(&rom, page_no, K_MEM_SCRATCH_PAGE) != PGS_OK)
        k_panic(); /* the fault has nobody to report to */
}

/* Marks the frame as one whose page the store has, so that the kernel drops it
 * while it is clean. */
void k_mem_paging_backing_store_page_finalize(struct k_mem_page_frame *pf, uintptr_t location)
{
    (void)location;
    k_mem_page_frame_set(pf, K_MEM_PAGE_FRAME_BACKED);
}

/* The kernel may take a page for dirty that is what it was. One that was
 * changed cannot be kept, and losing it silently would be worse. */
void k_mem_paging_backing_store_page_out(uintptr_t location)
{
    uint32_t page_no = (uint32_t)(location / CONFIG_MMU_PAGE_SIZE), checksum;
    const unsigned char *stored = rom.tables[PGS_ROM_CHECKSUMS].at + 4 * (size_t)page_no;

    checksum = pgs_xxh32(K_MEM_SCRATCH_PAGE, CONFIG_MMU_PAGE_SIZE, page_no);
    if (stored[0] != (checksum & 0xff) || stored[1] != (checksum >> 8 & 0xff) ||
        stored[2] != (checksum >> 16 & 0xff) || stored[3] != checksum >> 24)
        k_panic();
}
