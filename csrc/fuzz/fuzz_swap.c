/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a swap file: it is refused, or opened and then usable. Each input is tried as it
 * is and, so that the fuzzer gets past them, with header and records put right.
 */
#define _GNU_SOURCE /* memfd_create */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "codec/le.h"
#include "pagestep.h"
#include "store/blobs/swap_layout.h"

enum { PAGE = 512, PAGES = 32, FILE_MAX = 1 << 18 };

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

static void use(struct pgs_blobs *blobs)
{
    unsigned char bytes[PAGE + PGS_BLOB_EXTRA_MAX];
    uint64_t total, used, present[1];
    int32_t status;
    REQUIRE(blobs->present(blobs->ctx, 0, PAGES, present) == PGS_OK);
    REQUIRE(blobs->capacity(blobs->ctx, &total, &used) == PGS_OK && used <= total);
    for (uint64_t i = 0; i < PAGES; i++) {
        struct pgs_blob blob = {.page_no = i, .bytes = bytes, .capacity = sizeof bytes};
        REQUIRE(blobs->get(blobs->ctx, &blob, 1, &status) == PGS_OK);
        REQUIRE((present[0] >> i & 1) == (blob.size > 0));
    }
    for (uint64_t i = 0; i < PAGES; i++) {
        struct pgs_blob blob = {.page_no = i * 7 % PAGES, .bytes = bytes, .size = 1 + 17 * i};
        int error = blobs->put(blobs->ctx, &blob, 1, &status);
        REQUIRE(error == PGS_OK || error == PGS_E_FULL);
    }
    REQUIRE(blobs->discard(blobs->ctx, 0, PAGES) == PGS_OK);
    REQUIRE(blobs->flush(blobs->ctx) == PGS_OK);
    REQUIRE(blobs->capacity(blobs->ctx, &total, &used) == PGS_OK && used == 0);
}

static void try_file(const unsigned char *data, size_t size)
{
    struct pgs_swap_shape shape = {.struct_size = sizeof shape, .page_size = PAGE,
                                   .page_count = PAGES};
    struct pgs_swap_info info;
    struct pgs_blobs blobs;
    int fd = memfd_create("swap", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    int error = pgs_blobs_swap(fd, &shape, 1 << 16, PGS_SWAP_BUFFERED, &blobs, &info);
    if (error == PGS_OK) {
        use(&blobs);
        blobs.close(blobs.ctx);
        REQUIRE(pgs_blobs_swap(fd, &shape, 0, PGS_SWAP_BUFFERED, &blobs, &info) == PGS_OK);
        REQUIRE(info.page_count == 0);
        blobs.close(blobs.ctx);
    } else {
        REQUIRE(error == PGS_E_CORRUPT || error == PGS_E_FULL ||
                (error <= PGS_E_SWAP_FOREIGN && error >= PGS_E_SWAP_OTHER));
    }
    close(fd);
}

/* Each unit's first bytes choose page, sequence and size of a record there, or none. */
static void mend(unsigned char *file, size_t size)
{
    struct swap_header header = {.version = SWAP_FORMAT_VERSION, .unit_size = SWAP_UNIT_MIN,
                                 .file_id = {1, 2, 3},
                                 .shape = {.page_size = PAGE, .page_count = PAGES}};
    unsigned char record[4 * SWAP_UNIT_MIN], blob[PAGE + PGS_BLOB_EXTRA_MAX];
    header.unit_count = (size - SWAP_HEADER_SIZE) / SWAP_UNIT_MIN;
    swap_header_write(&header, file);
    for (uint64_t unit = 0; unit < header.unit_count; unit++) {
        unsigned char *at = file + swap_offset(&header, unit);
        struct swap_record said = {.page_no = at[1] % PAGES, .sequence = pgs_load_le16(at + 2),
                                   .size = 1 + pgs_load_le16(at + 4) % sizeof blob};
        uint32_t units = swap_units(SWAP_UNIT_MIN, said.size);
        if (at[0] % 2 || unit + units > header.unit_count)
            continue;
        memcpy(blob, at + 6, said.size < SWAP_UNIT_MIN - 6 ? said.size : SWAP_UNIT_MIN - 6);
        memset(blob + SWAP_UNIT_MIN - 6, 7, sizeof blob - SWAP_UNIT_MIN + 6);
        swap_record_write(&header, unit, &said, blob, record);
        memcpy(at, record, (size_t)units * SWAP_UNIT_MIN - (at[0] % 4 == 2 ? 100 : 0));
        unit += units - 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > FILE_MAX)
        return 0;
    try_file(data, size);
    if (size < SWAP_HEADER_SIZE + SWAP_UNIT_MIN)
        return 0;
    unsigned char *mended = malloc(size);
    memcpy(mended, data, size);
    mend(mended, size);
    try_file(mended, size);
    free(mended);
    return 0;
}
