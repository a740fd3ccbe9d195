/* SPDX-License-Identifier: MIT
 *
 * The swap file: what is put comes back, also from a file that was torn anywhere.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "swap_fixture.h"

enum { PAGES = 200 };

static void round_trip(uint32_t flags)
{
    struct swap_file file;
    struct noise noise = noise_seeded();
    uint32_t versions[PAGES] = {0};
    swap_file_name(&file, "trip", PAGES);
    swap_file_open(&file, 2 << 20, flags);
    printf("O_DIRECT: %u, units of %u bytes\n", file.info.is_direct, file.info.unit_size);
    CHECK(file.info.is_new && (!flags || !file.info.is_direct));
    for (uint32_t round = 1; round <= 4000; round++) {
        uint64_t page_no = noise_below(&noise, PAGES);
        if (noise_word(&noise) % 8 == 0) {
            CHECK_EQ(file.blobs.discard(file.blobs.ctx, page_no, 1), PGS_OK);
            versions[page_no] = 0;
        } else {
            CHECK_EQ(swap_put(&file, page_no, round), PGS_OK);
            versions[page_no] = round;
        }
        CHECK_EQ(swap_version(&file, page_no), versions[page_no]);
        if (round % 500 == 0) {
            swap_check_space(&file);
            swap_file_close(&file);
            swap_file_open(&file, 0, flags);
            CHECK(!file.info.is_new);
            CHECK_EQ(file.info.stale_records + file.info.torn_records, 0);
        }
    }
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_EQ(swap_version(&file, i), versions[i]);
    swap_file_close(&file);
    unlink(file.path);
}

static void direct(void)
{
    round_trip(0);
}

static void buffered(void)
{
    round_trip(PGS_SWAP_BUFFERED);
}

static void batches(void)
{
    enum { BATCH = 32 };
    static unsigned char bytes[BATCH][SWAP_PAGE + PGS_BLOB_EXTRA_MAX];
    struct swap_file file;
    struct pgs_blob blobs[BATCH];
    int32_t statuses[BATCH];
    swap_file_name(&file, "batch", PAGES);
    swap_file_open(&file, 4 << 20, 0);
    for (uint32_t version = 1; version < 6; version++) {
        for (uint32_t i = 0; i < BATCH; i++) {
            uint64_t page_no = (uint64_t)i * version;
            blobs[i] = (struct pgs_blob){.page_no = page_no, .bytes = bytes[i],
                                         .size = swap_blob(page_no, version, bytes[i])};
        }
        blobs[7].page_no = PAGES; /* none: refused, and the others are put */
        CHECK_EQ(file.blobs.put(file.blobs.ctx, blobs, BATCH, statuses), PGS_E_INVALID);
        for (uint32_t i = 0; i < BATCH; i++)
            CHECK_EQ(statuses[i], i == 7 ? PGS_E_INVALID : PGS_OK);
        for (uint32_t i = 0; i < BATCH; i++) {
            memset(bytes[i], 0, sizeof bytes[i]);
            blobs[i].capacity = sizeof bytes[i];
        }
        CHECK_EQ(file.blobs.get(file.blobs.ctx, blobs, BATCH, statuses), PGS_E_RANGE);
        for (uint32_t i = 0; i < BATCH; i++) {
            unsigned char wanted[SWAP_PAGE + PGS_BLOB_EXTRA_MAX];
            CHECK_EQ(statuses[i], i == 7 ? PGS_E_RANGE : PGS_OK);
            if (i == 7)
                continue;
            CHECK_EQ(blobs[i].size, swap_blob(blobs[i].page_no, version, wanted));
            CHECK_BYTES(bytes[i], wanted, blobs[i].size);
        }
    }
    struct pgs_blob small = {.page_no = 0, .bytes = bytes[0], .capacity = 4};
    CHECK_EQ(file.blobs.get(file.blobs.ctx, &small, 1, statuses), PGS_E_INVALID);
    swap_check_space(&file);
    swap_file_close(&file);
    unlink(file.path);
}

/* Filled to the last unit, in pieces: what is refused leaves the older blob; and where the free
 * units lie apart, records are moved together. */
