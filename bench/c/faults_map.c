/* SPDX-License-Identifier: MIT
 *
 * Touches of a store's map. Each case is a store of its own, over the image in memory.
 */
#include "bench_faults.h"

#include <stdlib.h>
#include <string.h>

#include "pagestep/map.h"

enum { CASES_MAX = 8, LEVEL_TUNED = 12, DICTIONARY_BYTES = (1 << 16) - 1 };

struct map_case {
    const struct image *image;
    pgs_codec *codec;
    pgs_store *store;
    pgs_map *map;
    uint32_t object;
    unsigned char *base;
    uint64_t *all; /* numbers of all pages */
    int32_t *statuses;
    bool *chosen; /* of each page: it is about to be touched */
    struct pgs_map_stats before;
    struct pgs_stats store_before;
};

static struct {
    struct map_case *each[CASES_MAX];
    size_t count;
} cases;

/* The one place that knows how a map is had. */
static void open_map(struct map_case *c, uint32_t writes, uint32_t around)
{
    struct pgs_map_params params = {.struct_size = sizeof params, .writes = writes,
                                    .around = around};
    require(!pgs_map_open(c->store, c->object, &params, &c->map), "pgs_map_open");
    c->base = pgs_map_address(c->map);
}

static pgs_codec *tuned_codec(const struct image *image)
{
    unsigned char *dictionary = allocate(DICTIONARY_BYTES);
    size_t size = dictionary_train(image, PGS_FILTER_X86, false, dictionary, DICTIONARY_BYTES);
    pgs_codec *codec = codec_open(PGS_CODEC_LZ4, LEVEL_TUNED, PGS_FILTER_X86, dictionary, size);
    free(dictionary);
    return codec;
}

static struct map_case *open_case(const struct image *image, bool tuned)
{
    struct map_case *c = allocate(sizeof *c);
    struct pgs_store_params params = {.struct_size = sizeof params, .page_size = PAGE,
                                      .budget_bytes = image->page_count * PAGE * 3,
                                      .pool_percent = 100};
    struct pgs_backing backing;

    *c = (struct map_case){.image = image};
    c->codec = tuned ? tuned_codec(image)
                     : codec_open(PGS_CODEC_LZ4, 0, PGS_FILTER_NONE, NULL, 0);
    c->all = allocate(image->page_count * sizeof *c->all);
    c->statuses = allocate(image->page_count * sizeof *c->statuses);
    c->chosen = allocate(image->page_count * sizeof *c->chosen);
    for (size_t i = 0; i < image->page_count; i++)
        c->all[i] = i;
    require(!pgs_store_open(&params, &c->store), "pgs_store_open");
    require(!pgs_backing_memory(image->bytes, image->page_count * PAGE, PAGE, &backing),
            "pgs_backing_memory");
    require(!pgs_object_add(c->store, image->page_count, 0, &backing, c->codec, &c->object),
            "pgs_object_add");
    cases.each[cases.count++] = c;
    return c;
}

static void page_out(struct map_case *c, const uint64_t *page_nos, size_t count)
{
    require(!pgs_page_out(c->store, c->object, page_nos, count, c->statuses), "pgs_page_out");
}

static void note(struct map_case *c)
{
    pgs_map_stats(c->map, &c->before);
    require(!pgs_store_stats(c->store, &c->store_before), "pgs_store_stats");
}

/* All pages are in the pool. */
static void pack(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;

    (void)page_nos, (void)count;
    page_out(c, c->all, c->image->page_count);
    note(c);
    require(c->store_before.compressed_pages + c->store_before.same_pages == c->image->page_count,
            "pages are not in the pool");
}

/* All frames are full, and none has a page of those to be touched: each fault evicts. */
static void fill(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;

    page_out(c, page_nos, count);
    memset(c->chosen, 0, c->image->page_count * sizeof *c->chosen);
    for (size_t i = 0; i < count; i++)
        c->chosen[page_nos[i]] = true;
    for (size_t i = 0; i < c->image->distinct_count; i++)
        if (!c->chosen[c->image->distinct[i]])
            (void)*(volatile unsigned char *)(c->base + c->image->distinct[i] * PAGE);
    note(c);
}

/* All pages are in frames, and none is mapped. */
static void detach(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;

    (void)page_nos, (void)count;
    require(!pgs_map_prefetch(c->map, 0, c->image->page_count, 0, NULL), "pgs_map_prefetch");
    require(!pgs_map_detach(c->map, 0, c->image->page_count), "pgs_map_detach");
    note(c);
}

/* All pages are mapped and clean. */
static void make_clean(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;

    (void)page_nos, (void)count;
    page_out(c, c->all, c->image->page_count);
    require(!pgs_map_prefetch(c->map, 0, c->image->page_count, 0, NULL), "pgs_map_prefetch");
    note(c);
}

