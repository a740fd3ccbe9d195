/* SPDX-License-Identifier: MIT
 *
 * Dictionaries for pages.
 *
 * A good dictionary covers what many pages share. Strings of GRAM bytes stand
 * for that: each is worth the number of pages that have it, and is covered
 * once a chosen segment has it. The next segment is always the one whose
 * uncovered grams are worth most. Since that can only fall, segments wait in
 * a heap under what they were worth when last looked at, and only the topmost
 * is looked at again ("lazy greedy"; the choice is that of the plain greedy).
 * More than wanted is chosen, then pages are matched against it, and what
 * pages other than a byte's own use least is dropped.
 *
 * Everything is counted in integers, so that the result is the same on every
 * machine. Sizes were chosen on two kernels: see docs/decisions.
 */
#include "pagestep/codec.h"
#include "pagestep/error.h"

#include "le.h"

#include <stdlib.h>
#include <string.h>
#include <zdict.h>
#include <zstd.h>

enum {
    GRAM = 6,
    GRAM_LOAD = 8, /* bytes that are read to get one */
    SEGMENT = 64,
    STEP = 64,       /* from one candidate to the next */
    PAGES_MIN = 3,   /* what fewer pages share is worth nothing */
    POOL_PERCENT = 140, /* of the wanted size, chosen before the least used goes */
    TABLE_BITS_MIN = 16,
    TABLE_BITS_MAX = 25,
    TABLES_LEVEL = 19
};

/* A table entry: pages counted, the last page, and whether it is covered. */
enum { COUNT_SHIFT = 16, COUNT_MAX = 65535, PAGE_MASK = 0xfffe, COVERED = 1 };

struct segment {
    uint32_t worth;
    uint32_t step_no; /* where it begins, in units of STEP */
};

/* Chosen segments that touch. */
struct run {
    uint32_t worth; /* of the best of them */
    uint32_t step_no, step_count;
};

struct trainer {
    const unsigned char *pages;
    size_t page_count;
    uint32_t page_size;

    uint32_t *table; /* hashed grams */
    int table_bits;
    struct segment *heap;
    size_t heap_size;

    struct run *runs;
    size_t run_count;

    unsigned char *pool; /* chosen bytes, */
    uint32_t *origin;    /* the page each is from, */
    uint64_t *use;       /* and how much the other pages use it */
    size_t pool_size;
};

static inline uint32_t *entry_of(const struct trainer *t, const unsigned char *gram)
{
    uint64_t key = pgs_load_le64(gram) << (64 - 8 * GRAM);
    return &t->table[(key * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - t->table_bits)];
}

static void count_grams(struct trainer *t)
{
    size_t page_no, i;

    for (page_no = 0; page_no < t->page_count; page_no++) {
        const unsigned char *page = t->pages + page_no * t->page_size;
        uint32_t tag = ((uint32_t)page_no << 1) & PAGE_MASK;
        for (i = 0; i + GRAM_LOAD <= t->page_size; i++) {
            uint32_t *entry = entry_of(t, page + i);
            uint32_t count = *entry >> COUNT_SHIFT;
            if (count != 0 && (*entry & PAGE_MASK) == tag)
                continue;
            *entry = (count < COUNT_MAX ? count + 1 : count) << COUNT_SHIFT | tag;
        }
    }
}

static uint32_t worth_of(const struct trainer *t, uint32_t step_no)
{
    const unsigned char *at = t->pages + (size_t)step_no * STEP;
    uint32_t worth = 0;
    unsigned i;

    for (i = 0; i + GRAM <= SEGMENT; i++) {
        uint32_t entry = *entry_of(t, at + i);
        uint32_t count = entry >> COUNT_SHIFT;
        if (count >= PAGES_MIN && (entry & COVERED) == 0)
            worth += count - 1; /* its own page does not gain */
    }
    return worth;
}

static int is_better(const struct segment *a, const struct segment *b)
{
    return a->worth != b->worth ? a->worth > b->worth : a->step_no < b->step_no;
}