static void full_and_compacted(uint32_t flags)
{
    enum { MANY = 1200 };
    struct swap_file file;
    static uint32_t versions[MANY];
    struct noise noise = noise_seeded();
    uint64_t total, used, refused = 0;
    memset(versions, 0, sizeof versions);
    swap_file_name(&file, "full", MANY);
    swap_file_open(&file, 512 << 10, flags);
    CHECK_EQ(file.blobs.capacity(file.blobs.ctx, &total, &used), PGS_OK);
    for (uint32_t round = 1; round <= 3000; round++) {
        uint64_t page_no = noise_below(&noise, MANY);
        unsigned char bytes[SWAP_PAGE + PGS_BLOB_EXTRA_MAX];
        uint64_t size = swap_units(file.info.unit_size, swap_blob(page_no, round, bytes)) *
                        (uint64_t)file.info.unit_size;
        int error = swap_put(&file, page_no, round);
        if (error) {
            CHECK_EQ(error, PGS_E_FULL);
            refused++;
            CHECK_EQ(file.blobs.flush(file.blobs.ctx), PGS_OK);
            CHECK(total - swap_used(&file) < size); /* there was really no room */
            uint64_t gone = noise_below(&noise, MANY);
            CHECK_EQ(file.blobs.discard(file.blobs.ctx, gone, 1), PGS_OK);
            versions[gone] = 0;
        } else {
            versions[page_no] = round;
        }
    }
    CHECK(refused > 50);
    for (int reopened = 0; reopened < 2 - (flags == PGS_SWAP_TEMPORARY); reopened++) {
        for (uint64_t i = 0; i < MANY; i++)
            CHECK_EQ(swap_version(&file, i), versions[i]);
        swap_check_space(&file);
        if (flags != PGS_SWAP_TEMPORARY) {
            swap_file_close(&file);
            swap_file_open(&file, 0, flags);
        }
    }
    swap_file_close(&file);
    unlink(file.path);
}

static void full(void)
{
    full_and_compacted(0);
}

static void full_temporary(void)
{
    full_and_compacted(PGS_SWAP_TEMPORARY);
}

/* Where a page's record is. */
static uint64_t find_record(const struct swap_file *file, uint64_t page_no, uint32_t *size_ret)
{
    unsigned char block[SWAP_HEADER_SIZE], bytes[8192];
    struct swap_header header;
    struct swap_record record;
    swap_peek(file, 0, block, sizeof block);
    CHECK_EQ(swap_header_read(block, &header), PGS_OK);
    for (uint64_t unit = 0; unit + 16 < header.unit_count; unit++) {
        swap_peek(file, swap_offset(&header, unit), bytes, sizeof bytes);
        if (swap_record_read(&header, unit, bytes, &record) && record.page_no == page_no) {
            *size_ret = RECORD_HEADER_SIZE + record.size;
            return swap_offset(&header, unit);
        }
    }
    CHECK(!"no such record");
    return 0;
}

/* A newer record of which only some first, or some last, bytes arrived: the older counts. */
static void torn_anywhere(void)
{
    struct swap_file file;
    unsigned char newer[8192], torn[8192], old[8192];
    uint32_t old_size, size;
    swap_file_name(&file, "torn", PAGES);
    swap_file_open(&file, 256 << 10, 0);
    CHECK_EQ(swap_put(&file, 5, 1), PGS_OK);
    CHECK_EQ(swap_put(&file, 9, 1), PGS_OK);
    CHECK_EQ(file.blobs.flush(file.blobs.ctx), PGS_OK);
    swap_file_close(&file);
    uint64_t old_at = find_record(&file, 5, &old_size);
    swap_peek(&file, old_at, old, sizeof old);
    swap_file_open(&file, 0, 0);
    CHECK_EQ(swap_put(&file, 5, 2), PGS_OK);
    swap_file_close(&file);
    uint64_t at = find_record(&file, 5, &size);
    swap_peek(&file, at, newer, sizeof newer);
    for (int tail = 0; tail < 2; tail++) {
        for (uint32_t cut = 0; cut <= size; cut += cut < 48 || cut > size - 48 ? 1 : 61) {
            memset(torn, 0xEE, sizeof torn);
            memcpy(torn + (tail ? cut : 0), newer + (tail ? cut : 0), tail ? size - cut : cut);
            bool whole = tail ? cut == 0 : cut == size;
            if (memcmp(torn, newer, size) == 0)
                whole = true;
            swap_poke(&file, old_at, old, (old_size + 511) / 512 * 512);
            swap_poke(&file, at, torn, (size + 511) / 512 * 512);
            if (whole)
                swap_poke(&file, at, newer, (size + 511) / 512 * 512);
            swap_file_open(&file, 0, 0);
            CHECK_EQ(swap_version(&file, 5), whole ? 2 : 1);
            CHECK_EQ(swap_version(&file, 9), 1);
            CHECK_EQ(file.info.stale_records, whole);
            swap_check_space(&file);
            CHECK_EQ(swap_put(&file, 7, 3), PGS_OK);
            CHECK_EQ(file.blobs.discard(file.blobs.ctx, 7, 1), PGS_OK);
            swap_file_close(&file);
        }
    }
    unlink(file.path);
}