static void require_most(uint64_t now, uint64_t before, size_t count, const char *what)
{
    require((now - before) * 100 >= count * 95, what);
}

static void check_faults(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;
    struct pgs_map_stats now;

    (void)page_nos;
    pgs_map_stats(c->map, &now);
    require_most(now.faults, c->before.faults, count, "touches of a map were no faults");
}

static void check_evictions(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;
    struct pgs_stats now;

    check_faults(ctx, page_nos, count);
    require(!pgs_store_stats(c->store, &now), "pgs_store_stats");
    require_most(now.page_outs, c->store_before.page_outs, count, "faults evicted nothing");
    require_most(now.faults[PGS_SOURCE_COMPRESSED],
                 c->store_before.faults[PGS_SOURCE_COMPRESSED], count,
                 "pages did not come from the pool");
}

static void check_attaches(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;
    struct pgs_map_stats now;

    (void)page_nos;
    pgs_map_stats(c->map, &now);
    require_most(now.attaches, c->before.attaches, count, "touches did not find pages in RAM");
    require(now.faults == c->before.faults, "pages had left RAM");
}

static void check_writes(void *ctx, const uint64_t *page_nos, size_t count)
{
    struct map_case *c = ctx;
    struct pgs_map_stats now;

    (void)page_nos;
    pgs_map_stats(c->map, &now);
    require(now.faults == c->before.faults, "writes met pages that had left RAM");
    if (now.writes == PGS_MAP_WRITES_FAULT)
        require_most(now.write_faults, c->before.write_faults, count, "writes did not fault");
}

/* Room for all pages in the pool, and for a third of them in frames. */
static struct map_case *open_small(const struct image *image)
{
    struct map_case *c = open_case(image, false);
    struct pgs_stats stats;

    page_out(c, c->all, image->page_count);
    require(!pgs_store_stats(c->store, &stats), "pgs_store_stats");
    require(!pgs_store_set_budget(c->store, stats.pool_bytes + stats.metadata_bytes
                                                + image->page_count / 3 * PAGE),
            "pgs_store_set_budget");
    open_map(c, PGS_MAP_READ_ONLY, 1);
    return c;
}

size_t map_kinds(const struct image *image, struct kind *kinds)
{
    struct map_case *opened = open_case(image, false), *single = open_case(image, false);
    struct map_case *tuned = open_case(image, true), *small = open_small(image);
    struct map_case *noted = open_case(image, false), *faulted = open_case(image, false);
    size_t count = 0;

    open_map(opened, PGS_MAP_READ_ONLY, 0);
    open_map(single, PGS_MAP_READ_ONLY, 1);
    open_map(tuned, PGS_MAP_READ_ONLY, 1);
    open_map(noted, PGS_MAP_WRITES_AUTO, 1);
    open_map(faulted, PGS_MAP_WRITES_FAULT, 1);
    const struct kind made[] = {
        {"random", "map, one page a fault", 0, false, single, pack, check_faults, NULL},
        {"random", "map, as it opens", 0, false, opened, pack, check_faults, NULL},
        {"random", "map, writable", 0, false, noted, pack, check_faults, NULL},
        {"random", "map, HC 12 + filter + dictionary", 0, false, tuned, pack, check_faults,
         NULL},
        {"random", "map, each fault evicts", 0, false, small, fill, check_evictions, NULL},
        {"run", "map, as it opens", RUN_PAGES, false, opened, pack, NULL, NULL},
        {"scan", "map, as it opens", image->page_count, false, opened, pack, NULL, NULL},
        {"in RAM", "map, page not mapped", 0, false, single, detach, check_attaches, NULL},
        {"in RAM", "map, first write, as it opens", 0, true, noted, make_clean, check_writes,
         NULL},
        {"in RAM", "map, first write, by a fault", 0, true, faulted, make_clean,
         check_writes, NULL},
    };
    for (; count < sizeof made / sizeof *made; count++) {
        kinds[count] = made[count];
        kinds[count].base = ((struct map_case *)made[count].ctx)->base;
    }
    return count;
}

void map_end(void)
{
    for (size_t i = 0; i < cases.count; i++) {
        struct map_case *c = cases.each[i];
        require(!memcmp(c->base, c->image->bytes, c->image->page_count * PAGE),
                "a map has other bytes than the image");
        pgs_map_close(c->map);
        pgs_store_close(c->store);
        pgs_codec_close(c->codec);
        free(c->all);
        free(c->statuses);
        free(c->chosen);
        free(c);
    }
    cases.count = 0;
}
