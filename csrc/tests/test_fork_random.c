/* SPDX-License-Identifier: MIT
 *
 * Random steps on a tree of forks against a model, in which each page of each object is
 * a cell, and objects share cells until one writes. The core must give the same bytes, and have
 * a slot for each cell, and no other.
 *
 * usage: test_fork_random [steps [threads]]
 */
#include "fake_blobs.h"
#include "family_fixture.h"
#include "map_fixture.h"

enum { PAGE = 4096, MEMBERS = 16, PAGES_MAX = 160, SLOTS_MAX = 16384, ROOM = 100,
       CHECK_EVERY = 1000 };

struct cell {
    uint32_t owners;
    unsigned char bytes[PAGE];
};

struct tree_member {
    uint32_t object;
    uint32_t page_count;
    struct cell *cells[PAGES_MAX]; /* NULL: zeros */
    int viewed;                    /* a page number, or -1 */
    const unsigned char *view;
    pgs_map *map; /* or NULL */
};

struct tree {
    struct fixture *fixture;
    pgs_store *store;
    struct noise noise;
    uint64_t budget;
    unsigned count;
    struct tree_member *members[MEMBERS];
    uint64_t refused;
    int alone;
    const struct way *way; /* how members are mapped, or NULL */
};

static void drop_cell(struct cell **cell)
{
    if (*cell && --(*cell)->owners == 0)
        free(*cell);
    *cell = NULL;
}

/* The cell is to be written: it becomes the member's own. */
static struct cell *own_cell(struct tree_member *member, uint32_t page_no)
{
    struct cell *old = member->cells[page_no];
    if (old && old->owners == 1)
        return old;
    struct cell *own = calloc(1, sizeof *own);
    own->owners = 1;
    if (old) {
        memcpy(own->bytes, old->bytes, PAGE);
        old->owners--;
    }
    return member->cells[page_no] = own;
}

static uint32_t below(struct tree *tree, uint32_t limit)
{
    return (uint32_t)noise_below(&tree->noise, limit);
}

static struct tree_member *any_member(struct tree *tree)
{
    return tree->members[below(tree, tree->count)];
}

/* The outcome must be 0, or a refusal for want of RAM. */
static int went(struct tree *tree, int error)
{
    if (error == PGS_E_BUDGET)
        tree->refused++;
    else
        CHECK_EQ(error, PGS_OK);
    return !error;
}

static void check_bytes(const struct tree_member *member, uint32_t page_no,
                        const unsigned char *bytes)
{
    static const unsigned char zeros[PAGE];
    const struct cell *cell = member->cells[page_no];
    CHECK_BYTES(bytes, cell ? cell->bytes : zeros, PAGE);
}

static void check_view(const struct tree_member *member)
{
    if (member->viewed >= 0)
        check_bytes(member, (uint32_t)member->viewed, member->view);
}

static void step_read(struct tree *tree, uint32_t flags)
{
    struct tree_member *member = any_member(tree);
    uint32_t page_no = below(tree, member->page_count);
    unsigned char page[PAGE];
    if (went(tree, pgs_read_page(tree->store, member->object, page_no, flags, page)))
        check_bytes(member, page_no, page);
}

static void step_write(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    uint64_t page_no = below(tree, member->page_count);
    unsigned char page[PAGE];
    fixture_fill_page(page, PAGE, &tree->noise);
    if (went(tree, pgs_write(tree->store, member->object, &page_no, 1, page, NULL)))
        memcpy(own_cell(member, (uint32_t)page_no)->bytes, page, PAGE);
    check_view(member);
}

static void step_write_part(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    uint32_t page_no = below(tree, member->page_count), size = 1 + below(tree, 64);
    uint32_t offset = below(tree, PAGE - size);
    unsigned char bytes[64];
    noise_fill(&tree->noise, bytes, size);
    if (went(tree, pgs_write_part(tree->store, member->object, page_no, offset, bytes, size)))
        memcpy(own_cell(member, page_no)->bytes + offset, bytes, size);
    check_view(member);
}

