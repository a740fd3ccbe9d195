/* SPDX-License-Identifier: MIT
 *
 * A store whose object is mapped, in every way that this kernel has.
 */
#ifndef PGS_MAP_FIXTURE_H
#define PGS_MAP_FIXTURE_H

#include "pagestep/map.h"
#include "store/map_internal.h"
#include "store_fixture.h"

/* A way to map: who serves, and how writes are known of. */
struct way {
    const char *name;
    uint32_t service, writes;
    int old; /* as kernels before Linux 6.4 have it */
};

static const struct way ways[] = {
    {"sigbus, read only", PGS_MAP_SIGBUS, PGS_MAP_READ_ONLY, 0},
    {"sigbus, writes fault", PGS_MAP_SIGBUS, PGS_MAP_WRITES_FAULT, 0},
    {"sigbus, writes noted", PGS_MAP_SIGBUS, PGS_MAP_WRITES_NOTED, 0},
    {"thread, read only", PGS_MAP_THREAD, PGS_MAP_READ_ONLY, 0},
    {"thread, writes fault", PGS_MAP_THREAD, PGS_MAP_WRITES_FAULT, 0},
    {"thread, writes noted", PGS_MAP_THREAD, PGS_MAP_WRITES_NOTED, 0},
    {"sigbus, writes fault, old", PGS_MAP_SIGBUS, PGS_MAP_WRITES_FAULT, 1},
};
enum { WAYS = sizeof ways / sizeof *ways };

static inline int is_writable(const struct way *way)
{
    return way->writes != PGS_MAP_READ_ONLY;
}

/* Whether this kernel and process have it; what they lack is said. */
static inline int has_way(const struct way *way)
{
    struct pgs_map_support has;
    pgs_map_probe(&has);
    uint32_t sigbus = is_writable(way) ? has.by_sigbus_for_writes : has.by_sigbus;
    int can = !has.system_error && !has.missing &&
              (way->service == PGS_MAP_SIGBUS ? sigbus : has.by_thread) &&
              (way->writes != PGS_MAP_WRITES_NOTED || has.notes_writes);
    if (!can)
        fprintf(stderr, "not here: %s: %s\n", way->name,
                has.system_error ? strerror(has.system_error)
                                 : (has.missing ? has.missing : "not in this kernel"));
    return can;
}

static inline void in_every_way(void (*test)(const struct way *way))
{
    for (int i = 0; i < WAYS; i++) {
        if (!has_way(&ways[i]))
            continue;
        fprintf(stderr, "%s\n", ways[i].name);
        test(&ways[i]);
    }
}

/* Opens a map in this way; `around`: see pgs_map_params. */
static inline int map_open_in(pgs_store *store, uint32_t object, const struct way *way,
                              uint32_t around, pgs_map **map_ret)
{
    struct pgs_map_params params = {.struct_size = sizeof params, .service = way->service,
                                    .writes = way->writes, .around = around};
    int error = pgs_map_open(store, object, &params, map_ret);
    if (!error && way->old)
        (*map_ret)->range.marks_when_attached = false;
    return error;
}

static inline pgs_map *map_of(const struct fixture *fixture, uint32_t object,
                              const struct way *way)
{
    pgs_map *map;
    CHECK_EQ(map_open_in(fixture->store, object, way, 0, &map), PGS_OK);
    return map;
}

/* A store with anonymous memory, which can be forked, and a page that is nobody's matter. */
static inline uint32_t fixture_open_memory(struct fixture *fixture, uint64_t page_count,
                                           uint64_t budget_bytes)
{
    struct fixture_options options = {.page_count = 1, .budget_bytes = budget_bytes,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 40,
                                      .anonymous = 1};
    uint32_t object;
    CHECK_EQ(fixture_open(fixture, &options), PGS_OK);
    CHECK_EQ(pgs_anonymous_add(fixture->store, page_count, PGS_LEVEL_NORMAL, NULL,
                               fixture->codec, &object), PGS_OK);
    return object;
}

static inline struct pgs_map_stats stats_of(pgs_map *map)
{
    struct pgs_map_stats stats;
    pgs_map_stats(map, &stats);
    return stats;
}

#endif
