/* SPDX-License-Identifier: MIT
 *
 * A store over a fake image, and bytes like a kernel's: some pages zero, some
 * text-like, some that do not shrink.
 */
#ifndef PGS_STORE_FIXTURE_H
#define PGS_STORE_FIXTURE_H

#include "check.h"
#include "fake_backing.h"

struct fixture {
    struct fake fake;
    unsigned char *shadow; /* what the object must hold */
    pgs_codec *codec, *balanced;
    pgs_store *store;
    uint32_t object;
    uint32_t page_size;
    uint64_t page_count;
};

static inline void fixture_fill_page(unsigned char *page, uint32_t size, struct noise *noise)
{
    uint32_t kind = noise_word(noise) % 10;
    if (kind < 2) {
        memset(page, (int)(kind * 0xCC), size);
    } else if (kind < 3) {
        for (uint32_t i = 0; i < size; i++)
            page[i] = (unsigned char)noise_word(noise);
    } else {
        /* Words of a small vocabulary, which differs from page to page. */
        uint64_t first = noise_next(noise), spread = 3 + noise_word(noise) % 60;
        for (uint32_t i = 0; i < size; i += 8) {
            uint64_t word = (first + noise_word(noise) % spread) * 0x9E3779B97F4A7C15u;
            memcpy(page + i, &word, 8);
        }
    }
}

struct fixture_options {
    uint32_t page_size, codec_id, policy, pool_percent, flags;
    uint64_t page_count, budget_bytes;
    int writable, anonymous, balanced; /* balanced: a zstd codec as well */
};

static inline int fixture_open(struct fixture *fixture, const struct fixture_options *options)
{
    struct noise noise = noise_seeded();
    uint32_t size = options->page_size ? options->page_size : 4096;
    memset(fixture, 0, sizeof *fixture);
    fixture->page_size = size;
    fixture->page_count = options->page_count;
    fixture->shadow = calloc(options->page_count, size);
    fixture->fake.bytes = calloc(options->page_count, size);
    fixture->fake.page_size = size;
    fixture->fake.page_count = options->page_count;
    for (uint64_t i = 0; !options->anonymous && i < options->page_count; i++)
        fixture_fill_page(fixture->shadow + i * size, size, &noise);
    memcpy(fixture->fake.bytes, fixture->shadow, options->page_count * size);
    struct pgs_codec_params codec = {.struct_size = sizeof codec, .page_size = size, .level = -1,
                                     .codec_id = options->codec_id,
                                     .filter_id = PGS_FILTER_X86};
    if (options->codec_id)
        CHECK(pgs_codec_open(&codec, &fixture->codec) == PGS_OK);
    /* The tests run a second time under the verifier (meson.build). */
    uint32_t verify = getenv("PGS_TEST_VERIFY") ? PGS_STORE_VERIFY : 0;
    struct pgs_store_params params = {.struct_size = sizeof params, .page_size = size,
                                      .budget_bytes = options->budget_bytes,
                                      .policy = options->policy, .flags = options->flags | verify,
                                      .pool_percent = options->pool_percent};
    int error = pgs_store_open(&params, &fixture->store);
    if (error)
        return error;
    struct pgs_backing backing = fake_backing(&fixture->fake, options->writable);
    error = pgs_object_add(fixture->store, options->page_count, 0xffffffff81000000u,
                           options->anonymous ? NULL : &backing, fixture->codec, &fixture->object);
    if (error || !options->balanced)
        return error;
    codec.codec_id = PGS_CODEC_ZSTD;
    CHECK(pgs_codec_open(&codec, &fixture->balanced) == PGS_OK);
    return pgs_object_add_codec(fixture->store, fixture->object, fixture->balanced);
}

static inline void fixture_close(struct fixture *fixture)
{
    pgs_store_close(fixture->store);
    pgs_codec_close(fixture->codec);
    pgs_codec_close(fixture->balanced);
    free(fixture->shadow);
    free(fixture->fake.bytes);
}

static inline struct pgs_stats fixture_stats(const struct fixture *fixture)
{
    struct pgs_stats stats;
    pgs_store_stats(fixture->store, &stats);
    return stats;
}

static inline unsigned char *fixture_shadow(const struct fixture *fixture, uint64_t page_no)
{
    return fixture->shadow + page_no * fixture->page_size;
}

/* Treats a run of pages alike. */
static inline int fixture_treat(const struct fixture *fixture, uint64_t first, uint64_t count,
                                uint8_t treatment)
{
    uint64_t *page_nos = malloc((count + 1) * sizeof *page_nos);
    uint8_t *treatments = malloc(count + 1);
    for (uint64_t i = 0; i < count; i++)
        page_nos[i] = first + i;
    memset(treatments, treatment, count);
    int error = pgs_treat(fixture->store, fixture->object, page_nos, treatments, count);
    free(page_nos);
    free(treatments);
    return error;
}

/* Reads a page and compares it with the shadow. */
static inline void fixture_check_page(const struct fixture *fixture, uint64_t page_no,
                                      uint32_t flags)
{
    unsigned char page[65536];
    int error = pgs_read(fixture->store, fixture->object, &page_no, 1, flags, page, NULL);
    CHECK(error == PGS_OK);
    CHECK(memcmp(page, fixture_shadow(fixture, page_no), fixture->page_size) == 0);
}

#endif
