/* SPDX-License-Identifier: MIT
 *
 * Blobs in this process's memory: one allocation each, under one lock.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pagestep/blobs.h"
#include "pagestep/error.h"

struct ram_blob {
    uint32_t size;
    unsigned char bytes[];
};

struct ram_blobs {
    pthread_mutex_t lock;
    uint64_t page_count, capacity_bytes, used_bytes;
    uint32_t size_max;
    struct ram_blob *blobs[];
};

static int get_one(const struct ram_blobs *ram, struct pgs_blob *blob)
{
    if (blob->page_no >= ram->page_count)
        return PGS_E_RANGE;
    const struct ram_blob *kept = ram->blobs[blob->page_no];
    if (kept && kept->size > blob->capacity)
        return PGS_E_INVALID;
    blob->size = kept ? kept->size : 0;
    if (kept)
        memcpy(blob->bytes, kept->bytes, kept->size);
    return PGS_OK;
}

static int put_one(struct ram_blobs *ram, const struct pgs_blob *blob)
{
    if (blob->page_no >= ram->page_count)
        return PGS_E_RANGE;
    struct ram_blob **place = &ram->blobs[blob->page_no];
    uint64_t others = ram->used_bytes - (*place ? (*place)->size : 0);
    if (!blob->size || blob->size > ram->size_max)
        return PGS_E_INVALID;
    if (others + blob->size > ram->capacity_bytes)
        return PGS_E_FULL;
    struct ram_blob *kept = malloc(sizeof *kept + blob->size);
    if (!kept)
        return PGS_E_NOMEM;
    kept->size = blob->size;
    memcpy(kept->bytes, blob->bytes, blob->size);
    free(*place);
    *place = kept;
    ram->used_bytes = others + blob->size;
    return PGS_OK;
}

static int ram_get(void *ctx, struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    struct ram_blobs *ram = ctx;
    int error = PGS_OK;
    pthread_mutex_lock(&ram->lock);
    for (size_t i = 0; i < count; i++) {
        statuses_ret[i] = get_one(ram, &blobs[i]);
        error = error ? error : statuses_ret[i];
    }
    pthread_mutex_unlock(&ram->lock);
    return error;
}

static int ram_put(void *ctx, const struct pgs_blob *blobs, size_t count, int32_t *statuses_ret)
{
    struct ram_blobs *ram = ctx;
    int error = PGS_OK;
    pthread_mutex_lock(&ram->lock);
    for (size_t i = 0; i < count; i++) {
        statuses_ret[i] = put_one(ram, &blobs[i]);
        error = error ? error : statuses_ret[i];
    }
    pthread_mutex_unlock(&ram->lock);
    return error;
}

static int ram_discard(void *ctx, uint64_t first_page_no, uint64_t page_count)
{
    struct ram_blobs *ram = ctx;
    if (first_page_no > ram->page_count || page_count > ram->page_count - first_page_no)
        return PGS_E_RANGE;
    pthread_mutex_lock(&ram->lock);
    for (uint64_t i = first_page_no; i < first_page_no + page_count; i++) {
        ram->used_bytes -= ram->blobs[i] ? ram->blobs[i]->size : 0;
        free(ram->blobs[i]);
        ram->blobs[i] = NULL;
    }
    pthread_mutex_unlock(&ram->lock);
    return PGS_OK;
}

static int ram_flush(void *ctx)
{
    (void)ctx;
    return PGS_OK;
}

static int ram_capacity(void *ctx, uint64_t *total_ret, uint64_t *used_ret)
{
    struct ram_blobs *ram = ctx;
    pthread_mutex_lock(&ram->lock);
    *total_ret = ram->capacity_bytes;
    *used_ret = ram->used_bytes;
    pthread_mutex_unlock(&ram->lock);
    return PGS_OK;
}

static int ram_present(void *ctx, uint64_t first_page_no, uint64_t page_count, uint64_t *bits)
{
    struct ram_blobs *ram = ctx;
    if (first_page_no > ram->page_count || page_count > ram->page_count - first_page_no)
        return PGS_E_RANGE;
    memset(bits, 0, (page_count + 63) / 64 * sizeof *bits);
    pthread_mutex_lock(&ram->lock);
    for (uint64_t i = 0; i < page_count; i++)
        if (ram->blobs[first_page_no + i])
            bits[i / 64] |= (uint64_t)1 << i % 64;
    pthread_mutex_unlock(&ram->lock);
    return PGS_OK;
}

static void ram_close(void *ctx)
{
    struct ram_blobs *ram = ctx;
    for (uint64_t i = 0; i < ram->page_count; i++)
        free(ram->blobs[i]);
    pthread_mutex_destroy(&ram->lock);
    free(ram);
}

static uint64_t ram_memory_bytes(void *ctx)
{
    const struct ram_blobs *ram = ctx;
    return sizeof *ram + ram->page_count * sizeof ram->blobs[0];
}

int pgs_blobs_ram(uint64_t page_count, uint32_t page_size, uint64_t capacity_bytes,
                  struct pgs_blobs *blobs_ret)
{
    struct ram_blobs *ram;
    if (page_count > UINT32_MAX)
        return PGS_E_INVALID;
    ram = calloc(1, sizeof *ram + page_count * sizeof ram->blobs[0]);
    if (!ram)
        return PGS_E_NOMEM;
    pthread_mutex_init(&ram->lock, NULL);
    ram->page_count = page_count;
    ram->capacity_bytes = capacity_bytes;
    ram->size_max = page_size + PGS_BLOB_EXTRA_MAX;
    *blobs_ret = (struct pgs_blobs){.struct_size = sizeof *blobs_ret,
                                    .ctx = ram,
                                    .get = ram_get,
                                    .put = ram_put,
                                    .discard = ram_discard,
                                    .flush = ram_flush,
                                    .capacity = ram_capacity,
                                    .present = ram_present,
                                    .close = ram_close,
                                    .memory_bytes = ram_memory_bytes};
    return PGS_OK;
}