/* An older record that comes to light must not outlive the discard of its page. */
static void discarded_stays_discarded(void)
{
    struct swap_file file;
    static unsigned char before[256 << 10], after[256 << 10];
    swap_file_name(&file, "discard", PAGES);
    swap_file_open(&file, sizeof before, 0);
    for (uint32_t version = 1; version <= 5; version++)
        CHECK_EQ(swap_put(&file, 3, version), PGS_OK);
    /* As after a kill: the older ones are there as well. */
    swap_peek(&file, 0, before, sizeof before);
    CHECK_EQ(file.blobs.discard(file.blobs.ctx, 3, 1), PGS_OK);
    swap_peek(&file, 0, after, sizeof after);
    swap_file_close(&file);
    swap_poke(&file, 0, before, sizeof before);
    swap_file_open(&file, 0, 0);
    CHECK_EQ(swap_version(&file, 3), 5);
    CHECK_EQ(file.info.stale_records, 4);
    CHECK_EQ(file.blobs.discard(file.blobs.ctx, 3, 1), PGS_OK);
    swap_file_close(&file);
    swap_file_open(&file, 0, 0);
    CHECK_EQ(swap_version(&file, 3), 0);
    swap_file_close(&file);
    swap_poke(&file, 0, after, sizeof after); /* as after a kill just behind the discard */
    swap_file_open(&file, 0, 0);
    CHECK_EQ(swap_version(&file, 3), 0);
    CHECK_EQ(swap_used(&file), 0);
    swap_file_close(&file);
    unlink(file.path);
}

static void refuse(struct swap_file *file, int error)
{
    unsigned char before[8192], after[8192];
    swap_peek(file, 0, before, sizeof before);
    CHECK_EQ(swap_file_try(file, 1 << 20, 0), error);
    swap_peek(file, 0, after, sizeof after);
    CHECK_BYTES(before, after, sizeof before);
}

static void others_are_refused(void)
{
    struct swap_file file;
    static unsigned char block[8192];
    swap_file_name(&file, "other", PAGES);
    swap_file_open(&file, 1 << 20, 0);
    CHECK_EQ(swap_put(&file, 1, 1), PGS_OK);
    CHECK_EQ(swap_file_try(&file, 1 << 20, PGS_SWAP_REPLACE), PGS_E_IN_USE);
    swap_file_close(&file);
    struct pgs_swap_shape shape = file.shape, *wrong = &file.shape;
    wrong->page_size = 8192, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->page_count++, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->codec_id = PGS_CODEC_ZSTD, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->filter_id = 1, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->dict_size = 1, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->dict_xxh32 = 1, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->base_address = 1, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    wrong->owner[31] = 1, refuse(&file, PGS_E_SWAP_OTHER), *wrong = shape;
    CHECK_EQ(file.info.shape.page_size, SWAP_PAGE); /* it says what the file is */
    swap_file_open(&file, 1 << 20, 0);
    CHECK_EQ(swap_version(&file, 1), 1);
    swap_file_close(&file);
    swap_peek(&file, 0, block, sizeof block);
    for (uint32_t at = 0; at < 112; at++) {
        block[at] ^= 4;
        swap_poke(&file, at, &block[at], 1);
        refuse(&file, at < 8    ? PGS_E_SWAP_FOREIGN
                      : at < 12 ? PGS_E_SWAP_VERSION
                                : PGS_E_CORRUPT);
        block[at] ^= 4;
        swap_poke(&file, at, &block[at], 1);
    }
    swap_file_open(&file, 0, PGS_SWAP_BUFFERED);
    CHECK_EQ(swap_version(&file, 1), 1);
    swap_file_close(&file);
    swap_file_open(&file, 1 << 20, PGS_SWAP_REPLACE);
    CHECK(file.info.is_new);
    CHECK_EQ(swap_version(&file, 1), 0);
    swap_file_close(&file);
    CHECK(truncate(file.path, 100) == 0);
    CHECK_EQ(swap_file_try(&file, 1 << 20, 0), PGS_E_SWAP_FOREIGN);
    CHECK(truncate(file.path, 0) == 0);
    CHECK_EQ(swap_file_try(&file, 10000, 0), PGS_E_FULL); /* too small */
    unlink(file.path);
}