static void step_discard(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    uint32_t first = below(tree, member->page_count), count = 1 + below(tree, 6);
    uint64_t forgotten;
    if (count > member->page_count - first)
        count = member->page_count - first;
    int viewed = member->viewed - (int)first;
    int held = member->viewed >= 0 && viewed >= 0 && viewed < (int)count;
    int error = pgs_forget(tree->store, member->object, first, count, &forgotten);
    CHECK_EQ(error, held ? PGS_E_PINNED : PGS_OK);
    CHECK_EQ(forgotten, count - (uint32_t)held);
    for (uint32_t i = first; i < first + count; i++)
        if ((int)i != member->viewed)
            drop_cell(&member->cells[i]);
    check_view(member);
}

static void step_fork(struct tree *tree)
{
    struct tree_member *from = any_member(tree), *to;
    if (tree->count == MEMBERS)
        return;
    to = malloc(sizeof *to);
    memcpy(to, from, sizeof *to);
    to->viewed = -1;
    to->map = NULL;
    if (!went(tree, pgs_object_fork(tree->store, from->object, &to->object))) {
        free(to);
        return;
    }
    for (uint32_t i = 0; i < to->page_count; i++)
        if (to->cells[i])
            to->cells[i]->owners++;
    tree->members[tree->count++] = to;
}

static void unview(struct tree *tree, struct tree_member *member)
{
    uint64_t page_no = (uint64_t)member->viewed;
    if (member->viewed < 0)
        return;
    check_view(member);
    CHECK_EQ(pgs_unpin(tree->store, member->object, &page_no, 1), PGS_OK);
    member->viewed = -1;
}

static void step_view(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    uint32_t page_no = below(tree, member->page_count);
    const void *view;
    if (member->viewed >= 0) {
        unview(tree, member);
        return;
    }
    uint32_t before = family_slot(tree->store, member->object, page_no);
    int error = pgs_view(tree->store, member->object, page_no, &view);
    /* A view has its page for itself, unless another has it by a fork that comes later. A page of
     * zeros that got a slot for it is a cell as well. */
    if (!error || (before != family_slot(tree->store, member->object, page_no)))
        own_cell(member, page_no);
    if (!went(tree, error))
        return;
    member->viewed = (int)page_no;
    member->view = view;
    check_view(member);
}

static void unmap(struct tree_member *member)
{
    pgs_map_close(member->map);
    member->map = NULL;
}

static void step_map(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    /* Nobody reads ahead: what is looked at from inside must be at rest. */
    if (member->map) {
        unmap(member);
        return;
    }
    int error = map_open_in(tree->store, member->object, tree->way, 1, &member->map);
    if (member->viewed >= 0)
        CHECK_EQ(error, PGS_E_PINNED);
    else
        went(tree, error);
}

static unsigned char *mapped_page(const struct tree_member *member, uint32_t page_no)
{
    return (unsigned char *)pgs_map_address(member->map) + (size_t)page_no * PAGE;
}

/* Copies under a guard; whether it could be served. */
static int copy_guarded(struct tree *tree, const struct tree_member *member, void *to,
                        const void *from, size_t size)
{
    uint64_t begun = pgs_map_guard_begin(member->map), page_no;
    memcpy(to, from, size);
    return went(tree, pgs_map_guard_end(member->map, begun, &page_no));
}

static uint32_t owners_of(const struct tree *tree, const struct tree_member *member, uint32_t slot)
{
    struct family *family = member_of(tree->store, member->object)->object->family;
    return table_owner(&family->table, slot)->count;
}

/* Where a page is pinned and shared, and there is no RAM for another, nothing can be put in its
 * place so that a write would come to its end. */
static int has_its_own(struct tree *tree, const struct tree_member *member, uint32_t page_no)
{
    return member->viewed != (int)page_no ||
           went(tree, pgs_map_prefetch(member->map, page_no, 1, 1, NULL));
}

