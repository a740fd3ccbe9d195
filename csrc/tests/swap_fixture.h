/* SPDX-License-Identifier: MIT
 *
 * Swap files for tests, in the working directory; and their bytes looked at from outside.
 */
#ifndef PGS_SWAP_FIXTURE_H
#define PGS_SWAP_FIXTURE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>

#include "check.h"
#include "pagestep.h"
#include "store/blobs/swap_layout.h"

enum { SWAP_PAGE = 4096 };

struct swap_file {
    char path[64];
    struct pgs_swap_shape shape;
    struct pgs_swap_info info;
    struct pgs_blobs blobs;
};

static inline void swap_file_name(struct swap_file *file, const char *name, uint64_t pages)
{
    memset(file, 0, sizeof *file);
    snprintf(file->path, sizeof file->path, "swap-%ld-%s", (long)getpid(), name);
    unlink(file->path);
    file->shape = (struct pgs_swap_shape){.struct_size = sizeof file->shape,
                                          .page_size = SWAP_PAGE, .page_count = pages};
}

static inline int swap_file_try(struct swap_file *file, uint64_t size, uint32_t flags)
{
    int fd = open(file->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    int error = pgs_blobs_swap(fd, &file->shape, size, flags, &file->blobs, &file->info);
    close(fd);
    return error;
}

static inline void swap_file_open(struct swap_file *file, uint64_t size, uint32_t flags)
{
    CHECK_EQ(swap_file_try(file, size, flags), PGS_OK);
}

static inline void swap_file_close(struct swap_file *file)
{
    file->blobs.close(file->blobs.ctx);
}

/* A blob's bytes follow from its page and version; its size does, too. */
static inline uint32_t swap_blob(uint64_t page_no, uint32_t version, unsigned char *bytes)
{
    struct noise noise = {(page_no << 32 | version) * 2654435761u + 1};
    uint32_t kind = noise_word(&noise) % 8;
    uint32_t size = kind == 0 ? SWAP_PAGE + 20 : kind == 1 ? 28 : 21 + noise_word(&noise) % 3000;
    noise_fill(&noise, bytes, size);
    memcpy(bytes, &page_no, 8);
    memcpy(bytes + 8, &version, 4);
    return size;
}

static inline int swap_put(struct swap_file *file, uint64_t page_no, uint32_t version)
{
    unsigned char bytes[SWAP_PAGE + PGS_BLOB_EXTRA_MAX];
    struct pgs_blob blob = {.page_no = page_no, .bytes = bytes,
                            .size = swap_blob(page_no, version, bytes)};
    int32_t status = -1;
    int error = file->blobs.put(file->blobs.ctx, &blob, 1, &status);
    CHECK_EQ(error, status);
    return error;
}

/* The version of a page that is there, whole; 0: none. */
static inline uint32_t swap_version(struct swap_file *file, uint64_t page_no)
{
    unsigned char bytes[SWAP_PAGE + PGS_BLOB_EXTRA_MAX], wanted[sizeof bytes];
    struct pgs_blob blob = {.page_no = page_no, .bytes = bytes, .capacity = sizeof bytes};
    int32_t status = -1;
    uint32_t version;
    CHECK_EQ(file->blobs.get(file->blobs.ctx, &blob, 1, &status), PGS_OK);
    if (!blob.size)
        return 0;
    memcpy(&version, bytes + 8, 4);
    CHECK_EQ(blob.size, swap_blob(page_no, version, wanted));
    CHECK_BYTES(bytes, wanted, blob.size);
    return version;
}

static inline uint64_t swap_used(struct swap_file *file)
{
    uint64_t total, used;
    CHECK_EQ(file->blobs.capacity(file->blobs.ctx, &total, &used), PGS_OK);
    CHECK(used <= total);
    return used;
}

/* What the free map must be: as much taken as the pages that are there need. After a flush. */
static inline void swap_check_space(struct swap_file *file)
{
    unsigned char bytes[SWAP_PAGE + PGS_BLOB_EXTRA_MAX];
    uint64_t units = 0;
    CHECK_EQ(file->blobs.flush(file->blobs.ctx), PGS_OK);
    for (uint64_t i = 0; i < file->shape.page_count; i++) {
        struct pgs_blob blob = {.page_no = i, .bytes = bytes, .capacity = sizeof bytes};
        int32_t status;
        CHECK_EQ(file->blobs.get(file->blobs.ctx, &blob, 1, &status), PGS_OK);
        units += blob.size ? swap_units(file->info.unit_size, blob.size) : 0;
    }
    CHECK_EQ(swap_used(file), units * file->info.unit_size);
}

static inline void swap_poke(const struct swap_file *file, uint64_t offset, const void *bytes,
                             size_t size)
{
    int fd = open(file->path, O_RDWR);
    CHECK(fd >= 0 && pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size);
    close(fd);
}

static inline void swap_peek(const struct swap_file *file, uint64_t offset, void *bytes,
                             size_t size)
{
    int fd = open(file->path, O_RDONLY);
    CHECK(fd >= 0 && pread(fd, bytes, size, (off_t)offset) == (ssize_t)size);
    close(fd);
}

#endif
