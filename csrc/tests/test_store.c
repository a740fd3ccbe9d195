/* SPDX-License-Identifier: MIT
 *
 * What the store promises, one at a time.
 */
#include <fcntl.h>

#include "store/store_internal.h"
#include "store_fixture.h"

enum { PAGES = 400, KIB = 1024 };

static const struct fixture_options small = {
    .codec_id = PGS_CODEC_LZ4, .page_count = PAGES, .budget_bytes = 768 * KIB, .pool_percent = 50};

static int one(int (*move)(pgs_store *, uint32_t, const uint64_t *, size_t, int32_t *),
               const struct fixture *fixture, uint64_t page_no)
{
    return move(fixture->store, fixture->object, &page_no, 1, NULL);
}

static int write_one(const struct fixture *fixture, uint64_t page_no, const void *bytes)
{
    return pgs_write(fixture->store, fixture->object, &page_no, 1, bytes, NULL);
}

/* A page of the fixture that shrinks: neither same-filled nor noise. */
static uint64_t plain_page(const struct fixture *fixture, uint64_t from)
{
    pgs_coder *coder;
    unsigned char coded[4096];
    size_t size = 0;
    CHECK(pgs_coder_open(fixture->codec, 1, &coder) == PGS_OK);
    for (; size < 64; from++)
        CHECK(pgs_encode(coder, fixture_shadow(fixture, from), 0, coded, 4000, &size) == PGS_OK);
    pgs_coder_close(coder);
    return from - 1;
}

static void test_every_page_every_tier(uint32_t codec_id, uint32_t policy, uint32_t page_size)
{
    struct fixture_options options = small;
    struct fixture fixture;
    options.codec_id = codec_id;
    options.policy = policy;
    options.page_size = page_size;
    options.budget_bytes = 768 * KIB + (uint64_t)page_size * 60;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    for (int round = 0; round < 4; round++)
        for (uint64_t i = 0; i < PAGES; i++) {
            if (round == 1)
                CHECK(one(pgs_page_out, &fixture, i) == PGS_OK);
            if (round == 2)
                CHECK(one(pgs_discard, &fixture, i) == PGS_OK);
            fixture_check_page(&fixture, i, round == 3 ? PGS_READ_INTO_FRAME : PGS_READ_THROUGH);
        }
    struct pgs_stats stats = fixture_stats(&fixture);
    CHECK(stats.used_bytes_max <= stats.budget_bytes);
    CHECK(stats.used_bytes == stats.hot_bytes + stats.pool_bytes + stats.metadata_bytes);
    CHECK(stats.hot_pages + stats.compressed_pages + stats.same_pages + stats.absent_pages ==
          PAGES);
    CHECK(stats.dirty_pages == 0);
    fixture_close(&fixture);
    CHECK(fixture.fake.closes == 1);
}

/* Discard on demand: what is dirty is never discarded; what was changed back
 * is clean again, as its checksum shows. */
static void test_dirty_and_clean(void)
{
    struct fixture fixture;
    unsigned char page[4096];
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint64_t at = plain_page(&fixture, 0);
    memcpy(page, fixture_shadow(&fixture, at), sizeof page);
    page[7] ^= 1;
    CHECK(write_one(&fixture, at, page) == PGS_OK);
    CHECK(one(pgs_discard, &fixture, at) == PGS_E_DIRTY);
    CHECK(one(pgs_page_out, &fixture, at) == PGS_OK);
    CHECK(one(pgs_discard, &fixture, at) == PGS_E_DIRTY);
    CHECK(fixture_stats(&fixture).dirty_pages == 1);
    page[7] ^= 1;
    CHECK(write_one(&fixture, at, page) == PGS_OK);
    CHECK(one(pgs_discard, &fixture, at) == PGS_OK);
    CHECK(fixture_stats(&fixture).dirty_pages == 0);
    fixture_check_page(&fixture, at, 0);
    CHECK(pgs_write_part(fixture.store, fixture.object, at, 4090, "abcdef", 6) == PGS_OK);
    memcpy(fixture_shadow(&fixture, at) + 4090, "abcdef", 6);
    fixture_check_page(&fixture, at, 0);
    CHECK(pgs_write_part(fixture.store, fixture.object, at, 4090, "abcdefg", 7) == PGS_E_INVALID);
    fixture_close(&fixture);
}