static void step_touch(struct tree *tree, int writes)
{
    struct tree_member *member = any_member(tree);
    uint32_t page_no = below(tree, member->page_count), size = 1 + below(tree, 64);
    uint32_t offset = below(tree, PAGE - size);
    unsigned char bytes[PAGE];
    if (!member->map)
        return;
    uint32_t before = family_slot(tree->store, member->object, page_no);
    noise_fill(&tree->noise, bytes, size);
    if (!writes) {
        if (copy_guarded(tree, member, bytes, mapped_page(member, page_no), PAGE))
            check_bytes(member, page_no, bytes);
    } else if (has_its_own(tree, member, page_no) &&
               copy_guarded(tree, member, mapped_page(member, page_no) + offset, bytes, size)) {
        memcpy(own_cell(member, page_no)->bytes + offset, bytes, size);
    }
    /* A page that is viewed where it is, or a write that failed later, has got it its own. */
    const struct cell *cell = member->cells[page_no];
    uint32_t slot = family_slot(tree->store, member->object, page_no);
    if (cell && (slot != before || (cell->owners > 1 && owners_of(tree, member, slot) == 1)))
        own_cell(member, page_no);
    check_view(member);
}

static void step_mapped(struct tree *tree)
{
    uint32_t draw = below(tree, 20);
    struct tree_member *member = any_member(tree);
    if (draw == 0)
        step_map(tree);
    else if (draw == 1 && member->map)
        CHECK_EQ(pgs_map_detach(member->map, 0, member->page_count), PGS_OK);
    else
        step_touch(tree, draw % 2);
}

static void step_close(struct tree *tree)
{
    uint32_t at = below(tree, tree->count);
    struct tree_member *member = tree->members[at];
    if (tree->count == 1)
        return;
    if (member->map)
        CHECK_EQ(pgs_object_remove(tree->store, member->object), PGS_E_MAPPED);
    unmap(member);
    if (member->viewed >= 0)
        CHECK_EQ(pgs_object_remove(tree->store, member->object), PGS_E_PINNED);
    unview(tree, member);
    CHECK_EQ(pgs_object_remove(tree->store, member->object), PGS_OK);
    if (tree->alone) /* else another may have its number by now */
        CHECK_EQ(pgs_object_remove(tree->store, member->object), PGS_E_RANGE);
    for (uint32_t i = 0; i < member->page_count; i++)
        drop_cell(&member->cells[i]);
    free(member);
    tree->members[at] = tree->members[--tree->count];
}

static void step_resize(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    uint32_t pages = 1 + below(tree, PAGES_MAX);
    int error = pgs_object_resize(tree->store, member->object, pages);
    if (error == PGS_E_MAPPED)
        CHECK(member->map);
    else if (error == PGS_E_PINNED)
        CHECK(member->viewed >= (int)pages);
    else
        went(tree, error);
    if (error)
        return;
    for (uint32_t i = pages; i < member->page_count; i++)
        drop_cell(&member->cells[i]);
    for (uint32_t i = member->page_count; i < pages; i++)
        member->cells[i] = NULL;
    member->page_count = pages;
}

static void step_move(struct tree *tree, uint32_t which)
{
    struct tree_member *member = any_member(tree);
    uint64_t page_nos[8];
    int32_t statuses[8];
    for (size_t i = 0; i < 8; i++)
        page_nos[i] = below(tree, member->page_count);
    if (which == 0)
        pgs_page_out(tree->store, member->object, page_nos, 8, statuses);
    else if (which == 1)
        pgs_discard(tree->store, member->object, page_nos, 8, statuses);
    else
        pgs_page_in(tree->store, member->object, page_nos, 8, statuses);
    for (size_t i = 0; i < 8; i++)
        if (statuses[i] != PGS_E_PINNED && statuses[i] != PGS_E_DIRTY)
            went(tree, statuses[i]);
}

static void step_treat(struct tree *tree)
{
    struct tree_member *member = any_member(tree);
    uint64_t page_no = below(tree, member->page_count);
    uint8_t treatment = (uint8_t)(1 + below(tree, PGS_LEVEL_COUNT - 1));
    if (member->cells[page_no])
        went(tree, pgs_treat(tree->store, member->object, &page_no, &treatment, 1));
}

static void step_budget(struct tree *tree)
{
    uint64_t budget = tree->budget / 2 + noise_next(&tree->noise) % tree->budget;
    went(tree, pgs_store_set_budget(tree->store, budget));
}

