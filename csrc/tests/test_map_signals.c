/* SPDX-License-Identifier: MIT
 *
 * Maps and what a process is: handlers of SIGBUS that were there before, touches in the handler of
 * another signal, and child processes. What must end at all is killed by SIGALRM if it does not.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "map_fixture.h"
#include "pagestep/discipline.h"

enum { PAGE = 4096, PAGES = 300, BUDGET = 700000, ENDS_S = 60, CALLS_MAX = 100, ENDLESS = 3,
       SIGNALS = 1000, PAUSE_US = 50, CHILDREN = 32, DESCRIPTORS_MAX = 256,
       LOOPERS = 2, LINES_EACH = 2 };

/* ThreadSanitizer calls handlers later, with SIGBUS blocked: there no touch can be served. */
#if defined(__SANITIZE_THREAD__)
enum { THREADS_ARE_CHECKED = 1 };
#else
enum { THREADS_ARE_CHECKED = 0 };
#endif

/* Sanitizers have locks that a fork leaves as they are, perhaps held by a thread of the parent's, a
 * map's that just starts among them: a child may wait for them for ever. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CAN_FORK = 0 };
#else
enum { CAN_FORK = 1 };
#endif

typedef void action(const struct way *way);

/* What waitpid says of a child process that does this. */
static int in_child(action *act, const struct way *way)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (!child) {
        const struct rlimit none = {0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(ENDS_S);
        act(way);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    return status;
}

static void store_of(struct fixture *fixture, const struct way *way)
{
    struct fixture_options options = {.page_count = PAGES, .budget_bytes = BUDGET,
                                      .codec_id = PGS_CODEC_LZ4, .pool_percent = 40,
                                      .writable = is_writable(way)};
    CHECK_EQ(fixture_open(fixture, &options), PGS_OK);
}

static pgs_map *mapped(struct fixture *fixture, const struct way *way)
{
    store_of(fixture, way);
    return map_of(fixture, fixture->object, way);
}

static volatile unsigned char *page_at(pgs_map *map, uint64_t page_no)
{
    return (unsigned char *)pgs_map_address(map) + page_no * PAGE;
}

/* Who was there before --------------------------------------------------------------- */

static struct sigaction seen; /* what raise_again took the place of */
static volatile sig_atomic_t calls;

/* Puts back what it saw and raises the signal again, as Python's faulthandler does. */
static void raise_again(int number)
{
    if (calls++ == 0)
        sigaction(number, &seen, NULL);
    if (calls > CALLS_MAX)
        _exit(ENDLESS);
    raise(number);
}

static void put_over(void)
{
    struct sigaction action = {.sa_handler = raise_again, .sa_flags = SA_NODEFER};
    CHECK_EQ(sigaction(SIGBUS, &action, &seen), 0);
}

/* A fault that is of no map: a file that has become shorter. */
static void touch_beyond(void)
{
    int file = memfd_create("shorter", 0);
    CHECK(file >= 0 && ftruncate(file, PAGE) == 0);
    volatile char *bytes = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file, 0);
    CHECK(bytes != MAP_FAILED);
    CHECK_EQ(ftruncate(file, 0), 0);
    (void)bytes[0];
}

static void first_there_then_map(const struct way *way)
{
    struct fixture fixture;
    signal(SIGBUS, SIG_DFL); /* a sanitizer's may be there */
    put_over();
    CHECK_EQ(page_at(mapped(&fixture, way), 1)[1], fixture_shadow(&fixture, 1)[1]);
    touch_beyond();
}

/* It has seen the map's, and the next map's is put over it. */
static pgs_map *mapped_over(struct fixture *fixture, const struct way *way)
{
    signal(SIGBUS, SIG_DFL);
    pgs_map *map = mapped(fixture, way);
    put_over();
    pgs_map_close(map);
    return map_of(fixture, fixture->object, way);
}

static void between_two_maps(const struct way *way)
{
    struct fixture fixture;
    pgs_map *map = mapped_over(&fixture, way);
    CHECK_EQ(page_at(map, 1)[1], fixture_shadow(&fixture, 1)[1]);
    touch_beyond();
}

