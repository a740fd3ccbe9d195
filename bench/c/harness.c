/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* processors to run on, the name of the program */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS_MAX = 10000 };

void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(2);
}

void *allocate(size_t size)
{
    size_t rounded = (size + PAGE - 1) / PAGE * PAGE;
    void *bytes = aligned_alloc(PAGE, rounded ? rounded : PAGE);
    require(bytes != NULL, "out of memory");
    memset(bytes, 0, rounded);
    return bytes;
}

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Helpers sleep between passes, and meet before one: their wake-up is not
 * measured. Who waits yields, as other processes may want the processor. */
static struct {
    pthread_t threads[THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t go;
    unsigned generation; /* of passes, under the lock */
    _Atomic unsigned ready, done;
    pass *run;
    void *ctx;
    size_t first, count;
    unsigned started;
    cpu_set_t allowed;
    double starts[THREADS_MAX], ends[THREADS_MAX];
} crew = {.lock = PTHREAD_MUTEX_INITIALIZER, .go = PTHREAD_COND_INITIALIZER};

struct helper {
    unsigned thread_no;
};

static void await(const _Atomic unsigned *value, unsigned wanted)
{
    while (atomic_load(value) < wanted)
        sched_yield();
}

/* Each thread on a processor of its own: woken by one another they would
 * share one for longer than a pass takes. */
static void take_processor(unsigned thread_no)
{
    cpu_set_t one;
    unsigned seen = 0;

    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &crew.allowed) || seen++ != thread_no)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
    }
}

static void take_part(unsigned thread_no)
{
    take_processor(thread_no);
    atomic_fetch_add(&crew.ready, 1);
    await(&crew.ready, crew.started + 1);
    crew.starts[thread_no] = now_ns();
    crew.run(crew.ctx, crew.first + thread_no * crew.count, crew.count, thread_no);
    crew.ends[thread_no] = now_ns();
}

static void *helper_main(void *argument)
{
    unsigned thread_no = ((struct helper *)argument)->thread_no;
    unsigned seen = 0;

    for (;;) {
        pthread_mutex_lock(&crew.lock);
        while (crew.generation == seen)
            pthread_cond_wait(&crew.go, &crew.lock);
        seen++;
        pthread_mutex_unlock(&crew.lock);
        take_part(thread_no);
        atomic_fetch_add(&crew.done, 1);
    }
    return NULL;
}

static void start_crew(void)
{
    static struct helper helpers[THREADS_MAX];

    if (crew.started == 0)
        require(sched_getaffinity(0, sizeof crew.allowed, &crew.allowed) == 0, "no processors");
    while (crew.started + 1 < THREADS_MAX) {
        struct helper *helper = &helpers[crew.started];
        helper->thread_no = crew.started + 1;
        require(pthread_create(&crew.threads[crew.started], NULL, helper_main, helper) == 0,
                "no thread");
        crew.started++;
    }
}

/* Returns the wall time from the first thread's start to the last one's end. */
static double timed(pass *run, void *ctx, size_t first, size_t count, unsigned threads)
{
    double start, end;

    if (threads == 1) {
        start = now_ns();
        run(ctx, first, count, 0);
        return now_ns() - start;
    }
    start_crew();
    crew.run = run;
    crew.ctx = ctx;
    crew.first = first;
    crew.count = count;
    atomic_store(&crew.ready, 0);
    atomic_store(&crew.done, 0);
    pthread_mutex_lock(&crew.lock);
    crew.generation++;
    pthread_cond_broadcast(&crew.go);
    pthread_mutex_unlock(&crew.lock);
    take_part(0);
    await(&crew.done, crew.started);
    (void)sched_setaffinity(0, sizeof crew.allowed, &crew.allowed);
    start = crew.starts[0];
    end = crew.ends[0];
    for (unsigned k = 1; k <= crew.started; k++) {
        start = crew.starts[k] < start ? crew.starts[k] : start;
        end = crew.ends[k] > end ? crew.ends[k] : end;
    }
    return end - start;
}

