/* SPDX-License-Identifier: MIT
 *
 * Heaps: memory that is asked for and given back block by block, within a
 * store's budget. In Python they are the paged and the non-paged pool.
 *
 * Of a paged heap the blocks lie on pages of an anonymous object, which leave
 * RAM and fault like any others; they are read and written by call. A non-paged
 * heap has all its bytes in RAM from the time it is opened, in one piece, and
 * its blocks have addresses. What a heap itself needs to know lies outside its
 * pages: to allocate and to free never faults.
 *
 * Blocks are whole granules of 16 bytes. Beside its bytes a block costs 32
 * bytes of the store's metadata, and so does a free run between blocks, paid for
 * 4 KiB at a time and kept until the heap is closed.
 *
 * Every function may be called by any thread at any time, except where it says
 * otherwise. Who frees a block while others use it harms that block only, or
 * the one that comes after it in its place.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_HEAP_H
#define PAGESTEP_HEAP_H

#include "pagestep/store.h"

typedef struct pgs_heap pgs_heap;

enum pgs_heap_kind {
    PGS_HEAP_PAGED = 0,
    PGS_HEAP_NONPAGED = 1
};

struct pgs_heap_params {
    uint32_t struct_size;   /* sizeof(struct pgs_heap_params) */
    uint32_t kind;          /* enum pgs_heap_kind */
    uint64_t size_bytes;    /* rounded up to pages; less than 64 GiB */
    uint32_t level;         /* of a paged heap's pages; not PGS_LEVEL_PINNED */
    uint32_t block_reserve; /* so many blocks never need RAM to be found when they
                               are allocated */
    const pgs_codec *codec; /* of a paged heap's pages, as in pgs_object_add; or NULL */
};

struct pgs_heap_block {
    uint64_t offset_bytes; /* from the heap's first byte */
    uint64_t size_bytes;   /* as it was asked for */
};

struct pgs_heap_stats {
    uint64_t size_bytes;     /* the heap's */
    uint64_t block_count;
    uint64_t used_bytes;     /* of blocks, as they were asked for */
    uint64_t used_bytes_max; /* the most they ever were */
    uint64_t free_bytes;     /* in free runs; what is missing is rounding, guards and
                                what is just being freed */
    uint64_t free_runs;
    uint64_t largest_bytes;  /* the largest block that could be had now */
    uint64_t metadata_bytes; /* of the store's, without a paged heap's page table */
    uint64_t allocations, frees, refusals; /* since it was opened */
};

/* Opens a heap. A non-paged one takes all its RAM here (it counts as the
 * store's metadata), or none: PGS_E_BUDGET. At least the store's fewest frames
 * remain, beside those that are pinned. Errors as well: PGS_E_INVALID,
 * PGS_E_NOMEM. On error *heap_ret is NULL. */
int pgs_heap_open(pgs_store *store, const struct pgs_heap_params *params, pgs_heap **heap_ret);

/* Closes a heap with all its blocks; addresses of them must not be used
 * afterwards. No other call on it may be under way. PGS_E_PINNED where one of its
 * pages is pinned: it stays open. NULL is accepted. A store that is closed
 * closes its heaps first; they must not be used afterwards, nor closed. */
int pgs_heap_close(pgs_heap *heap);

/* The number of a paged heap's object, for levels and moves of its pages;
 * UINT32_MAX of a non-paged one. */
uint32_t pgs_heap_object(const pgs_heap *heap);

/* Allocates a block of 1 byte to the heap's size, that begins at a multiple of
 * align_bytes: a power of two up to the page size; 16 for less. Which bytes it
 * holds is not specified. *block_ret is its handle, never 0. Needs O(log n) steps,
 * with more than 16 as alignment one more for each free run whose size lies
 * between size_bytes and size_bytes + align_bytes. Errors: PGS_E_INVALID (size 0,
 * more than the heap could ever hold, no such alignment), PGS_E_HEAP_EXHAUSTED (no
 * free run can hold it), PGS_E_BUDGET (no RAM for its 32 bytes of metadata),
 * PGS_E_ATOMIC and PGS_E_REENTRY (RAM for them may have to be found, where that must
 * not be waited for: block_reserve has it ready). */
int pgs_heap_alloc(pgs_heap *heap, uint64_t size_bytes, uint32_t align_bytes, uint64_t *block_ret);

/* Frees a block. Pages that are free from end to end afterwards take no RAM
 * (pgs_forget), but for those freed in an atomic section or by the pager, which keep it
 * until their place is freed another time; of a non-paged heap the block's bytes are overwritten with
 * 0xDD. Nothing is changed by an error: PGS_E_HEAP_DOUBLE_FREE,
 * PGS_E_HEAP_NOT_A_BLOCK, and PGS_E_HEAP_OVERRUN where bytes behind the block
 * were written through its address. A handle is told from those that come
 * after it in its place until there were 2^32 of them. */
int pgs_heap_free(pgs_heap *heap, uint64_t block);

/* Reads or writes bytes of a block. Errors: PGS_E_HEAP_NOT_A_BLOCK,
 * PGS_E_HEAP_USE_AFTER_FREE, PGS_E_HEAP_OVERRUN (they do not lie in the block;
 * nothing is read or written); of a paged heap those of pgs_read with
 * PGS_READ_INTO_FRAME and of pgs_write, for a page: bytes before that page are
 * read or written by then. */
int pgs_heap_read(pgs_heap *heap, uint64_t block, uint64_t offset, void *out, uint64_t size);
int pgs_heap_write(pgs_heap *heap, uint64_t block, uint64_t offset, const void *in, uint64_t size);

/* Says where a block lies. Errors: PGS_E_HEAP_NOT_A_BLOCK, PGS_E_HEAP_USE_AFTER_FREE. */
int pgs_heap_block(pgs_heap *heap, uint64_t block, struct pgs_heap_block *block_ret);

/* Gives the address of a block of a non-paged heap, valid until it is freed.
 * Errors as well: PGS_E_UNSUPPORTED (the heap is paged). */
int pgs_heap_address(pgs_heap *heap, uint64_t block, void **address_ret);

/* Looks through a non-paged heap for bytes that were written through addresses
 * and should not have been: behind a block (PGS_E_HEAP_OVERRUN, *block_ret its
 * handle) or in free memory (PGS_E_HEAP_USE_AFTER_FREE, *block_ret 0). The first
 * lies *offset_ret bytes from the heap's first. Other calls wait meanwhile. Of a
 * paged heap there is nothing to look for: 0. */
int pgs_heap_check(pgs_heap *heap, uint64_t *block_ret, uint64_t *offset_ret);

/* Takes a snapshot of the heap's statistics. */
void pgs_heap_stats(pgs_heap *heap, struct pgs_heap_stats *stats_ret);

#endif