static void step(struct tree *tree)
{
    uint32_t draw = below(tree, 100);
    if (tree->way && below(tree, 3))
        step_mapped(tree);
    else if (draw < 22)
        step_read(tree, draw % 2 ? PGS_READ_INTO_FRAME : PGS_READ_THROUGH);
    else if (draw < 45)
        step_write(tree);
    else if (draw < 58)
        step_write_part(tree);
    else if (draw < 66)
        step_discard(tree);
    else if (draw < 72)
        step_fork(tree);
    else if (draw < 77)
        step_close(tree);
    else if (draw < 82)
        step_view(tree);
    else if (draw < 84)
        step_resize(tree);
    else if (draw < 95)
        step_move(tree, draw % 3);
    else if (draw < 98)
        step_treat(tree);
    else
        step_budget(tree);
}

/* Each cell has a slot of its own, which all that share it refer to, and no other cell has. */
static void check_sharing(const struct tree *tree)
{
    const struct cell **cells = calloc(SLOTS_MAX, sizeof *cells);
    for (unsigned m = 0; m < tree->count; m++) {
        const struct tree_member *member = tree->members[m];
        for (uint32_t i = 0; i < member->page_count; i++) {
            const struct cell *cell = member->cells[i];
            uint32_t slot = family_slot(tree->store, member->object, i);
            if (!cell)
                continue;
            CHECK(slot < SLOTS_MAX);
            CHECK(!cells[slot] || cells[slot] == cell);
            cells[slot] = cell;
            if (tree->count > 1)
                CHECK_EQ(owners_of(tree, member, slot), cell->owners);
        }
    }
    free(cells);
}

/* What members say they have adds up to what the store says. */
static void check_statistics(const struct tree *tree)
{
    struct pgs_stats all = fixture_stats(tree->fixture);
    uint64_t private_bytes = 0, pages = 0, absent = 0, in_ram = 0;
    for (unsigned m = 0; m < tree->count; m++) {
        struct pgs_object_stats one;
        CHECK_EQ(pgs_object_stats(tree->store, tree->members[m]->object, &one), PGS_OK);
        CHECK_EQ(one.page_count, tree->members[m]->page_count);
        CHECK_EQ(one.member_count, tree->count);
        CHECK_EQ(one.page_count,
                 one.hot_pages + one.compressed_pages + one.same_pages + one.absent_pages);
        pages += one.page_count;
        absent += one.absent_pages;
        in_ram += one.page_count - one.absent_pages;
        private_bytes += one.private_bytes;
    }
    CHECK_EQ(all.page_count, pages);
    CHECK_EQ(all.absent_pages, absent);
    CHECK_EQ(all.hot_pages + all.compressed_pages + all.same_pages + all.shared_pages, in_ram);
    CHECK_EQ(all.private_bytes, private_bytes);
    CHECK_EQ(all.private_bytes + all.shared_bytes, all.hot_pages * PAGE + all.stored_bytes);
}

static void check_all(struct tree *tree)
{
    unsigned char page[PAGE];
    family_check(tree->store, tree->members[0]->object, SLOTS_MAX);
    check_sharing(tree);
    check_statistics(tree);
    for (unsigned m = 0; m < tree->count; m++)
        for (uint32_t i = 0; i < tree->members[m]->page_count; i++) {
            CHECK_EQ(pgs_read_page(tree->store, tree->members[m]->object, i, 0, page), PGS_OK);
            check_bytes(tree->members[m], i, page);
        }
    family_check(tree->store, tree->members[0]->object, SLOTS_MAX);
}

static void close_tree(struct tree *tree)
{
    while (tree->count > 1)
        step_close(tree);
    struct tree_member *last = tree->members[0];
    unview(tree, last);
    unmap(last);
    CHECK_EQ(pgs_object_remove(tree->store, last->object), PGS_OK);
    for (uint32_t i = 0; i < last->page_count; i++)
        drop_cell(&last->cells[i]);
    free(last);
}

static struct tree_member *plant(struct tree *tree, const struct fixture *fixture,
                                 const struct pgs_backing *backing)
{
    struct tree_member *root = calloc(1, sizeof *root);
    root->page_count = PAGES_MAX / 2;
    root->viewed = -1;
    CHECK_EQ(pgs_anonymous_add(tree->store, root->page_count, PGS_LEVEL_NORMAL, backing,
                               fixture->codec, &root->object), PGS_OK);
    return root;
}

