/* SPDX-License-Identifier: MIT */
#include "store/blobs/blob_table.h"

#include <stdlib.h>

#include "pagestep/error.h"

static uint32_t *head_of(const struct blob_table *table, uint64_t page_no)
{
    return &table->heads[(page_no * UINT64_C(0x9E3779B97F4A7C15) >> 32) & table->head_mask];
}

int blob_table_init(struct blob_table *table, uint32_t slot_count, uint32_t slot_size)
{
    uint32_t heads = 1;
    while (heads < slot_count)
        heads *= 2;
    *table = (struct blob_table){.slot_count = slot_count,
                                 .slot_size = slot_size,
                                 .head_mask = heads - 1,
                                 .free = SLOT_NONE};
    table->slots = calloc(slot_count + 1, sizeof *table->slots);
    table->heads = malloc(heads * sizeof *table->heads);
    table->bytes = malloc((size_t)slot_count * slot_size + 1);
    if (!table->slots || !table->heads || !table->bytes)
        return PGS_E_NOMEM;
    for (uint32_t i = 0; i < heads; i++)
        table->heads[i] = SLOT_NONE;
    for (uint32_t i = slot_count; i-- > 0;) {
        table->slots[i].next = table->free;
        table->free = i;
    }
    return PGS_OK;
}

void blob_table_deinit(struct blob_table *table)
{
    free(table->slots);
    free(table->heads);
    free(table->bytes);
}

uint64_t blob_table_bytes(const struct blob_table *table)
{
    return (uint64_t)table->slot_count * (table->slot_size + sizeof *table->slots) +
           ((uint64_t)table->head_mask + 1) * sizeof *table->heads;
}

struct blob_slot *blob_table_find(const struct blob_table *table, uint64_t page_no)
{
    for (uint32_t i = *head_of(table, page_no); i != SLOT_NONE; i = table->slots[i].next)
        if (table->slots[i].page_no == page_no && !table->slots[i].stale)
            return &table->slots[i];
    return NULL;
}

struct blob_slot *blob_table_take(struct blob_table *table, uint64_t page_no)
{
    if (table->free == SLOT_NONE)
        return NULL;
    struct blob_slot *slot = &table->slots[table->free];
    uint32_t *head = head_of(table, page_no);
    uint32_t index = table->free;
    table->free = slot->next;
    *slot = (struct blob_slot){
        .page_no = page_no, .age = ++table->age, .next = *head, .state = SLOT_READY};
    *head = index;
    table->used++;
    return slot;
}

void blob_table_give(struct blob_table *table, struct blob_slot *slot)
{
    uint32_t index = (uint32_t)(slot - table->slots);
    uint32_t *link = head_of(table, slot->page_no);
    while (*link != index)
        link = &table->slots[*link].next;
    *link = slot->next;
    slot->state = SLOT_FREE;
    slot->next = table->free;
    table->free = index;
    table->used--;
}

void blob_table_drop(struct blob_table *table, uint64_t page_no)
{
    struct blob_slot *slot;
    while ((slot = blob_table_find(table, page_no)) != NULL) {
        if (slot->state == SLOT_BUSY)
            slot->stale = true;
        else
            blob_table_give(table, slot);
    }
}
