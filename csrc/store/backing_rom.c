/* SPDX-License-Identifier: MIT
 *
 * Pages of a ROM image; what was left out of it, or is damaged, comes from
 * another backing.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "pagestep/error.h"
#include "pagestep/rom_reader.h"
#include "rom/rom_internal.h"
#include "store/backing.h"

struct rom_backing {
    pgs_rom_reader *reader;
    struct pgs_backing rest; /* struct_size 0: none */
};

/* A damaged page has its checksum in the ROM image all the same. */
static bool is_as_stored(const struct rom_backing *backing, uint64_t page_no, const void *page)
{
    const struct pgs_rom *rom = pgs_rom_reader_rom(backing->reader);
    return pgs_xxh32(page, rom->page_size, (uint32_t)page_no) ==
           rom_checksum_at(rom, (uint32_t)page_no);
}

static int rom_page_in(void *ctx, uint64_t page_no, void *page)
{
    struct rom_backing *rom = ctx;
    int error = pgs_rom_reader_page(rom->reader, page_no, page);
    if (!error || !rom->rest.page_in)
        return error;
    int rest_error = rom->rest.page_in(rom->rest.ctx, page_no, page);
    if (error == PGS_E_CORRUPT && !rest_error && !is_as_stored(rom, page_no, page))
        return PGS_E_CORRUPT;
    return rest_error;
}

static uint32_t rom_source(void *ctx, uint64_t page_no, uint32_t *size_ret)
{
    struct rom_backing *rom = ctx;
    uint32_t codec_id = PGS_CODEC_RAW;
    int error = pgs_rom_reader_stored(rom->reader, page_no, &codec_id, size_ret);
    if (error == PGS_E_ROM_ABSENT && rom->rest.page_in)
        return backing_source(&rom->rest, page_no, size_ret);
    return codec_id == PGS_CODEC_SAME ? PGS_SOURCE_SAME : PGS_SOURCE_ROM;
}

static uint64_t rom_memory_bytes(void *ctx)
{
    struct rom_backing *rom = ctx;
    return sizeof *rom + pgs_rom_reader_memory_bytes(rom->reader) +
           backing_memory_bytes(&rom->rest);
}

static void rom_close(void *ctx)
{
    struct rom_backing *rom = ctx;
    if (rom->rest.close)
        rom->rest.close(rom->rest.ctx);
    pgs_rom_reader_close(rom->reader);
    free(rom);
}

int pgs_backing_rom(pgs_rom_reader *reader, const struct pgs_backing *rest,
                    struct pgs_backing *backing_ret)
{
    if (rest && (rest->struct_size != sizeof *rest || !rest->page_in || rest->page_out))
        return PGS_E_INVALID;
    struct rom_backing *rom = calloc(1, sizeof *rom);
    if (!rom)
        return PGS_E_NOMEM;
    rom->reader = reader;
    rom_reader_keep(reader);
    if (rest)
        rom->rest = *rest;
    *backing_ret = (struct pgs_backing){.struct_size = sizeof *backing_ret,
                                        .flags = rest ? rest->flags : 0,
                                        .ctx = rom,
                                        .page_in = rom_page_in,
                                        .close = rom_close,
                                        .source = rom_source,
                                        .memory_bytes = rom_memory_bytes};
    return PGS_OK;
}
