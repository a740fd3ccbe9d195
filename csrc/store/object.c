/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "store/backing.h"
#include "store/store_internal.h"

/* Page numbers must fit a frame's row and the pool's headers. */
static const uint64_t page_count_limit = UINT32_MAX;

/* How pages are treated until somebody says otherwise. */
static const uint64_t plain_data = (uint64_t)PGS_LEVEL_NORMAL << PAGE_LEVEL_SHIFT |
                                   (uint64_t)PGS_EFFORT_SETTLING << PAGE_EFFORT_SHIFT;

/* Reads a page once, to know what its backing gives: any later page-in must
 * give the same. Same-filled pages need not be asked for again. Pages of a ROM
 * image, or of blobs, are checked by these and would all have to be decoded, those of a file
 * elsewhere would all have to be fetched: they wait until they are asked for. What is wrong
 * with one of its repeated words shows then. */
static int learn_page(pgs_store *store, const struct pgs_object *object, uint64_t page_no,
                      uint64_t zero_sum, void *bytes)
{
    const struct pgs_backing *backing = &object->backing;
    struct page *page = &object->pages[page_no];
    uint64_t word = plain_data;
    uint32_t size, source = backing_source(backing, page_no, &size);
    int error = PGS_OK;
    bool late = source == PGS_SOURCE_ROM || source == PGS_SOURCE_SWAP ||
                (source == PGS_SOURCE_BACKING && backing->flags & PGS_BACKING_LEARN_LATE);
    if (source == PGS_SOURCE_ZERO) {
        atomic_init(&page->origin_sum, zero_sum);
    } else if (!late) {
        error = backing_page_in(store, backing, page_no, bytes);
        if (!error) {
            atomic_init(&page->origin_sum, pgs_checksum(bytes, store->page_size));
            if (pgs_same_filled(bytes, store->page_size, &page->fill))
                word |= PAGE_COPY | (uint64_t)CODING_SAME << PAGE_CODING_SHIFT;
        }
    }
    atomic_store_explicit(&page->word, word, memory_order_relaxed);
    return source == PGS_SOURCE_BACKING ? error : PGS_OK;
}

static int learn(pgs_store *store, struct pgs_object *object)
{
    struct encoder *encoder = encoder_take(store, object->codecs[PGS_EFFORT_FAST], FOR_PAGE_OUT);
    int error = PGS_OK;
    memset(encoder->page, 0, store->page_size);
    uint64_t zero_sum = pgs_checksum(encoder->page, store->page_size);
    for (uint64_t i = 0; i < object->page_count && !error; i++)
        error = learn_page(store, object, i, zero_sum, encoder->page);
    encoder_give(encoder);
    return error;
}

/* Anonymous: clean means all zeros. */
static void blank(pgs_store *store, struct pgs_object *object)
{
    struct encoder *encoder = encoder_take(store, object->codecs[PGS_EFFORT_FAST], FOR_PAGE_OUT);
    memset(encoder->page, 0, store->page_size);
    uint64_t sum = pgs_checksum(encoder->page, store->page_size);
    encoder_give(encoder);
    for (uint64_t i = 0; i < object->page_count; i++) {
        atomic_init(&object->pages[i].origin_sum, sum);
        atomic_store_explicit(&object->pages[i].word,
                              plain_data,
                              memory_order_relaxed);
    }
}

static int publish(pgs_store *store, struct pgs_object *object, uint32_t *object_ret)
{
    for (uint32_t i = 0; i < MAX_OBJECTS; i++) {
        struct pgs_object *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&store->objects[i], &none, object,
                                                    memory_order_release, memory_order_relaxed)) {
            *object_ret = i;
            return PGS_OK;
        }
    }
    return PGS_E_INVALID;
}

static uint64_t object_bytes(const struct pgs_object *object)
{
    return sizeof *object + object->page_count * sizeof *object->pages + object->backing_bytes;
}