static void between_two_maps_of_one_that_fails(const struct way *way)
{
    struct fixture fixture;
    pgs_map *map = mapped_over(&fixture, way);
    fake_set(&fixture.fake, FAKE_EIO, 7);
    (void)page_at(map, 7)[0];
}

static void after_all_maps(const struct way *way)
{
    struct fixture fixture;
    signal(SIGBUS, SIG_DFL);
    pgs_map *map = mapped(&fixture, way);
    put_over();
    pgs_map_close(map);
    touch_beyond();
}

static void who_raises_again_ends_it(const struct way *way)
{
    static action *const actions[] = {first_there_then_map, between_two_maps,
                                      between_two_maps_of_one_that_fails, after_all_maps};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        int status = in_child(actions[i], way);
        CHECK(WIFSIGNALED(status));
        CHECK_EQ(WTERMSIG(status), SIGBUS);
    }
}

/* Who lets the touch fail again and again -------------------------------------------- */

static void mend_nothing(int number)
{
    (void)number;
}

static void block_sigbus(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGBUS);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
}

static pgs_map *failing(struct fixture *fixture, const struct way *way, void (*handler)(int))
{
    signal(SIGBUS, handler);
    pgs_map *map = mapped(fixture, way);
    fake_set(&fixture->fake, FAKE_EIO, UINT64_MAX);
    return map;
}

static void handler_mends_nothing(const struct way *way)
{
    struct fixture fixture;
    (void)page_at(failing(&fixture, way, mend_nothing), 7)[0];
}

static void nobody_listens(const struct way *way)
{
    struct fixture fixture;
    (void)page_at(failing(&fixture, way, SIG_IGN), 7)[0];
}

static void toucher_blocks_it(const struct way *way)
{
    struct fixture fixture;
    pgs_map *map = failing(&fixture, way, SIG_DFL);
    block_sigbus();
    (void)page_at(map, 7)[0];
}

static void *touch_one(void *at)
{
    (void)*(volatile unsigned char *)at;
    return NULL;
}

/* Their failures come in turns. */
static void handler_mends_nothing_of_several(const struct way *way)
{
    struct fixture fixture;
    pgs_map *map = failing(&fixture, way, mend_nothing);
    pthread_t threads[LOOPERS];
    for (int i = 0; i < LOOPERS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, touch_one, (void *)page_at(map, 7 + 50 * i)), 0);
    for (int i = 0; i < LOOPERS; i++)
        pthread_join(threads[i], NULL);
}

static int lines_of(int file)
{
    char text[4096];
    int lines = 0;
    struct stat stat;
    CHECK_EQ(fstat(file, &stat), 0);
    CHECK(stat.st_size < (off_t)sizeof text);
    CHECK_EQ(pread(file, text, (size_t)stat.st_size, 0), stat.st_size);
    for (off_t i = 0; i < stat.st_size; i++)
        lines += text[i] == '\n';
    return lines;
}

static void who_mends_nothing_ends_it(const struct way *way)
{
    static action *const actions[] = {handler_mends_nothing, nobody_listens, toucher_blocks_it,
                                      handler_mends_nothing_of_several};
    int told = dup(STDERR_FILENO);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        int said = memfd_create("said", 0);
        CHECK(dup2(said, STDERR_FILENO) >= 0);
        int status = in_child(actions[i], way);
        CHECK(dup2(told, STDERR_FILENO) >= 0);
        CHECK(WIFSIGNALED(status));
        CHECK_EQ(WTERMSIG(status), SIGBUS);
        CHECK(lines_of(said) <= LOOPERS * LINES_EACH);
        close(said);
    }
    close(told);
}

/* Another signal's handler ----------------------------------------------------------- */

static struct {
    struct fixture fixture;
    pgs_map *map;
    bool writes;
    pthread_t toucher;
    atomic_bool done;
    _Atomic unsigned handled;
} now;

static void touch_at(uint32_t draw)
{
    uint64_t page_no = draw % PAGES, at = draw / PAGES % (PAGE - 8);
    CHECK_EQ(page_at(now.map, page_no)[at], fixture_shadow(&now.fixture, page_no)[at]);
}