static void open_store(struct fixture *fixture, uint64_t budget, uint32_t policy)
{
    struct fixture_options options = {.codec_id = PGS_CODEC_LZ4, .page_count = 1,
                                      .budget_bytes = budget, .pool_percent = 40, .anonymous = 1,
                                      .policy = policy, .flags = PGS_STORE_AUDIT};
    CHECK_EQ(fixture_open(fixture, &options), PGS_OK);
    CHECK_EQ(pgs_object_remove(fixture->store, fixture->object), PGS_OK);
}

static uint64_t fake_capacity(void *ctx)
{
    return ((const struct fake *)ctx)->page_count;
}

/* `room`: pages with numbers below it may go to a backing; 0: there is none. */
static void run_alone(uint64_t steps, uint32_t room, uint32_t policy, const struct way *way)
{
    int backed = room > 0;
    struct fixture fixture;
    struct tree tree = {.fixture = &fixture, .alone = 1, .budget = backed ? 512 << 10 : 640 << 10,
                        .noise = noise_seeded(), .way = way};
    struct fake fake = {.bytes = calloc(room + 1, PAGE), .page_count = room, .page_size = PAGE};
    struct pgs_backing backing = fake_backing(&fake, 1);
    backing.capacity = fake_capacity;
    open_store(&fixture, tree.budget, policy);
    uint64_t metadata = fixture_stats(&fixture).metadata_bytes;
    tree.store = fixture.store;
    tree.members[tree.count++] = plant(&tree, &fixture, backed ? &backing : NULL);
    for (uint64_t i = 1; i <= steps; i++) {
        step(&tree);
        if (i % CHECK_EVERY == 0)
            check_all(&tree);
    }
    struct pgs_stats stats = fixture_stats(&fixture);
    printf("room %u policy %u: %llu writes, %llu page-outs, %llu write-backs, %llu refused\n",
           room, policy, (unsigned long long)stats.writes, (unsigned long long)stats.page_outs,
           (unsigned long long)stats.writebacks, (unsigned long long)tree.refused);
    CHECK_EQ(stats.held_victims, 0);
    check_all(&tree);
    close_tree(&tree);
    family_check_gone(&fixture, metadata);
    CHECK_EQ(fake.closes, (uint64_t)backed);
    fixture_close(&fixture);
    free(fake.bytes);
}

/* -- several threads ---------------------------------------------------------------- */

struct actor {
    struct tree tree;
    uint64_t steps;
    uint32_t common; /* an object that nobody writes */
    const unsigned char *common_bytes;
};

/* Each has a tree of its own, whose root is a fork of what all read. */
static void *act(void *ctx)
{
    struct actor *actor = ctx;
    unsigned char page[PAGE];
    for (uint64_t i = 0; i < actor->steps; i++) {
        uint32_t page_no = below(&actor->tree, PAGES_MAX / 2);
        step(&actor->tree);
        if (went(&actor->tree,
                 pgs_read_page(actor->tree.store, actor->common, page_no, 0, page)))
            CHECK_BYTES(page, actor->common_bytes + (size_t)page_no * PAGE, PAGE);
    }
    return NULL;
}

static struct pgs_backing coded_backing(struct fake_blobs *fake, const pgs_codec *codec)
{
    struct pgs_coded_params params = {.struct_size = sizeof params, .page_size = PAGE,
                                      .page_count = ROOM, .buffer_pages = 16,
                                      .ahead_pages = 8, .deadline_ms = 10000,
                                      .flags = PGS_CODED_TEMPORARY};
    struct pgs_backing backing;
    fake_blobs_open(fake, ROOM, PAGE);
    struct pgs_blobs blobs = fake_blobs_of(fake);
    CHECK_EQ(pgs_backing_coded(&params, &blobs, NULL, codec, &backing), PGS_OK);
    return backing;
}

