/* SPDX-License-Identifier: MIT
 *
 * A worker is what a call needs of its own: coders, scratch, counters. A
 * thread takes one for each call, the same one as a rule, with one atomic
 * exchange.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

enum { ROOM_ALIGNMENT = 4096 };

struct worker *worker_take(pgs_store *store)
{
    uintptr_t self = (uintptr_t)pthread_self();
    unsigned start = (unsigned)((self >> 12) * 0x9E3779B1u >> 16);
    for (;;) {
        for (unsigned i = 0; i < MAX_WORKERS; i++) {
            struct worker *worker = &store->workers[(start + i) % MAX_WORKERS];
            if (!atomic_load_explicit(&worker->taken, memory_order_relaxed) &&
                !atomic_exchange_explicit(&worker->taken, 1, memory_order_acquire))
                return worker;
        }
        sched_yield();
    }
}

void worker_give(struct worker *worker)
{
    atomic_store_explicit(&worker->taken, 0, memory_order_release);
}

int change_begin(pgs_store *store, struct worker **worker_ret)
{
    int error = section_may_page(store);
    if (error)
        return error;
    pthread_mutex_lock(&store->object_lock);
    *worker_ret = worker_take(store);
    return PGS_OK;
}

void change_end(pgs_store *store, struct worker *worker)
{
    worker_give(worker);
    pthread_mutex_unlock(&store->object_lock);
}

void worker_retire(pgs_store *store, struct worker *worker)
{
    /* In an atomic section there are only hits. */
    struct counters *from = &worker->counters, *to = &store->retired;
    atomic_fetch_add_explicit(&to->reads, from->reads, memory_order_relaxed);
    atomic_fetch_add_explicit(&to->writes, from->writes, memory_order_relaxed);
    atomic_fetch_add_explicit(&to->hits, from->hits, memory_order_relaxed);
    free(worker->room);
    free(worker);
}

static void drop_decoder(pgs_store *store, struct decoder *decoder)
{
    if (!decoder->coder)
        return;
    metadata_uncharge(store, pgs_coder_memory_bytes(decoder->coder));
    pgs_coder_close(decoder->coder);
    *decoder = (struct decoder){0};
}

static bool object_has(const struct pgs_object *object, const pgs_codec *codec)
{
    for (unsigned i = 0; i < OBJECT_CODECS; i++)
        if (object->codecs[i] == codec)
            return true;
    return false;
}

/* A place for one more decoder: a free one, or that of a codec which the object does
 * not need. */
static struct decoder *place_for_decoder(pgs_store *store, struct worker *worker,
                                         const struct pgs_object *object)
{
    struct decoder *place = NULL;
    for (unsigned i = 0; i < WORKER_DECODERS; i++) {
        struct decoder *each = &worker->decoders[i];
        if (!each->codec)
            return each;
        if (!object_has(object, each->codec))
            place = each;
    }
    drop_decoder(store, place);
    return place;
}

static int add_decoder(pgs_store *store, struct worker *worker, const struct pgs_object *object,
                       const pgs_codec *codec)
{
    struct decoder *place = place_for_decoder(store, worker, object);
    pgs_coder *coder;
    int error = pgs_coder_open(codec, 0, &coder);
    if (error)
        return error;
    error = metadata_charge(store, worker, pgs_coder_memory_bytes(coder));
    if (error) {
        pgs_coder_close(coder);
        return error;
    }
    *place = (struct decoder){.codec = codec, .coder = coder};
    return PGS_OK;
}

int worker_prepare(pgs_store *store, struct worker *worker, const struct pgs_object *object)
{
    int error = PGS_OK;
    for (unsigned i = 0; i < OBJECT_CODECS && !error; i++)
        if (object->codecs[i] && !worker_decoder(worker, object->codecs[i]))
            error = add_decoder(store, worker, object, object->codecs[i]);
    return error;
}

pgs_coder *worker_decoder(const struct worker *worker, const pgs_codec *codec)
{
    for (unsigned i = 0; i < WORKER_DECODERS; i++)
        if (worker->decoders[i].codec == codec)
            return worker->decoders[i].coder;
    return NULL;
}

unsigned char *worker_room(pgs_store *store, struct worker *worker)
{
    if (!worker->room && metadata_charge(store, worker, store->room_bytes) == PGS_OK) {
        worker->room = aligned_alloc(ROOM_ALIGNMENT, store->room_bytes);
        if (!worker->room)
            metadata_uncharge(store, store->room_bytes);
    }
    return worker->room;
}

void workers_close(pgs_store *store)
{
    for (unsigned i = 0; i < MAX_WORKERS; i++) {
        for (unsigned k = 0; k < WORKER_DECODERS; k++)
            pgs_coder_close(store->workers[i].decoders[k].coder);
        free(store->workers[i].room);
    }
}
