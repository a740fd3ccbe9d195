/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a ROM image, for the freestanding reader with zstd and for the host's.
 * Each input is tried as it is and, so that the fuzzer gets past it, with
 * magic number, version and checksum of the header put right. Where both
 * readers give a page, it is the same.
 */
#include "pagestep/error.h"
#include "pagestep/rom_reader.h"
#include "pagestep/rom_zstd.h"
#include "rom/rom_bytes.h"
#include "rom/rom_layout.h"

#include <stdlib.h>
#include <string.h>

enum { PAGES_MAX = 48, RAM_MAX = 1 << 20 };

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void read_page(const struct pgs_rom *rom, pgs_rom_reader *reader, uint32_t page_no)
{
    unsigned char *page = malloc(rom->page_size), *of_host = malloc(rom->page_size);
    int error = pgs_rom_page(rom, page_no, page), host_error = error;
    const void *in_place = pgs_rom_in_place(rom, page_no);
    const uint64_t number = page_no;

    REQUIRE(error == PGS_OK || error == PGS_E_CORRUPT ||
            error == (page_no < rom->page_count ? PGS_E_ROM_ABSENT : PGS_E_RANGE));
    if (in_place != NULL)
        (void)pgs_xxh32(in_place, rom->page_size, 0); /* all of it is the image's */
    if (reader != NULL) {
        host_error = pgs_rom_reader_pages(reader, &number, 1, of_host, NULL);
        /* liblz4 wants literals last, which the small decoder does not ask for, and takes a
         * distance of 0 for zeros; it knows no codec 1. */
        REQUIRE(host_error == error || (error == PGS_OK && host_error == PGS_E_CORRUPT) ||
                (error == PGS_E_CORRUPT && host_error == PGS_OK));
        REQUIRE((error | host_error) != PGS_OK || memcmp(page, of_host, rom->page_size) == 0);
    }
    free(page);
    free(of_host);
}

static void read_pages(const struct pgs_rom *rom, pgs_rom_reader *reader)
{
    uint32_t count = rom->page_count < PAGES_MAX ? rom->page_count : PAGES_MAX, page_no, bad_page;
    struct pgs_rom_tree *tree = malloc(sizeof(*tree));
    unsigned char *page = malloc(rom->page_size);

    for (page_no = 0; page_no < count; page_no++)
        read_page(rom, reader, page_no);
    read_page(rom, reader, rom->page_count);
    read_page(rom, reader, UINT32_MAX);
    if (rom->page_count <= PAGES_MAX) {
        int error = pgs_rom_verify(rom, tree, page, &bad_page);
        REQUIRE(error == PGS_OK || error == PGS_E_CORRUPT);
        REQUIRE(bad_page <= rom->page_count);
    }
    free(tree);
    free(page);
}

/* What the freestanding reader has too little RAM for. */
static void read_by_host(pgs_rom_reader *reader)
{
    const struct pgs_rom *rom = pgs_rom_reader_rom(reader);
    unsigned char *page = malloc(rom->page_size);
    uint64_t page_no;

    for (page_no = 0; page_no < rom->page_count && page_no < PAGES_MAX; page_no++)
        (void)pgs_rom_reader_pages(reader, &page_no, 1, page, NULL);
    free(page);
}

static void try_image(const unsigned char *data, size_t size)
{
    unsigned char *image = malloc(size + (size == 0)), *ram; /* so that its end is watched */
    size_t zstd_ram_size = pgs_rom_zstd_ram_size(PGS_ROM_DICT_COUNT_MAX);
    void *zstd_ram = malloc(zstd_ram_size);
    struct pgs_rom_kit kit = pgs_rom_kit_small;
    pgs_rom_reader *reader = NULL;
    struct pgs_rom_zstd zstd;
    struct pgs_rom rom;
    size_t ram_size;
    int size_error, error;

    memcpy(image, data, size);
    size_error = pgs_rom_ram_size(image, size, &ram_size);
    REQUIRE(ram_size <= (size_t)PGS_ROM_DICT_COUNT_MAX * PGS_ROM_DICT_SIZE_MAX);
    ram_size = ram_size < RAM_MAX ? ram_size : RAM_MAX;
    ram = malloc(ram_size + (ram_size == 0));
    REQUIRE(pgs_rom_zstd_init(&zstd, zstd_ram, zstd_ram_size) == PGS_OK);
    kit.ctx = &zstd;
    kit.decode[PGS_CODEC_ZSTD] = pgs_rom_zstd_decode;
    error = pgs_rom_open(image, size, &kit, ram, ram_size, &rom);
    REQUIRE(error == PGS_OK || error == PGS_E_NOMEM ||
            (error <= PGS_E_ROM_MAGIC && error >= PGS_E_ROM_CODEC));
    REQUIRE(size_error == PGS_OK || size_error == error || size_error == PGS_E_ROM_DICT);
    (void)pgs_rom_reader_open(image, size, 1, &reader);
    if (error == PGS_OK) {
        int digest_error = pgs_rom_zstd_digest(&zstd, &rom);
        REQUIRE(digest_error == PGS_OK || digest_error == PGS_E_ROM_DICT);
        read_pages(&rom, reader);
    }
    if (error != PGS_OK && reader != NULL)
        read_by_host(reader);
    pgs_rom_reader_close(reader);
    free(ram);
    free(zstd_ram);
    free(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *mended;
    uint32_t header_size;

    try_image(data, size);
    if (size < ROM_FIXED_SIZE + ROM_CHECKSUM_SIZE)
        return 0;
    mended = malloc(size);
    memcpy(mended, data, size);
    rom_store32(mended, ROM_MAGIC_LOW);
    rom_store32(mended + 4, ROM_MAGIC_HIGH);
    rom_store16(mended + ROM_FORMAT_VERSION_AT, ROM_FORMAT_VERSION);
    rom_store32(mended + ROM_FEATURES_INCOMPATIBLE_AT, 0);
    rom_store32(mended + ROM_ROM_SIZE_AT, (uint32_t)size);
    header_size = rom_load32(mended + ROM_HEADER_SIZE_AT) % (uint32_t)(size - ROM_CHECKSUM_SIZE);
    header_size -= header_size % ROM_CHECKSUM_STRIDE;
    header_size = header_size < ROM_FIXED_SIZE ? ROM_FIXED_SIZE : header_size;
    rom_store32(mended + ROM_HEADER_SIZE_AT, header_size);
    rom_store32(mended + header_size, pgs_xxh32(mended, header_size, 0));
    try_image(mended, size);
    free(mended);
    return 0;
}