static void sink(struct trainer *t, size_t at)
{
    struct segment moved = t->heap[at];
    size_t child;

    while ((child = 2 * at + 1) < t->heap_size) {
        if (child + 1 < t->heap_size && is_better(&t->heap[child + 1], &t->heap[child]))
            child++;
        if (!is_better(&t->heap[child], &moved))
            break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    t->heap[at] = moved;
}

static void fill_heap(struct trainer *t)
{
    size_t page_no, i;

    for (page_no = 0; page_no < t->page_count; page_no++) {
        for (i = 0; i + SEGMENT + GRAM_LOAD <= t->page_size; i += STEP) {
            uint32_t step_no = (uint32_t)((page_no * t->page_size + i) / STEP);
            uint32_t worth = worth_of(t, step_no);
            if (worth != 0)
                t->heap[t->heap_size++] = (struct segment){worth, step_no};
        }
    }
    for (i = t->heap_size / 2; i-- > 0;)
        sink(t, i);
}

static void pick_segments(struct trainer *t, size_t segment_max)
{
    enum { STEPS = SEGMENT / STEP };

    while (t->heap_size > 0 && t->run_count < segment_max) {
        struct segment *top = &t->heap[0];
        uint32_t worth = worth_of(t, top->step_no);
        if (worth == top->worth) {
            const unsigned char *at = t->pages + (size_t)top->step_no * STEP;
            unsigned i;
            t->runs[t->run_count++] = (struct run){worth, top->step_no, STEPS};
            for (i = 0; i + GRAM <= SEGMENT; i++)
                *entry_of(t, at + i) |= COVERED;
            worth = 0;
        }
        top->worth = worth;
        if (worth == 0)
            *top = t->heap[--t->heap_size];
        sink(t, 0);
    }
}

static int by_place(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    return x->step_no < y->step_no ? -1 : x->step_no > y->step_no;
}

static int by_worth(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    if (x->worth != y->worth)
        return x->worth < y->worth ? -1 : 1;
    return by_place(a, b);
}

/* Lays the segments out, the best last: what is nearest to a page costs zstd
 * the fewest bits to point at. What touches stays together. */
static void lay_out(struct trainer *t)
{
    size_t i, j, count = 0;

    qsort(t->runs, t->run_count, sizeof(*t->runs), by_place);
    for (i = 0; i < t->run_count; i++) {
        const struct run *next = &t->runs[i];
        struct run *last = count > 0 ? &t->runs[count - 1] : NULL;
        if (last != NULL && next->step_no <= last->step_no + last->step_count) {
            last->step_count = next->step_no + next->step_count - last->step_no;
            last->worth = last->worth > next->worth ? last->worth : next->worth;
        } else {
            t->runs[count++] = *next;
        }
    }
    t->run_count = count;
    qsort(t->runs, count, sizeof(*t->runs), by_worth);
    for (i = 0; i < count; i++) {
        size_t at = (size_t)t->runs[i].step_no * STEP;
        size_t size = (size_t)t->runs[i].step_count * STEP;
        memcpy(t->pool + t->pool_size, t->pages + at, size);
        for (j = 0; j < size; j++)
            t->origin[t->pool_size++] = (uint32_t)((at + j) / t->page_size);
    }
}

/* Matches pages against the pool, to see which of its bytes are used: hash
 * chains over the pool, the last occurrence within the page, greedily. */
enum {
    MATCH_MIN = 5,      /* in the pool */
    MATCH_COST = 3,     /* bytes that a match takes itself */
    NEAR_MATCH_MIN = 4, /* in the page */
    TRIES_MAX = 16,
    POOL_HASH_BITS = 17,
    PAGE_HASH_BITS = 12,
    USE_UNIT = 256
};

struct matcher {
    uint32_t heads[1 << POOL_HASH_BITS]; /* position + 1; 0 is none */
    uint32_t near[1 << PAGE_HASH_BITS];
    uint32_t *chain;
};

static inline uint32_t pool_hash(const unsigned char *at)
{
    uint64_t key = pgs_load_le64(at) << (64 - 8 * MATCH_MIN);
    return (uint32_t)((key * UINT64_C(0xcf1bbcdcb7a56463)) >> (64 - POOL_HASH_BITS));
}

static inline uint32_t page_hash(const unsigned char *at)
{
    return (pgs_load_le32(at) * UINT32_C(2654435761)) >> (32 - PAGE_HASH_BITS);
}

static size_t match_length(const unsigned char *a, const unsigned char *b, size_t max)
{
    size_t length = 0;

    while (length < max && a[length] == b[length])
        length++;
    return length;
}

struct found {
    size_t length, at;
};

/* The longest match in what the pool has from other pages. */
static struct found find_in_pool(const struct trainer *t, const struct matcher *m, size_t page_no,
                                 const unsigned char *at, size_t max)
{
    struct found best = {0, 0};
    uint32_t next = m->heads[pool_hash(at)];
    int tries;

    for (tries = 0; next != 0 && tries < TRIES_MAX; tries++, next = m->chain[next - 1]) {
        size_t candidate = next - 1;
        size_t room = t->pool_size - candidate < max ? t->pool_size - candidate : max;
        size_t length;
        if (t->origin[candidate] == page_no)
            continue;
        length = match_length(t->pool + candidate, at, room);
        if (length >= MATCH_MIN && length > best.length)
            best = (struct found){length, candidate};
    }
    return best;
}

/* Adds what a page uses; `use` takes the differences from byte to byte. */
static void match_page(struct trainer *t, struct matcher *m, size_t page_no)
{
    const unsigned char *page = t->pages + page_no * t->page_size;
    size_t i = 0;

    memset(m->near, 0, sizeof(m->near));
    while (i + GRAM_LOAD <= t->page_size) {
        size_t max = t->page_size - i, length = 0, j;
        struct found found = find_in_pool(t, m, page_no, page + i, max);
        uint32_t *near = &m->near[page_hash(page + i)];
        if (*near != 0)
            length = match_length(page + *near - 1, page + i, max);
        *near = (uint32_t)i + 1;
        if (length < NEAR_MATCH_MIN)
            length = 0;
        if (found.length > length) {
            uint64_t gain = (found.length - MATCH_COST) * USE_UNIT / found.length;
            t->use[found.at] += gain;
            t->use[found.at + found.length] -= gain;
            length = found.length;
        }
        for (j = 1; j < length && i + j + 4 <= t->page_size; j++)
            m->near[page_hash(page + i + j)] = (uint32_t)(i + j) + 1;
        i += length != 0 ? length : 1;
    }
}

static int measure_use(struct trainer *t)
{
    struct matcher *m = calloc(1, sizeof(*m));
    size_t i;

    if (m == NULL)
        return PGS_E_NOMEM;
    m->chain = calloc(t->pool_size, sizeof(*m->chain));
    if (m->chain == NULL) {
        free(m);
        return PGS_E_NOMEM;
    }
    for (i = 0; i + GRAM_LOAD <= t->pool_size; i++) {
        uint32_t *head = &m->heads[pool_hash(t->pool + i)];
        m->chain[i] = *head;
        *head = (uint32_t)i + 1;
    }
    for (i = 0; i < t->page_count; i++)
        match_page(t, m, i);
    for (i = 1; i < t->pool_size; i++)
        t->use[i] += t->use[i - 1];
    free(m->chain);
    free(m);
    return PGS_OK;
}

/* The use of a byte and of its neighbours: a hole of one byte helps nobody. */
static uint64_t use_around(const struct trainer *t, size_t at)
{
    enum { AROUND = 4 };
    size_t from = at < AROUND ? 0 : at - AROUND;
    size_t to = at + AROUND < t->pool_size ? at + AROUND : t->pool_size - 1;
    uint64_t sum = 0;

    for (; from <= to; from++)
        sum += t->use[from];
    return sum;
}

static size_t count_above(const struct trainer *t, uint64_t limit)
{
    size_t i, count = 0;

    for (i = 0; i < t->pool_size; i++)
        count += use_around(t, i) > limit;
    return count;
}

/* Copies what is used most, in the order of the pool. */
static size_t keep_most_used(const struct trainer *t, unsigned char *dict, size_t dict_cap)
{
    uint64_t low = 0, high = 1; /* the smallest limit that leaves no more than dict_cap */
    size_t i, size = 0;

    if (count_above(t, 0) <= dict_cap) {
        high = 0;
    } else {
        while (count_above(t, high) > dict_cap) {
            low = high;
            high *= 2;
        }
        while (high - low > 1) {
            uint64_t middle = low + (high - low) / 2;
            if (count_above(t, middle) > dict_cap)
                low = middle;
            else
                high = middle;
        }
    }
    for (i = 0; i < t->pool_size; i++)
        if (use_around(t, i) > high)
            dict[size++] = t->pool[i];
    return size;
}

static void trainer_deinit(struct trainer *t)
{
    free(t->table);
    free(t->heap);
    free(t->runs);
    free(t->pool);
    free(t->origin);
    free(t->use);
}

static int trainer_init(struct trainer *t, size_t segment_max)
{
    size_t bytes = t->page_count * t->page_size;
    size_t pool_cap = segment_max * SEGMENT;

    t->table_bits = TABLE_BITS_MIN;
    while (t->table_bits < TABLE_BITS_MAX && (size_t)1 << t->table_bits < bytes)
        t->table_bits++;
    t->table = calloc((size_t)1 << t->table_bits, sizeof(*t->table));
    t->heap = malloc((bytes / STEP + 1) * sizeof(*t->heap));
    t->runs = malloc((segment_max + 1) * sizeof(*t->runs));
    t->pool = malloc(pool_cap + 1);
    t->origin = malloc((pool_cap + 1) * sizeof(*t->origin));
    t->use = calloc(pool_cap + 1, sizeof(*t->use));
    return t->table != NULL && t->heap != NULL && t->runs != NULL && t->pool != NULL &&
                   t->origin != NULL && t->use != NULL
               ? PGS_OK
               : PGS_E_NOMEM;
}

int pgs_dict_cover(const void *pages, size_t page_count, uint32_t page_size, void *dict,
                   size_t dict_cap, size_t *dict_size_ret)
{
    struct trainer t = {.pages = pages, .page_count = page_count, .page_size = page_size};
    size_t segment_max = dict_cap * POOL_PERCENT / 100 / SEGMENT + 1;
    int error;

    *dict_size_ret = 0;
    if (page_size < SEGMENT + GRAM_LOAD || page_size % STEP != 0 ||
        page_count > (size_t)UINT32_MAX * STEP / page_size || dict_cap > UINT32_MAX / 2)
        return PGS_E_INVALID;
    error = trainer_init(&t, segment_max);
    if (error == PGS_OK) {
        count_grams(&t);
        fill_heap(&t);
        pick_segments(&t, segment_max);
        lay_out(&t);
        if (t.pool_size > 0)
            error = measure_use(&t);
    }
    if (error == PGS_OK && t.pool_size > 0)
        *dict_size_ret = keep_most_used(&t, dict, dict_cap);
    trainer_deinit(&t);
    return error;
}

int pgs_dict_add_tables(const void *content, size_t content_size, const void *pages,
                        size_t page_count, uint32_t page_size, void *dict, size_t dict_cap,
                        size_t *dict_size_ret)
{
    ZDICT_params_t params = {.compressionLevel = TABLES_LEVEL, .dictID = 1};
    size_t *sizes, size, i;

    *dict_size_ret = 0;
    if (dict_cap < PGS_DICT_TABLES_MAX || content_size > dict_cap - PGS_DICT_TABLES_MAX ||
        content_size < PGS_DICT_TABLES_MAX || page_count == 0 || page_count > UINT32_MAX)
        return PGS_E_INVALID;
    sizes = malloc(page_count * sizeof(*sizes));
    if (sizes == NULL)
        return PGS_E_NOMEM;
    for (i = 0; i < page_count; i++)
        sizes[i] = page_size;
    size = ZDICT_finalizeDictionary(dict, dict_cap, content, content_size, pages, sizes,
                                    (unsigned)page_count, params);
    free(sizes);
    if (ZDICT_isError(size))
        return PGS_E_INVALID;
    *dict_size_ret = size;
    return PGS_OK;
}

size_t pgs_dict_tables_size(const void *dict, size_t dict_size)
{
    size_t size;

    if (dict_size < 8 || pgs_load_le32(dict) != ZSTD_MAGIC_DICTIONARY)
        return 0;
    size = ZDICT_getDictHeaderSize(dict, dict_size);
    return ZDICT_isError(size) ? 0 : size;
}