static int object_new(pgs_store *store, struct worker *worker, const struct pgs_object *shape,
                      struct pgs_object **object_ret)
{
    int error = metadata_charge(store, worker, object_bytes(shape));
    if (error)
        return error;
    struct pgs_object *object = malloc(sizeof *object);
    struct page *pages = calloc(shape->page_count, sizeof *pages);
    if (!object || !pages) {
        free(object);
        free(pages);
        metadata_uncharge(store, object_bytes(shape));
        return PGS_E_NOMEM;
    }
    *object = *shape;
    object->pages = pages;
    *object_ret = object;
    return PGS_OK;
}

static void object_free(pgs_store *store, struct pgs_object *object)
{
    metadata_uncharge(store, object_bytes(object));
    free(object->pages);
    free(object);
}

int pgs_object_add(pgs_store *store, uint64_t page_count, uint64_t base_address,
                   const struct pgs_backing *backing, const pgs_codec *codec, uint32_t *object_ret)
{
    if (page_count == 0 || page_count > page_count_limit)
        return PGS_E_INVALID;
    if (codec && pgs_codec_page_size(codec) != store->page_size)
        return PGS_E_INVALID;
    if (backing && (backing->struct_size != sizeof *backing || !backing->page_in))
        return PGS_E_INVALID;
    struct pgs_object shape = {
        .page_count = page_count, .base_address = base_address, .codecs = {codec}};
    if (backing) {
        shape.backing = *backing;
        shape.backing_bytes = backing_memory_bytes(backing);
    }
    int error = section_may_page(store);
    if (error)
        return error;
    pthread_mutex_lock(&store->object_lock);
    struct worker *worker = worker_take(store);
    struct pgs_object *object = NULL;
    error = encoders_prepare(store, worker, codec, backing && backing->page_out);
    if (!error)
        error = object_new(store, worker, &shape, &object);
    if (!error) {
        if (backing)
            error = learn(store, object);
        else
            blank(store, object);
        if (!error)
            error = publish(store, object, object_ret);
        if (error)
            object_free(store, object);
    }
    worker_give(worker);
    pthread_mutex_unlock(&store->object_lock);
    return error;
}

int pgs_object_add_codec(pgs_store *store, uint32_t object_no, const pgs_codec *codec)
{
    int error = section_may_page(store);
    if (error)
        return error;
    pthread_mutex_lock(&store->object_lock);
    struct worker *worker = worker_take(store);
    struct pgs_object *object = object_of(store, object_no);
    if (!object)
        error = PGS_E_RANGE;
    else if (!object->codecs[PGS_EFFORT_FAST] || object->codecs[PGS_EFFORT_BALANCED] ||
             object->codecs[PGS_EFFORT_FAST] == codec ||
             pgs_codec_page_size(codec) != store->page_size)
        error = PGS_E_INVALID;
    /* To code a page anew, what the first codec made is decoded. */
    if (!error)
        error = encoders_prepare(store, worker, object->codecs[PGS_EFFORT_FAST], true);
    if (!error)
        error = encoders_prepare(store, worker, codec, true);
    if (!error) {
        object->codecs[PGS_EFFORT_BALANCED] = codec;
        atomic_store_explicit(&store->settles, true, memory_order_relaxed);
    }
    worker_give(worker);
    pthread_mutex_unlock(&store->object_lock);
    return error;
}

int pgs_object_remove(pgs_store *store, uint32_t object_no)
{
    int error = section_may_page(store);
    if (error)
        return error;
    pthread_mutex_lock(&store->object_lock);
    struct pgs_object *object = object_of(store, object_no);
    error = object ? PGS_OK : PGS_E_RANGE;
    for (uint64_t i = 0; !error && i < object->page_count; i++)
        if (page_load(&object->pages[i]) & PAGE_PINS_MASK)
            error = PGS_E_PINNED;
    if (!error) {
        struct job job = {.store = store, .object = object, .object_no = object_no};
        for (uint64_t i = 0; i < object->page_count; i++) {
            job.page_no = (uint32_t)i;
            job.page = &object->pages[i];
            page_claim(store, job.page);
            page_empty(&job);
            page_publish(store, job.page, PAGE_HOT, 0);
        }
        atomic_store_explicit(&store->objects[object_no], NULL, memory_order_release);
        backing_close(store, &object->backing);
        object_free(store, object);
    }
    pthread_mutex_unlock(&store->object_lock);
    return error;
}