/* A discarded page whose file has changed is refused; with the bytes back it
 * is read again. */
static void test_backing_faults(void)
{
    struct fixture fixture;
    unsigned char page[4096];
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint64_t at = plain_page(&fixture, 5);
    const enum fake_fault faults[] = {FAKE_BIT_FLIP, FAKE_EIO, FAKE_SHORT_READ};
    const int expected[] = {PGS_E_CORRUPT, PGS_E_IO, PGS_E_IO};
    for (int i = 0; i < 3; i++)
        for (uint32_t flags = 0; flags < 2; flags++) {
            CHECK(one(pgs_discard, &fixture, at) == PGS_OK);
            fake_set(&fixture.fake, faults[i], at);
            CHECK(pgs_read(fixture.store, fixture.object, &at, 1, flags, page, NULL) ==
                  expected[i]);
            fake_set(&fixture.fake, FAKE_NONE, 0);
            fixture_check_page(&fixture, at, flags);
        }
    CHECK(fixture_stats(&fixture).corrupt == 2);
    fixture_close(&fixture);
}

/* A byte of the pool goes bad: a clean page is had from its backing instead, a
 * dirty one is refused, and never handed out wrong. */
static void test_pool_rots(void)
{
    struct fixture fixture;
    unsigned char page[4096];
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint64_t clean = plain_page(&fixture, 0), dirty = plain_page(&fixture, clean + 1);
    memcpy(page, fixture_shadow(&fixture, dirty), sizeof page);
    page[100] ^= 0x80;
    CHECK(write_one(&fixture, dirty, page) == PGS_OK);
    const uint64_t both[2] = {clean, dirty};
    for (int i = 0; i < 2; i++) {
        uint32_t size;
        CHECK(one(pgs_page_out, &fixture, both[i]) == PGS_OK);
        const struct page *entry = &object_of(fixture.store, fixture.object)->pages[both[i]];
        pool_bytes(&fixture.store->pool, entry->place, &size)[5] ^= 1;
        CHECK(size > 6 && size < 4096);
    }
    for (uint32_t flags = 0; flags < 2; flags++) {
        CHECK(pgs_read(fixture.store, fixture.object, &dirty, 1, flags, page, NULL) ==
              PGS_E_CORRUPT);
        fixture_check_page(&fixture, clean, flags);
    }
    CHECK(fixture_stats(&fixture).corrupt >= 3);
    fixture_close(&fixture);
}

/* The effort of one call, decoded like any other page. */
static void test_pack(void)
{
    struct fixture fixture;
    int32_t statuses[2];
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    const uint64_t page_nos[2] = {plain_page(&fixture, 0), PAGES};
    uint64_t before = fixture_stats(&fixture).metadata_bytes;
    CHECK(pgs_pack(fixture.store, fixture.object, page_nos, 2, 9, statuses) == PGS_E_RANGE);
    CHECK(statuses[0] == PGS_OK && statuses[1] == PGS_E_RANGE);
    CHECK(fixture_stats(&fixture).compressed_pages == 1);
    CHECK(fixture_stats(&fixture).metadata_bytes < before + 80 * KIB); /* a decoder, no tables */
    fixture_check_page(&fixture, page_nos[0], 0);
    CHECK(pgs_pack(fixture.store, fixture.object, page_nos, 1, 99, statuses) == PGS_E_INVALID);
    CHECK(statuses[0] == PGS_E_INVALID);
    fixture_close(&fixture);
}

/* Changed pages go to the scratch file, and come back from there. */
static void test_scratch(void)
{
    struct fixture fixture;
    struct pgs_backing backing;
    uint32_t object;
    FILE *file = tmpfile();
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    struct pgs_backing base = fake_backing(&fixture.fake, 0);
    CHECK(file && pgs_backing_scratch(&base, fileno(file), PAGES, 4096, &backing) == PGS_OK);
    CHECK(pgs_object_add(fixture.store, PAGES, 0, &backing, fixture.codec, &object) == PGS_OK);
    struct noise noise = noise_seeded();
    for (int round = 0; round < 2; round++)
        for (uint64_t i = round; i < PAGES; i += 2) {
            noise_fill(&noise, fixture_shadow(&fixture, i), 4096);
            CHECK(pgs_write(fixture.store, object, &i, 1, fixture_shadow(&fixture, i), NULL) ==
                  PGS_OK);
        }
    fixture.object = object;
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK(fixture_stats(&fixture).writebacks > 200);
    fixture_close(&fixture);
    fclose(file);
    CHECK(fixture.fake.closes == 2);
}

