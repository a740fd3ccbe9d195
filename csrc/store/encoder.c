/* SPDX-License-Identifier: MIT */
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/store_internal.h"

/* A second encoder only where it is small beside the budget. */
enum { ENCODER_SHARE = 256, ENCODERS_PER_CODEC = 4 };

static size_t encoder_bytes(const pgs_store *store, const struct encoder *encoder)
{
    return (encoder->coder ? pgs_coder_memory_bytes(encoder->coder) : 0) +
           2 * (size_t)store->page_size;
}

static void encoder_free(struct encoder *encoder)
{
    pgs_coder_close(encoder->coder);
    free(encoder->page);
}

int encoder_open(pgs_store *store, struct worker *worker, const pgs_codec *codec,
                 struct encoder *encoder)
{
    *encoder = (struct encoder){.codec = codec};
    int error = codec ? pgs_coder_open(codec, 1, &encoder->coder) : PGS_OK;
    if (error)
        return error;
    encoder->page = aligned_alloc(CACHE_LINE, 2 * (size_t)store->page_size);
    error = encoder->page ? metadata_charge(store, worker, encoder_bytes(store, encoder))
                          : PGS_E_NOMEM;
    if (error)
        encoder_free(encoder);
    else
        encoder->coded = encoder->page + store->page_size;
    return error;
}

void encoder_close(pgs_store *store, struct encoder *encoder)
{
    metadata_uncharge(store, encoder_bytes(store, encoder));
    encoder_free(encoder);
}

/* One more for all threads to share. */
static int add_encoder(pgs_store *store, struct worker *worker, const pgs_codec *codec,
                       enum encoder_use use)
{
    struct encoder *encoder = &store->encoders[store->encoder_count];
    if (store->encoder_count == MAX_ENCODERS)
        return PGS_E_INVALID;
    int error = encoder_open(store, worker, codec, encoder);
    if (error)
        return error;
    encoder->use = use;
    atomic_fetch_add_explicit(&store->encoder_count, 1, memory_order_release);
    return PGS_OK;
}

static uint32_t count_of(const pgs_store *store)
{
    return atomic_load_explicit(&store->encoder_count, memory_order_acquire);
}

static bool has_encoder(const pgs_store *store, const pgs_codec *codec, enum encoder_use use)
{
    for (uint32_t i = 0; i < count_of(store); i++)
        if (store->encoders[i].codec == codec && store->encoders[i].use == use)
            return true;
    return false;
}

static int open_for_page_out(pgs_store *store, struct worker *worker, const pgs_codec *codec)
{
    int error = codec ? metadata_charge(store, worker, pgs_codec_memory_bytes(codec)) : PGS_OK;
    if (error)
        return error;
    error = add_encoder(store, worker, codec, FOR_PAGE_OUT);
    if (error) {
        metadata_uncharge(store, codec ? pgs_codec_memory_bytes(codec) : 0);
        return error;
    }
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t each = encoder_bytes(store, &store->encoders[count_of(store) - 1]);
    uint64_t budget = atomic_load_explicit(&store->budget_bytes, memory_order_relaxed);
    for (long i = 1; i < cpus && i < ENCODERS_PER_CODEC && each * ENCODER_SHARE <= budget; i++)
        if (add_encoder(store, worker, codec, FOR_PAGE_OUT))
            break;
    return PGS_OK;
}

int encoders_prepare(pgs_store *store, struct worker *worker, const pgs_codec *codec,
                     bool writes_back)
{
    int error = PGS_OK;
    if (!has_encoder(store, codec, FOR_PAGE_OUT))
        error = open_for_page_out(store, worker, codec);
    if (!error && writes_back && !has_encoder(store, codec, FOR_WRITE_BACK))
        error = add_encoder(store, worker, codec, FOR_WRITE_BACK);
    return error;
}

struct encoder *encoder_take(pgs_store *store, const pgs_codec *codec, enum encoder_use use)
{
    for (;;) {
        for (uint32_t i = 0; i < count_of(store); i++) {
            struct encoder *encoder = &store->encoders[i];
            if (encoder->codec == codec && encoder->use == use &&
                !atomic_load_explicit(&encoder->taken, memory_order_relaxed) &&
                !atomic_exchange_explicit(&encoder->taken, 1, memory_order_acquire))
                return encoder;
        }
        sched_yield();
    }
}

void encoder_give(struct encoder *encoder)
{
    atomic_store_explicit(&encoder->taken, 0, memory_order_release);
}

void encoders_close(pgs_store *store)
{
    for (uint32_t i = 0; i < count_of(store); i++)
        encoder_free(&store->encoders[i]);
}