/* Cut off while it was made: only the header is there. */
static void a_file_that_is_too_short_is_completed(void)
{
    struct swap_file file;
    swap_file_name(&file, "short", PAGES);
    swap_file_open(&file, 1 << 20, 0);
    swap_file_close(&file);
    CHECK(truncate(file.path, SWAP_HEADER_SIZE) == 0);
    swap_file_open(&file, 0, 0);
    CHECK(!file.info.is_new);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_EQ(swap_put(&file, i, 1), PGS_OK);
    swap_file_close(&file);
    swap_file_open(&file, 0, 0);
    CHECK_EQ(file.info.page_count, PAGES);
    swap_file_close(&file);
    unlink(file.path);
}

/* The disk has no room: here, a limit of the file's size, which the kernel answers alike. */
static void no_room_on_the_disk(void)
{
    struct swap_file file;
    struct rlimit old, little = {.rlim_cur = 1 << 20};
    swap_file_name(&file, "room", PAGES);
    CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
    little.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &little) == 0);
    CHECK_EQ(swap_file_try(&file, 64 << 20, 0), PGS_E_FULL);
    CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
    swap_file_open(&file, 1 << 20, 0); /* what was begun is undone */
    CHECK(file.info.is_new);
    swap_file_close(&file);
    unlink(file.path);
}

/* Records in the bay, as a compaction leaves them that was cut off. */
static void a_record_in_the_bay(void)
{
    struct swap_file file;
    unsigned char block[SWAP_HEADER_SIZE], bytes[8192] = {0}, blob[SWAP_PAGE + 32];
    struct swap_header header;
    swap_file_name(&file, "bay", PAGES);
    swap_file_open(&file, 256 << 10, 0);
    CHECK_EQ(swap_put(&file, 4, 1), PGS_OK);
    swap_file_close(&file);
    swap_peek(&file, 0, block, sizeof block);
    CHECK_EQ(swap_header_read(block, &header), PGS_OK);
    uint32_t units_max = swap_units(header.unit_size, SWAP_PAGE + PGS_BLOB_EXTRA_MAX);
    uint64_t bay = header.unit_count - units_max;
    struct swap_record record = {.page_no = 4, .sequence = 50, .size = swap_blob(4, 2, blob)};
    swap_record_write(&header, bay, &record, blob, bytes);
    swap_poke(&file, swap_offset(&header, bay), bytes, units_max * header.unit_size);
    for (int i = 0; i < 2; i++) {
        swap_file_open(&file, 0, 0);
        CHECK_EQ(swap_version(&file, 4), 2);
        CHECK_EQ(file.info.stale_records, i == 0);
        swap_check_space(&file);
        swap_file_close(&file);
    }
    unlink(file.path);
}

struct actor {
    struct swap_file *file;
    unsigned number;
};

static void *act(void *ctx)
{
    struct actor *actor = ctx;
    struct noise noise = {actor->number + 5};
    uint32_t versions[PAGES] = {0};
    for (uint32_t i = 1; i < 1500; i++) {
        uint64_t page_no = noise_below(&noise, PAGES / 4) * 4 + actor->number;
        uint32_t what = noise_word(&noise) % 10;
        if (what == 0) {
            CHECK_EQ(actor->file->blobs.discard(actor->file->blobs.ctx, page_no, 1), PGS_OK);
            versions[page_no] = 0;
        } else if (what < 5) {
            int error = swap_put(actor->file, page_no, i);
            CHECK(error == PGS_OK || error == PGS_E_FULL);
            versions[page_no] = error ? versions[page_no] : i;
        }
        CHECK_EQ(swap_version(actor->file, page_no), versions[page_no]);
    }
    return NULL;
}

/* Little room: records are moved while others read them. */
static void threads(void)
{
    struct swap_file file;
    pthread_t workers[4];
    struct actor actors[4];
    swap_file_name(&file, "threads", PAGES);
    swap_file_open(&file, 320 << 10, PGS_SWAP_TEMPORARY);
    for (unsigned i = 0; i < 4; i++) {
        actors[i] = (struct actor){.file = &file, .number = i};
        CHECK(pthread_create(&workers[i], NULL, act, &actors[i]) == 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(workers[i], NULL);
    swap_check_space(&file);
    swap_file_close(&file);
    unlink(file.path);
}

int main(void)
{
    RUN(direct);
    RUN(buffered);
    RUN(batches);
    RUN(full);
    RUN(full_temporary);
    RUN(torn_anywhere);
    RUN(discarded_stays_discarded);
    RUN(others_are_refused);
    RUN(a_file_that_is_too_short_is_completed);
    RUN(no_room_on_the_disk);
    RUN(a_record_in_the_bay);
    RUN(threads);
    return 0;
}
