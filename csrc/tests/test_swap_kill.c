/* SPDX-License-Identifier: MIT
 *
 * A process that writes through a store to a swap file, and is killed at a random moment, again
 * and again over the same file. What it had told its parent was flushed must be there, or newer;
 * the free map must add up; and the next process must be able to go on.
 *
 * usage: test_swap_kill [kills]
 */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "swap_fixture.h"

enum { PAGES = 150, BATCH = 12, FILE_BYTES = 640 << 10 };

/* What the child says of a page. */
enum saying { IS_FLUSHED, WILL_GO, IS_GONE };
struct word {
    uint32_t page_no, version; /* version: of IS_FLUSHED */
    uint32_t saying;
};

/* What the parent knows of a page. */
struct known {
    uint32_t version; /* the last that was flushed; 0: none */
    bool may_be_gone, is_gone;
};

static void make_page(unsigned char *page, uint64_t page_no, uint32_t version)
{
    struct noise noise = {(page_no << 32 | version) * 2654435761u + 1};
    uint32_t kind = noise_word(&noise) % 4;
    for (uint32_t i = 0; i < SWAP_PAGE; i += 8) {
        uint64_t word = noise_next(&noise);
        word = kind ? word & 0x0303000f00010303u : word;
        memcpy(page + i, &word, 8);
    }
    memcpy(page, &version, 4);
}

static struct pgs_backing backing_over(struct swap_file *file, pgs_codec *codec)
{
    struct pgs_backing backing;
    struct pgs_coded_params params = {.struct_size = sizeof params, .page_size = SWAP_PAGE,
                                      .page_count = PAGES, .buffer_pages = 16, .ahead_pages = 8,
                                      .deadline_ms = 10000};
    CHECK_EQ(pgs_backing_coded(&params, &file->blobs, NULL, codec, &backing), PGS_OK);
    return backing;
}

/* Writes, flushes, tells; for ever. */
static void child(struct swap_file *file, pgs_codec *codec, uint32_t flags, int pipe_fd,
                  uint32_t version, struct noise noise)
{
    struct pgs_store_params params = {.struct_size = sizeof params, .page_size = SWAP_PAGE,
                                      .budget_bytes = 1 << 20, .pool_percent = 25};
    unsigned char page[SWAP_PAGE];
    struct word words[BATCH];
    pgs_store *store;
    uint32_t object;
    uint64_t written, failed;
    swap_file_open(file, FILE_BYTES, flags);
    struct pgs_backing backing = backing_over(file, codec);
    CHECK_EQ(pgs_store_open(&params, &store), PGS_OK);
    CHECK_EQ(pgs_object_add(store, PAGES, 0, &backing, codec, &object), PGS_OK);
    for (;;) {
        uint32_t discarded = noise_word(&noise) % 4 ? PAGES : noise_word(&noise) % PAGES;
        for (uint32_t i = 0; i < BATCH; i++) {
            uint64_t page_no = noise_below(&noise, PAGES);
            words[i] = (struct word){.page_no = (uint32_t)page_no, .version = ++version};
            make_page(page, page_no, version);
            CHECK_EQ(pgs_write(store, object, &page_no, 1, page, NULL), PGS_OK);
        }
        CHECK_EQ(pgs_flush(store, object, &written, &failed), PGS_OK);
        CHECK(write(pipe_fd, words, sizeof words) == sizeof words);
        if (discarded == PAGES)
            continue;
        /* The store forgets the page, and the backing hears of it. */
        struct word gone = {.page_no = discarded, .saying = WILL_GO};
        uint64_t page_no = discarded, forgotten;
        CHECK(write(pipe_fd, &gone, sizeof gone) == sizeof gone);
        CHECK_EQ(pgs_forget(store, object, page_no, 1, &forgotten), PGS_OK);
        CHECK_EQ(backing.discard(backing.ctx, page_no, 1), PGS_OK);
        CHECK_EQ(pgs_flush(store, object, &written, &failed), PGS_OK);
        gone.saying = IS_GONE;
        CHECK(write(pipe_fd, &gone, sizeof gone) == sizeof gone);
    }
}

