/* SPDX-License-Identifier: MIT
 *
 * A fixed number of slots for blobs, found by page number. It has no lock of its own.
 */
#ifndef PGS_BLOB_TABLE_H
#define PGS_BLOB_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum slot_state {
    SLOT_FREE,
    SLOT_READY, /* to be written; or read ahead, and there */
    SLOT_BUSY   /* just being written, or read; its bytes are not to be touched */
};

struct blob_slot {
    uint64_t page_no;
    uint64_t age; /* rises with each slot that is taken */
    uint32_t size;
    uint32_t next; /* of its chain, or of the free ones; SLOT_NONE */
    uint8_t state; /* enum slot_state */
    bool stale;    /* BUSY, and not to be used when that ends */
};

#define SLOT_NONE UINT32_MAX

struct blob_table {
    struct blob_slot *slots;
    uint32_t *heads; /* chains, the newest first */
    unsigned char *bytes;
    uint32_t slot_count, head_mask, free, used;
    uint32_t slot_size;
    uint64_t age;
};

/* 0 slots are allowed. PGS_E_NOMEM. */
int blob_table_init(struct blob_table *table, uint32_t slot_count, uint32_t slot_size);
void blob_table_deinit(struct blob_table *table);
uint64_t blob_table_bytes(const struct blob_table *table);

/* The newest slot of a page that is not stale, or NULL. */
struct blob_slot *blob_table_find(const struct blob_table *table, uint64_t page_no);
/* A free slot, from now on this page's newest; NULL where there is none. */
struct blob_slot *blob_table_take(struct blob_table *table, uint64_t page_no);
void blob_table_give(struct blob_table *table, struct blob_slot *slot);
/* Frees the page's slot; one that is busy becomes stale. */
void blob_table_drop(struct blob_table *table, uint64_t page_no);

static inline unsigned char *blob_table_at(const struct blob_table *table,
                                           const struct blob_slot *slot)
{
    return table->bytes + (size_t)(slot - table->slots) * table->slot_size;
}

#endif