/* A disk without room says so; the page stays. */
static void test_full_disk(void)
{
    struct fixture fixture;
    struct pgs_backing backing;
    uint64_t page_no = 3, written, failed;
    uint32_t object;
    int fd = open("/dev/full", O_RDWR);
    CHECK(fd >= 0 && fixture_open(&fixture, &small) == PGS_OK);
    struct pgs_backing base = fake_backing(&fixture.fake, 0);
    CHECK(pgs_backing_scratch(&base, fd, PAGES, 4096, &backing) == PGS_OK);
    CHECK(pgs_object_add(fixture.store, PAGES, 0, &backing, fixture.codec, &object) == PGS_OK);
    fixture.object = object;
    memset(fixture_shadow(&fixture, page_no), 0x35, 100);
    CHECK(pgs_write(fixture.store, object, &page_no, 1, fixture_shadow(&fixture, page_no), NULL) ==
          PGS_OK);
    CHECK(pgs_flush(fixture.store, object, &written, &failed) == PGS_E_FULL);
    CHECK(written == 0 && failed == page_no);
    fixture_check_page(&fixture, page_no, 0);
    fixture_close(&fixture);
    close(fd);
}

static void test_statuses(void)
{
    struct fixture fixture;
    unsigned char *out = malloc(4 * 4096);
    int32_t statuses[4];
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint64_t bad = plain_page(&fixture, 0);
    uint64_t page_nos[4] = {3, PAGES, bad, 4};
    fake_set(&fixture.fake, FAKE_EIO, bad);
    CHECK(pgs_read(fixture.store, fixture.object, page_nos, 4, 0, out, statuses) == PGS_E_RANGE);
    CHECK(statuses[0] == 0 && statuses[1] == PGS_E_RANGE && statuses[2] == PGS_E_IO);
    CHECK(statuses[3] == 0);
    CHECK(memcmp(out + 3 * 4096, fixture_shadow(&fixture, 4), 4096) == 0);
    CHECK(pgs_read(fixture.store, 77, page_nos, 4, 0, out, statuses) == PGS_E_RANGE);
    CHECK(statuses[3] == PGS_E_RANGE);
    free(out);
    fixture_close(&fixture);
}