/* Over blobs there is less RAM than pages. */
static void run_together(uint64_t steps, unsigned threads, int swapped, const struct way *way)
{
    enum { THREADS_MAX = 16 };
    uint64_t budget = swapped ? 2 << 20 : 8 << 20;
    struct fake_blobs fake;
    struct fixture fixture;
    struct actor actors[THREADS_MAX] = {0};
    pthread_t ids[THREADS_MAX];
    struct noise noise = noise_seeded();
    struct tree first = {.noise = noise, .fixture = &fixture, .way = way};
    unsigned char *bytes = calloc(PAGES_MAX / 2, PAGE);
    CHECK(threads >= 1 && threads <= THREADS_MAX);
    open_store(&fixture, budget, PGS_POLICY_S3FIFO);
    first.store = fixture.store;
    struct pgs_backing backing = coded_backing(&fake, fixture.codec);
    struct tree_member *root = plant(&first, &fixture, swapped ? &backing : NULL);
    if (!swapped)
        backing.close(backing.ctx);
    for (uint64_t i = 0; i < root->page_count; i++) {
        fixture_fill_page(bytes + i * PAGE, PAGE, &noise);
        CHECK_EQ(pgs_write(fixture.store, root->object, &i, 1, bytes + i * PAGE, NULL), PGS_OK);
    }
    for (unsigned t = 0; t < threads; t++) {
        struct actor *actor = &actors[t];
        struct tree_member *own = calloc(1, sizeof *own);
        own->page_count = root->page_count;
        own->viewed = -1;
        for (uint32_t i = 0; i < own->page_count; i++)
            memcpy(own_cell(own, i)->bytes, bytes + (size_t)i * PAGE, PAGE);
        CHECK_EQ(pgs_object_fork(fixture.store, root->object, &own->object), PGS_OK);
        *actor = (struct actor){.tree = first, .steps = steps, .common = root->object,
                                .common_bytes = bytes};
        actor->tree.noise.state += t;
        actor->tree.budget = budget;
        actor->tree.members[actor->tree.count++] = own;
    }
    for (unsigned t = 0; t < threads; t++)
        CHECK_EQ(pthread_create(&ids[t], NULL, act, &actors[t]), 0);
    for (unsigned t = 0; t < threads; t++)
        pthread_join(ids[t], NULL);
    family_check(fixture.store, root->object, SLOTS_MAX);
    for (unsigned t = 0; t < threads; t++)
        for (unsigned m = 0; m < actors[t].tree.count; m++)
            for (uint32_t i = 0; i < actors[t].tree.members[m]->page_count; i++) {
                unsigned char page[PAGE];
                struct tree_member *member = actors[t].tree.members[m];
                CHECK_EQ(pgs_read_page(fixture.store, member->object, i, 0, page), PGS_OK);
                check_bytes(member, i, page);
            }
    CHECK_EQ(pgs_object_remove(fixture.store, root->object), PGS_OK);
    for (unsigned t = 0; t < threads; t++)
        close_tree(&actors[t].tree);
    family_check_gone(&fixture, 0);
    fixture_close(&fixture);
    CHECK_EQ(atomic_load(&fake.puts) > 0, swapped);
    fake_blobs_free(&fake);
    free(root);
    free(bytes);
}

int main(int argc, char **argv)
{
    uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000;
    unsigned threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 4;
    static const struct way *const mapped[] = {&ways[1], &ways[4], &ways[6]};
    run_alone(steps, 0, PGS_POLICY_S3FIFO, NULL);
    run_alone(steps / 4, SLOTS_MAX, PGS_POLICY_S3FIFO, NULL);
    run_alone(steps / 4, ROOM, PGS_POLICY_S3FIFO, NULL);
    run_alone(steps / 10, 0, PGS_POLICY_WORST, NULL);
    run_together(steps / threads, threads, 0, NULL);
    run_together(steps / threads / 4, threads, 1, NULL);
    for (int i = 0; i < 3; i++) {
        if (!has_way(mapped[i]))
            continue;
        run_alone(steps / 2, 0, PGS_POLICY_S3FIFO, mapped[i]);
        run_alone(steps / 10, ROOM, PGS_POLICY_S3FIFO, mapped[i]);
        run_alone(steps / 20, 0, PGS_POLICY_WORST, mapped[i]);
        run_together(steps / 4 / threads, threads, 0, mapped[i]);
        run_together(steps / 8 / threads, threads, 1, mapped[i]);
    }
    return 0;
}