static uint32_t version_in(const struct pgs_backing *backing, uint64_t page_no)
{
    unsigned char page[SWAP_PAGE], wanted[SWAP_PAGE];
    uint32_t version, size;
    bool there = backing->source(backing->ctx, page_no, &size) == PGS_SOURCE_SWAP;
    CHECK_EQ(backing->page_in(backing->ctx, page_no, page), PGS_OK);
    memcpy(&version, page, 4);
    if (there)
        make_page(wanted, page_no, version);
    else
        memset(wanted, 0, sizeof wanted);
    CHECK_BYTES(page, wanted, SWAP_PAGE);
    return version;
}

/* No page may have bytes older than those told of; what is there from now on counts as told. */
static void check_file(struct swap_file *file, pgs_codec *codec, struct known *known,
                       uint32_t *newest)
{
    swap_file_open(file, FILE_BYTES, 0);
    swap_check_space(file);
    struct pgs_backing backing = backing_over(file, codec);
    for (uint64_t i = 0; i < PAGES; i++) {
        uint32_t version = version_in(&backing, i);
        if (version == 0)
            CHECK(known[i].version == 0 || known[i].may_be_gone);
        else
            CHECK(version >= known[i].version + known[i].is_gone);
        known[i] = version ? (struct known){.version = version}
                           : (struct known){known[i].version, true, true};
        *newest = version > *newest ? version : *newest;
    }
    backing.close(backing.ctx);
}

static uint64_t read_words(int fd, uint64_t most, struct known *known, uint32_t *newest)
{
    struct word word;
    uint64_t count = 0;
    for (; count < most && read(fd, &word, sizeof word) == sizeof word; count++) {
        struct known *page = &known[word.page_no];
        if (word.saying == IS_FLUSHED)
            *page = (struct known){.version = word.version};
        else
            *page = (struct known){page->version, true, word.saying == IS_GONE};
        *newest = page->version > *newest ? page->version : *newest;
    }
    return count;
}

int main(int argc, char **argv)
{
    int kills = argc > 1 ? atoi(argv[1]) : 200;
    struct pgs_codec_params params = {.struct_size = sizeof params, .page_size = SWAP_PAGE,
                                      .level = -1, .codec_id = PGS_CODEC_LZ4};
    struct noise noise = noise_seeded();
    struct swap_file file;
    pgs_codec *codec;
    struct known known[PAGES] = {{0}};
    uint32_t newest = 0, flags = 0;
    uint64_t words = 0, torn = 0, stale = 0;
    CHECK_EQ(pgs_codec_open(&params, &codec), PGS_OK);
    swap_file_name(&file, "kill", PAGES);
    swap_file_open(&file, FILE_BYTES, PGS_SWAP_BUFFERED); /* for units of 512 bytes anywhere */
    swap_file_close(&file);
    for (int i = 0; i < kills; i++) {
        int ends[2];
        flags = i % 2 ? PGS_SWAP_BUFFERED : 0;
        CHECK(pipe(ends) == 0);
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            child(&file, codec, flags, ends[1], newest, noise);
        }
        close(ends[1]);
        /* Sometimes at once, while it opens the file; else in the midst of its work, however
         * slow the machine is. */
        uint64_t most = noise_below(&noise, 5) ? 1 + noise_below(&noise, 6 * BATCH) : 0;
        words += read_words(ends[0], most, known, &newest);
        long wait_us = (long)noise_below(&noise, 4000);
        nanosleep(&(struct timespec){.tv_nsec = wait_us * 1000}, NULL);
        CHECK(kill(pid, SIGKILL) == 0);
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        CHECK_EQ(WTERMSIG(status), SIGKILL); /* not its own end */
        words += read_words(ends[0], UINT64_MAX, known, &newest);
        close(ends[0]);
        check_file(&file, codec, known, &newest);
        torn += file.info.torn_records;
        stale += file.info.stale_records;
        newest += 100000; /* versions that were lost are not used again */
    }
    printf("%d kills, %llu pages told of, %llu torn and %llu stale records\n", kills,
           (unsigned long long)words, (unsigned long long)torn, (unsigned long long)stale);
    CHECK(words > (uint64_t)kills);
    unlink(file.path);
    pgs_codec_close(codec);
    return 0;
}