void run_threads(pass *run, void *ctx, size_t first, size_t count, unsigned threads)
{
    (void)timed(run, ctx, first, count, threads);
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

void compare(const struct arm *arms, size_t arm_count, size_t order_size, size_t chunk,
             unsigned rounds, struct result *results)
{
    size_t spans = order_size / (chunk * THREADS_MAX);
    double *ns = allocate(sizeof(double) * arm_count * rounds);
    double *column = allocate(sizeof(double) * rounds);

    require(spans > 0 && rounds > 0 && rounds <= ROUNDS_MAX, "too few pages or rounds");
    for (size_t k = 0; k < arm_count; k++) /* warm up: tables, coders, the clock's speed */
        (void)timed(arms[k].run, arms[k].ctx, 0, chunk, arms[k].threads);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t turn = 0; turn < arm_count; turn++) {
            size_t k = (turn + round) % arm_count;
            size_t span = (round + k * (spans / arm_count + 1)) % spans;
            double took = timed(arms[k].run, arms[k].ctx, span * chunk * THREADS_MAX, chunk,
                                arms[k].threads);
            ns[k * rounds + round] = took / (double)(chunk * arms[k].threads);
        }
    }
    for (size_t k = 0; k < arm_count; k++) {
        const double *mine = ns + k * rounds;
        for (unsigned i = 0; i < rounds; i++)
            column[i] = mine[i] / ns[i];
        results[k].ratio = median(column, rounds);
        for (unsigned i = 0; i < rounds; i++)
            column[i] = mine[i] - ns[i];
        results[k].extra_ns = median(column, rounds);
        memcpy(column, mine, sizeof(double) * rounds);
        results[k].ns = median(column, rounds);
    }
    free(ns);
    free(column);
}

void random_order(uint64_t *order, size_t count, uint64_t below, uint64_t seed)
{
    for (size_t i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        order[i] = (seed >> 33) % below;
    }
}

void report(const struct options *options, const char *group, const char *setting,
            const struct arm *arms, size_t arm_count, const struct result *results,
            double size_percent)
{
    static unsigned printed;

    for (size_t k = 0; k < arm_count; k++) {
        if (options->json)
            printf("%s{\"group\": \"%s\", \"setting\": \"%s\", \"arm\": \"%s\", \"threads\": %u, "
                   "\"ns_per_page\": %.1f, \"ratio\": %.4f, \"extra_ns\": %.1f, "
                   "\"size_percent\": %.2f}",
                   printed++ ? ",\n" : "", group, setting, arms[k].name, arms[k].threads,
                   results[k].ns, results[k].ratio, results[k].extra_ns, size_percent);
        else
            printf("%-7s %-28s %-22s %u  %9.0f ns  x %6.3f  %+8.0f ns  %6.2f %%\n", group, setting,
                   arms[k].name, arms[k].threads, results[k].ns, results[k].ratio,
                   results[k].extra_ns, size_percent);
    }
    fflush(stdout);
}

void image_load(struct image *image, const char *path, uint32_t filter_id)
{
    FILE *file = fopen(path, "rb");
    long size;

    require(file != NULL, "the image cannot be opened");
    require(fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0, "the image has no size");
    rewind(file);
    image->filter_id = filter_id;
    image->page_count = (size_t)size / PAGE;
    image->bytes = allocate(image->page_count * PAGE);
    require(fread(image->bytes, PAGE, image->page_count, file) == image->page_count,
            "the image cannot be read");
    fclose(file);
    image->distinct = allocate(image->page_count * sizeof *image->distinct);
    image->distinct_count = 0;
    for (size_t i = 0; i < image->page_count; i++) {
        uint64_t word;
        if (!pgs_same_filled(image->bytes + i * PAGE, PAGE, &word))
            image->distinct[image->distinct_count++] = i;
    }
    require(image->distinct_count >= 256, "the image has fewer than 256 pages worth measuring");
}

size_t dictionary_train(const struct image *image, uint32_t filter_id, bool tables, void *dict,
                        size_t size)
{
    unsigned char *pages = allocate(image->distinct_count * PAGE), *content = allocate(size);
    size_t content_size, made;

    for (size_t i = 0; i < image->distinct_count; i++) {
        uint64_t page_no = image->distinct[i];
        memcpy(pages + i * PAGE, image->bytes + page_no * PAGE, PAGE);
        require(!pgs_filter_apply(filter_id, pages + i * PAGE, PAGE, page_no * PAGE), "filter");
    }
    require(!pgs_dict_cover(pages, image->distinct_count, PAGE, content,
                            size - PGS_DICT_TABLES_MAX, &content_size),
            "no dictionary");
    if (tables) {
        require(!pgs_dict_add_tables(content, content_size, pages, image->distinct_count, PAGE,
                                     dict, size, &made),
                "no tables");
    } else {
        memcpy(dict, content, content_size);
        made = content_size;
    }
    free(pages);
    free(content);
    return made;
}

pgs_codec *codec_open(uint32_t codec_id, int level, uint32_t filter_id, const void *dict,
                      size_t dict_size)
{
    struct pgs_codec_params params = {.struct_size = sizeof params,
                                      .codec_id = codec_id,
                                      .level = level,
                                      .filter_id = filter_id,
                                      .page_size = PAGE,
                                      .dict_size = (uint32_t)dict_size,
                                      .dict = dict};
    pgs_codec *codec;

    require(!pgs_codec_open(&params, &codec), "the codec cannot be opened");
    return codec;
}