/* Pins are counted, all or none, and hold their pages under pressure. */
static void test_pins(void)
{
    struct fixture fixture;
    const void *view;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    uint64_t page_nos[3] = {10, 11, 12}, many[PAGES];
    CHECK(pgs_pin(fixture.store, fixture.object, page_nos, 3) == PGS_OK);
    CHECK(pgs_view(fixture.store, fixture.object, 10, &view) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    CHECK(memcmp(view, fixture_shadow(&fixture, 10), 4096) == 0);
    CHECK(one(pgs_discard, &fixture, 10) == PGS_E_PINNED);
    CHECK(one(pgs_page_out, &fixture, 11) == PGS_E_PINNED);
    CHECK(pgs_object_remove(fixture.store, fixture.object) == PGS_E_PINNED);
    for (uint64_t i = 0; i < PAGES; i++)
        many[i] = i;
    CHECK(pgs_pin(fixture.store, fixture.object, many, PAGES) == PGS_E_BUDGET);
    CHECK(fixture_stats(&fixture).pinned_pages == 3);
    CHECK(pgs_unpin(fixture.store, fixture.object, page_nos, 3) == PGS_OK);
    CHECK(pgs_unpin(fixture.store, fixture.object, page_nos, 1) == PGS_OK);
    CHECK(pgs_unpin(fixture.store, fixture.object, page_nos, 1) == PGS_E_INVALID);
    CHECK(fixture_stats(&fixture).pinned_pages == 0);
    CHECK(one(pgs_discard, &fixture, 10) == PGS_OK);
    CHECK(pgs_object_remove(fixture.store, fixture.object) == PGS_OK);
    CHECK(fixture_stats(&fixture).page_count == 0);
    fixture_close(&fixture);
}

static void test_levels(void)
{
    struct fixture fixture;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, 40, PGS_LEVEL_PINNED) == PGS_OK);
    CHECK(fixture_stats(&fixture).level_hot[PGS_LEVEL_PINNED] == 40);
    /* Too many: nothing is changed. */
    CHECK(fixture_treat(&fixture, 20, 300, PGS_LEVEL_PINNED) == PGS_E_BUDGET);
    CHECK(fixture_stats(&fixture).pinned_pages == 40);
    CHECK(fixture_treat(&fixture, 390, 11, PGS_LEVEL_EAGER) == PGS_E_RANGE);
    CHECK(fixture_treat(&fixture, 0, 1, 6) == PGS_E_INVALID);
    for (int round = 0; round < 3; round++)
        for (uint64_t i = 0; i < PAGES; i++)
            fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    CHECK(fixture_stats(&fixture).level_hot[PGS_LEVEL_PINNED] == 40);
    CHECK(one(pgs_discard, &fixture, 3) == PGS_E_PINNED);
    CHECK(fixture_treat(&fixture, 0, PAGES, PGS_LEVEL_STEP_ON_IT) == PGS_OK);
    CHECK(fixture_stats(&fixture).pinned_pages == 0);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK(one(pgs_discard, &fixture, i) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    /* Clean pages that are never needed in a hurry are dropped, not kept. */
    CHECK(fixture_stats(&fixture).compressed_pages == 0);
    fixture_close(&fixture);
}

/* Held pages are in no queue, and a hit on one must leave the queues alone. */
static void test_hits_on_pinned_pages(uint32_t policy)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    options.policy = policy;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    for (uint64_t i = 0; i < 140; i++)
        fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    CHECK(fixture_treat(&fixture, 20, 14, PGS_LEVEL_PINNED) == PGS_OK);
    for (int i = 0; i < 20000; i++)
        fixture_check_page(&fixture, noise_below(&noise, PAGES), PGS_READ_INTO_FRAME);
    fixture_close(&fixture);
}

/* Pins first, then dirt wherever there is room: page-in still finds frames. */
static void test_frames_beside_pins(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    uint64_t pinned[20];
    options.writable = 0;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    for (uint64_t i = 0; i < 20; i++)
        pinned[i] = i;
    CHECK(pgs_pin(fixture.store, fixture.object, pinned, 20) == PGS_OK);
    for (uint64_t i = 20; i < PAGES; i++) {
        unsigned char page[4096] = {0};
        noise_fill(&noise, page, 3000); /* it shrinks, but not by much */
        if (write_one(&fixture, i, page) == PGS_OK)
            memcpy(fixture_shadow(&fixture, i), page, sizeof page);
    }
    struct pgs_stats stats = fixture_stats(&fixture);
    CHECK(stats.hot_bytes >= (uint64_t)(20 + MIN_FRAMES) * 4096);
    /* And the other way round: pins that would leave too few are refused. */
    for (uint64_t i = 20; i < PAGES; i++)
        if (pgs_pin(fixture.store, fixture.object, &i, 1) != PGS_OK)
            break;
    stats = fixture_stats(&fixture);
    CHECK(stats.hot_bytes >= (stats.pinned_pages + MIN_FRAMES) * 4096);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    fixture_close(&fixture);
}

/* A write-back that tears: its page stays in RAM, and is not taken for the
 * bytes that the backing had before. */