/* Writes where nobody else looks. */
static void on_signal(int number)
{
    (void)number;
    unsigned count = atomic_fetch_add(&now.handled, 1);
    uint32_t draw = count * 2654435761u;
    touch_at(draw);
    if (now.writes)
        page_at(now.map, draw % PAGES)[PAGE - 1]++;
}

static void *send_signals(void *ctx)
{
    (void)ctx;
    for (int i = 0; i < SIGNALS; i++) {
        CHECK_EQ(pthread_kill(now.toucher, SIGUSR1), 0);
        usleep(PAUSE_US);
    }
    atomic_store(&now.done, true);
    return NULL;
}

static void touch_in_handlers(const struct way *way)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct noise noise = noise_seeded();
    pthread_t sender;
    now.map = mapped(&now.fixture, way);
    now.writes = is_writable(way);
    now.toucher = pthread_self();
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(pthread_create(&sender, NULL, send_signals, NULL), 0);
    while (!atomic_load(&now.done))
        touch_at(noise_word(&noise));
    pthread_join(sender, NULL);
    CHECK(atomic_load(&now.handled) > 0);
    CHECK_EQ(stats_of(now.map).failures, 0);
    pgs_map_close(now.map);
    fixture_close(&now.fixture);
}

/* Child processes -------------------------------------------------------------------- */

struct parent {
    struct fixture fixture;
    pgs_map *map;
    uint32_t memory; /* another object, which can be forked, and is mapped now and then */
    const struct way *way;
    atomic_bool stop;
};

/* Holds, now and then, each lock of the store and of the map. */
static void *keep_busy(void *ctx)
{
    struct parent *parent = ctx;
    pgs_store *store = parent->fixture.store;
    struct noise noise = {7};
    struct way way = *parent->way;
    if (way.writes == PGS_MAP_WRITES_NOTED)
        way.writes = PGS_MAP_WRITES_FAULT;
    while (!atomic_load(&parent->stop)) {
        uint64_t page_no = noise_below(&noise, PAGES), unused;
        uint64_t guard = pgs_map_guard_begin(parent->map);
        CHECK_EQ(page_at(parent->map, page_no)[5], fixture_shadow(&parent->fixture, page_no)[5]);
        CHECK_EQ(pgs_map_guard_end(parent->map, guard, &unused), PGS_OK);
        CHECK_EQ(pgs_map_prefetch(parent->map, page_no, 1, 0, NULL), PGS_OK);
        CHECK_EQ(pgs_map_detach(parent->map, 0, PAGES), PGS_OK);
        CHECK_EQ(pgs_page_out(store, parent->fixture.object, &page_no, 1, NULL), PGS_OK);
        pgs_map *map = map_of(&parent->fixture, parent->memory, &way);
        (void)page_at(map, page_no)[0];
        pgs_map_close(map);
    }
    return NULL;
}

static void be_refused(const struct parent *parent)
{
    pgs_store *store = parent->fixture.store;
    uint32_t object = parent->fixture.object, child;
    struct pgs_map_params params = {.struct_size = sizeof params};
    uint64_t page_no = 3, written, failed;
    unsigned char page[PAGE] = {0};
    const void *view;
    pgs_map *map;
    CHECK_EQ(pgs_read(store, object, &page_no, 1, 0, page, NULL), PGS_E_FORKED);
    CHECK_EQ(pgs_write(store, object, &page_no, 1, page, NULL), PGS_E_FORKED);
    CHECK_EQ(pgs_pin(store, object, &page_no, 1), PGS_E_FORKED);
    CHECK_EQ(pgs_unpin(store, object, &page_no, 1), PGS_E_FORKED);
    CHECK_EQ(pgs_view(store, object, page_no, &view), PGS_E_FORKED);
    CHECK_EQ(pgs_page_out(store, object, &page_no, 1, NULL), PGS_E_FORKED);
    CHECK_EQ(pgs_flush(store, object, &written, &failed), PGS_E_FORKED);
    CHECK_EQ(pgs_object_fork(store, parent->memory, &child), PGS_E_FORKED);
    CHECK_EQ(pgs_object_remove(store, parent->memory), PGS_E_FORKED);
    CHECK_EQ(pgs_map_open(store, parent->memory, &params, &map), PGS_E_FORKED);
    CHECK_EQ(pgs_section_begin(store, PGS_SECTION_ATOMIC), PGS_E_FORKED);
}

