/* SPDX-License-Identifier: MIT
 *
 * Free runs stand in a treap (Seidel and Aragon, "Randomized search trees",
 * 1996), whose priorities are the records' numbers, scrambled: taking and
 * freeing cost O(log n) steps as expected, and no record more.
 */
#include "store/heap_runs.h"

#include <sys/mman.h>

static uint32_t priority(uint32_t run)
{
    uint32_t mixed = (run + 1) * 0x9E3779B1u;
    mixed = (mixed ^ mixed >> 15) * 0x85EBCA6Bu;
    return mixed ^ mixed >> 13;
}

/* Whether run a stands before `length` and `start` in the tree. */
static bool stands_before(const struct run *a, uint32_t length, uint32_t start)
{
    return a->length < length || (a->length == length && a->start < start);
}

static void tree_insert(struct runs *runs, uint32_t run)
{
    struct run *table = runs->table, *new = &table[run];
    uint32_t *link = &runs->root;
    while (*link != NO_RUN && priority(*link) > priority(run)) {
        struct run *at = &table[*link];
        link = stands_before(at, new->length, new->start) ? &at->right : &at->left;
    }
    /* What stood there is split into what stands before it and what behind. */
    uint32_t rest = *link, *before = &new->left, *behind = &new->right;
    *link = run;
    while (rest != NO_RUN) {
        struct run *at = &table[rest];
        if (stands_before(at, new->length, new->start)) {
            *before = rest;
            before = &at->right;
            rest = at->right;
        } else {
            *behind = rest;
            behind = &at->left;
            rest = at->left;
        }
    }
    *before = *behind = NO_RUN;
}

static void tree_remove(struct runs *runs, uint32_t run)
{
    struct run *table = runs->table, *old = &table[run];
    uint32_t *link = &runs->root;
    while (*link != run) {
        struct run *at = &table[*link];
        link = stands_before(at, old->length, old->start) ? &at->right : &at->left;
    }
    uint32_t before = old->left, behind = old->right;
    while (before != NO_RUN && behind != NO_RUN) {
        if (priority(before) > priority(behind)) {
            *link = before;
            link = &table[before].right;
            before = *link;
        } else {
            *link = behind;
            link = &table[behind].left;
            behind = *link;
        }
    }
    *link = before != NO_RUN ? before : behind;
}

/* The first in the tree's order that does not stand before `length` and `start`. */
static uint32_t tree_find(const struct runs *runs, uint32_t length, uint32_t start)
{
    uint32_t found = NO_RUN, at = runs->root;
    while (at != NO_RUN) {
        const struct run *run = &runs->table[at];
        if (stands_before(run, length, start)) {
            at = run->right;
        } else {
            found = at;
            at = run->left;
        }
    }
    return found;
}

bool runs_init(struct runs *runs, uint32_t granules)
{
    uint64_t records = (uint64_t)granules + RUNS_SPLIT;
    *runs = (struct runs){.root = NO_RUN, .spare = NO_RUN};
    runs->table_bytes = (records + RUNS_STEP - 1) / RUNS_STEP * RUNS_STEP * RUN_BYTES;
    void *table = mmap(NULL, runs->table_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED)
        return false;
    runs->table = table;
    /* A huge page would be RAM that nobody has charged. */
    madvise(table, runs->table_bytes, MADV_NOHUGEPAGE);
    return true;
}

void runs_deinit(struct runs *runs)
{
    if (runs->table)
        munmap(runs->table, runs->table_bytes);
}

static uint32_t record_take(struct runs *runs)
{
    uint32_t run = runs->spare;
    if (run == NO_RUN) {
        run = runs->fresh++;
        runs->table[run].generation = 1;
    } else {
        runs->spare = runs->table[run].next;
        runs->spare_count--;
    }
    return run;
}

static void record_give(struct runs *runs, uint32_t run)
{
    runs->table[run].state = RUN_SPARE;
    runs->table[run].next = runs->spare;
    runs->spare = run;
    runs->spare_count++;
}

void runs_start(struct runs *runs, uint32_t granules)
{
    uint32_t all = record_take(runs);
    struct run *run = &runs->table[all];
    run->start = 0;
    run->length = granules;
    run->prev = run->next = NO_RUN;
    runs_put(runs, all);
}

bool runs_short(const struct runs *runs)
{
    return runs->ready - runs->fresh + runs->spare_count < RUNS_SPLIT;
}

static void link_neighbours(struct runs *runs, uint32_t run)
{
    const struct run *at = &runs->table[run];
    if (at->prev != NO_RUN)
        runs->table[at->prev].next = run;
    if (at->next != NO_RUN)
        runs->table[at->next].prev = run;
}

/* Cuts a run, which is in no tree, after `length` granules; the rest is free. */
static void cut(struct runs *runs, uint32_t run, uint32_t length)
{
    uint32_t rest = record_take(runs);
    struct run *front = &runs->table[run], *back = &runs->table[rest];
    back->start = front->start + length;
    back->length = front->length - length;
    back->prev = run;
    back->next = front->next;
    front->length = length;
    link_neighbours(runs, rest);
    runs_put(runs, rest);
}

static void unput(struct runs *runs, uint32_t run)
{
    tree_remove(runs, run);
    runs->free_granules -= runs->table[run].length;
    runs->free_count--;
}

static uint32_t padding_of(const struct run *run, uint32_t align)
{
    uint32_t over = run->start % align;
    return over ? align - over : 0;
}

uint32_t runs_take(struct runs *runs, uint32_t length, uint32_t align)
{
    struct run *table = runs->table;
    uint32_t run = tree_find(runs, length, 0);
    /* A run longer by `align` holds it wherever it begins: this ends there. */
    while (run != NO_RUN && padding_of(&table[run], align) > table[run].length - length)
        run = tree_find(runs, table[run].length, table[run].start + 1);
    if (run == NO_RUN)
        return NO_RUN;
    uint32_t padding = padding_of(&table[run], align);
    unput(runs, run);
    if (padding) {
        cut(runs, run, padding);
        uint32_t taken = table[run].next;
        unput(runs, taken);
        runs_put(runs, run);
        run = taken;
    }
    if (table[run].length > length)
        cut(runs, run, length);
    table[run].state = RUN_USED;
    return run;
}

static bool is_free(const struct runs *runs, uint32_t run)
{
    return run != NO_RUN && runs->table[run].state == RUN_FREE;
}

void runs_join(struct runs *runs, uint32_t run)
{
    struct run *at = &runs->table[run];
    uint32_t prev = at->prev, next = at->next;
    if (is_free(runs, prev)) {
        unput(runs, prev);
        at->start = runs->table[prev].start;
        at->length += runs->table[prev].length;
        at->prev = runs->table[prev].prev;
        record_give(runs, prev);
    }
    if (is_free(runs, next)) {
        unput(runs, next);
        at->length += runs->table[next].length;
        at->next = runs->table[next].next;
        record_give(runs, next);
    }
    link_neighbours(runs, run);
}

void runs_put(struct runs *runs, uint32_t run)
{
    struct run *at = &runs->table[run];
    at->state = RUN_FREE;
    runs->free_granules += at->length;
    runs->free_count++;
    tree_insert(runs, run);
}

uint32_t runs_longest(const struct runs *runs)
{
    uint32_t at = runs->root;
    while (at != NO_RUN && runs->table[at].right != NO_RUN)
        at = runs->table[at].right;
    return at == NO_RUN ? 0 : runs->table[at].length;
}