static void test_torn_write_back(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    unsigned char first[4096], second[4096];
    options.writable = 1;
    options.pool_percent = 0;
    options.policy = PGS_POLICY_LRU;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    struct noise noise = noise_seeded();
    noise_fill(&noise, first, sizeof first);
    noise_fill(&noise, second, sizeof second);
    const unsigned char *versions[] = {first, second, first};
    for (int i = 0; i < 3; i++) {
        fake_set(&fixture.fake, i == 1 ? FAKE_TORN_EIO : FAKE_NONE, 7);
        CHECK(write_one(&fixture, 7, versions[i]) == PGS_OK);
        memcpy(fixture_shadow(&fixture, 7), versions[i], 4096);
        for (uint64_t k = 8; k < PAGES; k++)
            fixture_check_page(&fixture, k, PGS_READ_INTO_FRAME);
        fixture_check_page(&fixture, 7, 0);
        fixture_check_page(&fixture, 7, PGS_READ_INTO_FRAME);
    }
    for (uint64_t k = 8; k < PAGES; k++)
        fixture_check_page(&fixture, k, PGS_READ_INTO_FRAME);
    fixture_check_page(&fixture, 7, PGS_READ_INTO_FRAME);
    CHECK_EQ(fixture_stats(&fixture).writebacks, 2);
    fixture_close(&fixture);
}

/* Hits and faults are told apart, for reads and for writes. */
static void test_counts(void)
{
    struct fixture fixture;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    struct pgs_stats before = fixture_stats(&fixture);
    for (uint64_t i = 0; i < 50; i++)
        for (int k = 0; k < 3; k++)
            CHECK(pgs_write_part(fixture.store, fixture.object, i, 0, "x", 1) == PGS_OK);
    struct pgs_stats after = fixture_stats(&fixture);
    uint64_t faults = 0;
    for (int i = 0; i < PGS_SOURCE_COUNT; i++)
        faults += after.faults[i] - before.faults[i];
    CHECK(faults == 50 && after.hits - before.hits == 100 && after.writes - before.writes == 150);
    fixture_close(&fixture);
}

/* Two pages that nobody needs in a hurry call each other, among pages that go
 * in the last resort only; then one of each kind. All move on: a page just
 * faulted in is safe for the next few faults. */
static void test_forward_progress(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    options.budget_bytes = 640 * KIB;
    options.pool_percent = 100;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    CHECK(fixture_treat(&fixture, 0, 200, PGS_LEVEL_STEP_ON_IT) == PGS_OK);
    CHECK(fixture_treat(&fixture, 200, 200, PGS_LEVEL_LAST_RESORT) == PGS_OK);
    for (uint64_t i = 200; i < PAGES; i++)
        fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    uint64_t before = fixture_stats(&fixture).hits;
    for (int i = 0; i < 100; i++) {
        fixture_check_page(&fixture, 1, PGS_READ_INTO_FRAME);
        fixture_check_page(&fixture, 2, PGS_READ_INTO_FRAME);
    }
    CHECK(fixture_stats(&fixture).hits - before >= 190);
    before = fixture_stats(&fixture).hits;
    for (int i = 0; i < 100; i++) {
        fixture_check_page(&fixture, 3, PGS_READ_INTO_FRAME);
        fixture_check_page(&fixture, 300, PGS_READ_INTO_FRAME);
    }
    CHECK(fixture_stats(&fixture).hits - before >= 190);
    fixture_close(&fixture);
}

/* Anonymous memory: zeros until written; nothing acknowledged is lost when
 * the budget is full, and what was refused keeps its old bytes. */
static void test_anonymous_until_full(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    uint64_t refused = 0;
    options.anonymous = 1;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++) {
        unsigned char page[4096];
        for (uint32_t at = 0; at < sizeof page; at++)
            page[at] = (unsigned char)noise_word(&noise);
        fixture_check_page(&fixture, i, 0);
        int error = write_one(&fixture, i, page);
        CHECK(error == PGS_OK || error == PGS_E_BUDGET);
        refused += error != PGS_OK;
        if (!error)
            memcpy(fixture_shadow(&fixture, i), page, sizeof page);
    }
    CHECK(refused > 200 && refused < 320);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    struct pgs_stats stats = fixture_stats(&fixture);
    CHECK(stats.used_bytes_max <= stats.budget_bytes);
    fixture_close(&fixture);
}