static struct parent *of_child;

static void end_in_child(const struct way *way)
{
    be_refused(of_child);
    CHECK_EQ(pgs_map_prefetch(of_child->map, 0, 1, 0, NULL), PGS_E_FORKED);
    CHECK_EQ(pgs_map_detach(of_child->map, 0, 1), PGS_E_FORKED);
    CHECK_EQ(stats_of(of_child->map).service, way->service);
    pgs_map_close(of_child->map);
    be_refused(of_child);
    pgs_store_close(of_child->fixture.store);
}

/* It has stores and maps of its own then, which may lie where the parent's were. */
static void end_store_in_child(const struct way *way)
{
    struct fixture own;
    unsigned char page[PAGE];
    pgs_store_close(of_child->fixture.store);
    store_of(&own, way);
    for (uint64_t i = 0; i < PAGES; i++) {
        CHECK_EQ(pgs_read(own.store, own.object, &i, 1, 0, page, NULL), PGS_OK);
        CHECK_BYTES(page, fixture_shadow(&own, i), PAGE);
    }
    pgs_map *map = map_of(&own, own.object, way);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_BYTES((const void *)page_at(map, i), fixture_shadow(&own, i), PAGE);
    pgs_map_close(map);
    fixture_close(&own);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int descriptors_before;

static void close_store_alone(const struct way *way)
{
    (void)way;
    pgs_store_close(of_child->fixture.store);
    CHECK_EQ(open_descriptors(), descriptors_before);
}

static void close_map_then_store(const struct way *way)
{
    (void)way;
    pgs_map_close(of_child->map);
    int others[] = {dup(0), dup(0), dup(0), dup(0)}; /* with the numbers of the map's */
    pgs_store_close(of_child->fixture.store);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_EQ(close(others[i]), 0);
    CHECK_EQ(open_descriptors(), descriptors_before);
}

static void children_give_descriptors_back(const struct way *way)
{
    struct parent parent = {.way = way};
    descriptors_before = open_descriptors();
    parent.map = mapped(&parent.fixture, way);
    of_child = &parent;
    CHECK_EQ(in_child(close_store_alone, way), 0);
    CHECK_EQ(in_child(close_map_then_store, way), 0);
    pgs_map_close(parent.map);
    fixture_close(&parent.fixture);
}

static void children_have_nothing_of_it(const struct way *way)
{
    struct parent parent = {.way = way};
    pthread_t busy;
    parent.map = mapped(&parent.fixture, way);
    CHECK_EQ(pgs_anonymous_add(parent.fixture.store, PAGES, PGS_LEVEL_NORMAL, NULL,
                               parent.fixture.codec, &parent.memory), PGS_OK);
    CHECK_EQ(pthread_create(&busy, NULL, keep_busy, &parent), 0);
    of_child = &parent;
    for (int i = 0; i < CHILDREN; i++) {
        /* Of the latter half the parent is in the middle of a touch, most of the time. */
        if (i == CHILDREN / 2)
            fake_set(&parent.fixture.fake, FAKE_SLOW, UINT64_MAX);
        CHECK_EQ(in_child(i % 2 ? end_store_in_child : end_in_child, way), 0);
    }
    fake_set(&parent.fixture.fake, FAKE_NONE, 0);
    atomic_store(&parent.stop, true);
    pthread_join(busy, NULL);
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK_BYTES((const void *)page_at(parent.map, i), fixture_shadow(&parent.fixture, i), PAGE);
    pgs_map_close(parent.map);
    fixture_close(&parent.fixture);
}

static void all_of(const struct way *way)
{
    who_raises_again_ends_it(way);
    who_mends_nothing_ends_it(way);
    if (!THREADS_ARE_CHECKED)
        CHECK_EQ(in_child(touch_in_handlers, way), 0);
    if (!CAN_FORK)
        return;
    children_have_nothing_of_it(way);
    children_give_descriptors_back(way);
}

int main(void)
{
    in_every_way(all_of);
    return 0;
}
