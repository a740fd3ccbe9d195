/* SPDX-License-Identifier: MIT
 *
 * The pool against a model: contents survive moves, claims are honoured, and
 * RAM taken stays within 5 % of the bytes stored.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pagestep/error.h"
#include "pool/pool.h"

enum { OBJECTS = 6000, STEPS = 300000 };

struct model {
    struct pool pool;
    pool_place place[OBJECTS];
    uint32_t size[OBJECTS]; /* 0: not there */
    unsigned char busy[OBJECTS];
    uint64_t charged, limit;
};

static bool claim(void *ctx, struct pool_key key)
{
    struct model *model = ctx;
    if (model->busy[key.page_no])
        return false;
    model->busy[key.page_no] = 1;
    return true;
}

static void release(void *ctx, struct pool_key key, pool_place place)
{
    struct model *model = ctx;
    model->busy[key.page_no] = 0;
    model->place[key.page_no] = place;
}

static bool charge(void *ctx, size_t bytes)
{
    struct model *model = ctx;
    if (model->charged + bytes > model->limit)
        return false;
    model->charged += bytes;
    return true;
}

static void uncharge(void *ctx, size_t bytes)
{
    ((struct model *)ctx)->charged -= bytes;
}

static struct model *model_new(uint64_t limit)
{
    struct model *model = calloc(1, sizeof *model);
    struct pool_owner owner = {model, claim, release, charge, uncharge};
    model->limit = limit;
    CHECK(pool_init(&model->pool, &owner, limit, 4096) == PGS_OK);
    return model;
}

static void model_free(struct model *model)
{
    pool_deinit(&model->pool);
    free(model);
}

static unsigned char tag(uint32_t i, uint32_t at)
{
    return (unsigned char)(i * 31 + at * 7 + (i >> 8));
}

static bool put(struct model *model, uint32_t i, uint32_t size)
{
    struct pool_growth growth = {.allowed = true};
    struct pool_key key = {.page_no = i, .object = 3};
    uint32_t got;
    model->busy[i] = 1;
    int error = pool_alloc(&model->pool, key, size, &growth, &model->place[i]);
    if (!error) {
        unsigned char *bytes = pool_bytes(&model->pool, model->place[i], &got);
        CHECK(got == size);
        for (uint32_t at = 0; at < size; at++)
            bytes[at] = tag(i, at);
        model->size[i] = size;
    }
    model->busy[i] = 0;
    return !error;
}

static void take(struct model *model, uint32_t i)
{
    uint32_t got;
    const unsigned char *bytes = pool_bytes(&model->pool, model->place[i], &got);
    CHECK(got == model->size[i]);
    for (uint32_t at = 0; at < got; at++)
        CHECK(bytes[at] == tag(i, at));
    model->busy[i] = 1;
    pool_free(&model->pool, model->place[i]);
    model->busy[i] = 0;
    model->size[i] = 0;
    if (pool_is_loose(&model->pool))
        pool_compact(&model->pool, 2);
}

static double overhead(struct model *model)
{
    return (double)model->pool.committed_bytes / (double)model->pool.stored_bytes - 1;
}

/* Pages of a kernel come out between a few hundred bytes and a whole page. */
static uint32_t random_size(struct noise *noise)
{
    uint32_t draw = noise_word(noise) % 100;
    if (draw < 3)
        return 1 + noise_word(noise) % 200;
    if (draw < 97)
        return 600 + noise_word(noise) % 2000;
    return 4096;
}

static void test_random_run(void)
{
    struct model *model = model_new(64 << 20);
    struct noise noise = noise_seeded();
    double worst = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t i = noise_word(&noise) % OBJECTS;
        if (model->size[i])
            take(model, i);
        else
            CHECK(put(model, i, random_size(&noise)));
        CHECK(model->charged == model->pool.committed_bytes);
        if (step > 20000 && overhead(model) > worst)
            worst = overhead(model);
    }
    printf("pool: worst overhead over bytes stored %.2f %%\n", worst * 100);
    CHECK(worst <= 0.05);
    for (uint32_t i = 0; i < OBJECTS; i++)
        if (model->size[i])
            take(model, i);
    CHECK(model->pool.object_bytes == 0 && model->pool.stored_bytes == 0);
    pool_compact(&model->pool, 0);
    CHECK(model->charged <= 2u * 4096);
    model_free(model);
}

/* After most objects went, the few that are left do not hold segments. */
static void test_gives_back(void)
{
    struct model *model = model_new(64 << 20);
    struct noise noise = noise_seeded();
    for (uint32_t i = 0; i < OBJECTS; i++)
        CHECK(put(model, i, random_size(&noise)));
    for (uint32_t i = 0; i < OBJECTS; i++)
        if (i % 16)
            take(model, i);
    printf("pool: overhead after a drain %.2f %%\n", overhead(model) * 100);
    CHECK(overhead(model) <= 0.05);
    model_free(model);
}

/* A busy object is never moved, and its neighbours may be. */
static void test_busy_stays(void)
{
    struct model *model = model_new(8 << 20);
    for (uint32_t i = 0; i < 500; i++)
        CHECK(put(model, i, 1000));
    for (uint32_t i = 0; i < 500; i += 2)
        if (i % 10)
            take(model, i);
    pool_place before = model->place[251];
    model->busy[251] = 1;
    pool_compact(&model->pool, 0);
    CHECK(model->place[251] == before);
    model->busy[251] = 0;
    for (uint32_t i = 0; i < 500; i++)
        if (model->size[i])
            take(model, i);
    model_free(model);
}

/* Growth stops at the budget; holes are then used to the last. */
static void test_budget(void)
{
    struct model *model = model_new(1 << 20);
    uint32_t i = 0;
    while (i < OBJECTS && put(model, i, 1500))
        i++;
    CHECK(i > (1u << 20) * 95 / 100 / 1512);
    CHECK(model->charged <= model->limit);
    for (uint32_t k = 0; k < i; k += 3)
        take(model, k);
    uint32_t refilled = 0;
    while (i < OBJECTS && put(model, i++, 1500))
        refilled++;
    CHECK(refilled >= i / 3 * 9 / 10 / 2);
    model_free(model);
}

int main(void)
{
    test_random_run();
    test_gives_back();
    test_busy_stays();
    test_budget();
    return 0;
}