/* With a backing that takes pages, dirty pages make room. */
static void test_write_back(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    struct noise noise = noise_seeded();
    options.writable = 1;
    CHECK(fixture_open(&fixture, &options) == PGS_OK);
    for (int round = 0; round < 3; round++)
        for (uint64_t i = 0; i < PAGES; i++) {
            fixture_fill_page(fixture_shadow(&fixture, i), 4096, &noise);
            CHECK(write_one(&fixture, i, fixture_shadow(&fixture, i)) == PGS_OK);
        }
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK(fixture_stats(&fixture).writebacks > 0);
    fixture_close(&fixture);
}

static void test_budget_moves(void)
{
    struct fixture fixture;
    CHECK(fixture_open(&fixture, &small) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, PGS_READ_INTO_FRAME);
    uint64_t metadata = fixture_stats(&fixture).metadata_bytes;
    CHECK(pgs_store_set_budget(fixture.store, metadata + 20 * 4096) == PGS_OK);
    CHECK(fixture_stats(&fixture).used_bytes <= metadata + 20 * 4096);
    CHECK(pgs_store_set_budget(fixture.store, metadata + 4096) == PGS_E_BUDGET);
    CHECK(fixture_stats(&fixture).budget_bytes == metadata + 20 * 4096);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK(pgs_store_set_budget(fixture.store, 4 * 768 * KIB) == PGS_OK);
    for (uint64_t i = 0; i < PAGES; i++)
        fixture_check_page(&fixture, i, 0);
    CHECK(fixture_stats(&fixture).hot_pages > 300);
    fixture_close(&fixture);
}

static void test_misuse(void)
{
    struct fixture_options options = small;
    struct fixture fixture;
    options.budget_bytes = 16 * KIB;
    CHECK(fixture_open(&fixture, &options) == PGS_E_BUDGET);
    fixture_close(&fixture);
    for (uint64_t budget = 4 * KIB; budget < 300 * KIB; budget += 4 * KIB + 512) {
        options.budget_bytes = budget;
        options.page_size = 512;
        int error = fixture_open(&fixture, &options);
        CHECK(error == PGS_E_BUDGET || (error == PGS_OK && budget > 50 * KIB));
        fixture_close(&fixture);
    }
    options.budget_bytes = 300 * KIB; /* frames fit, the page table does not */
    options.page_count = 100000;
    options.page_size = 512;
    CHECK(fixture_open(&fixture, &options) == PGS_E_BUDGET);
    fixture_close(&fixture);
    options = small;
    options.page_size = 3000;
    options.codec_id = 0;
    CHECK(fixture_open(&fixture, &options) == PGS_E_INVALID);
    fixture_close(&fixture);
    CHECK(pgs_store_entry_bytes() <= 32);
    /* A codec of other pages than the store's. */
    struct pgs_codec_params codec = {.struct_size = sizeof codec, .codec_id = PGS_CODEC_LZ4,
                                     .page_size = 8192};
    pgs_codec *foreign;
    uint32_t object;
    CHECK(fixture_open(&fixture, &small) == PGS_OK && pgs_codec_open(&codec, &foreign) == PGS_OK);
    CHECK(pgs_object_add(fixture.store, 10, 0, NULL, foreign, &object) == PGS_E_INVALID);
    fixture_close(&fixture);
    pgs_codec_close(foreign);
}

int main(void)
{
    const uint32_t codecs[] = {PGS_CODEC_RAW, PGS_CODEC_LZ4, PGS_CODEC_ZSTD};
    for (int i = 0; i < 3; i++)
        for (uint32_t policy = 0; policy < 2; policy++)
            test_every_page_every_tier(codecs[i], policy, 4096);
    for (uint32_t size = 512; size <= 65536; size *= 2)
        test_every_page_every_tier(PGS_CODEC_LZ4, PGS_POLICY_S3FIFO, size);
    test_dirty_and_clean();
    test_backing_faults();
    test_pool_rots();
    test_pack();
    test_scratch();
    test_full_disk();
    test_statuses();
    test_pins();
    test_levels();
    test_forward_progress();
    test_hits_on_pinned_pages(PGS_POLICY_LRU);
    test_hits_on_pinned_pages(PGS_POLICY_S3FIFO);
    test_frames_beside_pins();
    test_torn_write_back();
    test_counts();
    test_anonymous_until_full();
    test_write_back();
    test_budget_moves();
    test_misuse();
    return 0;
}
