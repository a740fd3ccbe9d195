/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "store/backing.h"
#include "store/family.h"

/* Page numbers must fit a frame's row and the pool's headers. */
static const uint64_t page_count_limit = UINT32_MAX;

/* How pages are treated until somebody says otherwise. */
enum { PLAIN_DATA = PGS_LEVEL_NORMAL + PGS_EFFORT_SETTLING * PGS_TREAT_EFFORT };

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
    uint64_t word = treatment_bits(PLAIN_DATA);
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

/* Of what it takes from the start; a family's table comes later. */
static uint64_t object_bytes(const struct pgs_object *object)
{
    uint64_t entries = object->backing.page_in && !object->anonymous
                           ? object->page_count * sizeof *object->pages
                           : sizeof *object->family;
    return sizeof *object + MEMBER_BYTES + entries + object->backing_bytes;
}

static void object_free(pgs_store *store, struct pgs_object *object)
{
    uint64_t table_bytes = object->family ? object->family->table_bytes : 0;
    metadata_uncharge(store, object_bytes(object) + table_bytes);
    family_free(object->family);
    free(object->pages);
    free(object);
}

static int object_new(pgs_store *store, struct worker *worker, const struct pgs_object *shape,
                      uint8_t treatment, struct pgs_object **object_ret)
{
    int error = metadata_charge(store, worker, object_bytes(shape));
    if (error)
        return error;
    struct pgs_object *object = malloc(sizeof *object);
    if (!object) {
        metadata_uncharge(store, object_bytes(shape));
        return PGS_E_NOMEM;
    }
    *object = *shape;
    if (object->anonymous)
        error = family_new(store, treatment_bits(treatment), &object->family);
    else if (!(object->pages = calloc(shape->page_count, sizeof *object->pages)))
        error = PGS_E_NOMEM;
    else
        error = learn(store, object);
    if (error)
        object_free(store, object);
    else
        *object_ret = object;
    return error;
}

static int add(pgs_store *store, const struct pgs_object *shape, uint8_t treatment,
               uint32_t *object_ret)
{
    const pgs_codec *codec = shape->codecs[PGS_EFFORT_FAST];
    if (shape->page_count == 0 || shape->page_count > page_count_limit)
        return PGS_E_INVALID;
    if (codec && pgs_codec_page_size(codec) != store->page_size)
        return PGS_E_INVALID;
    struct worker *worker;
    int error = change_begin(store, &worker);
    if (error)
        return error;
    struct pgs_object *object = NULL;
    struct member *member;
    uint32_t object_no;
    error = encoders_prepare(store, worker, codec, shape->backing.page_out);
    if (!error)
        error = object_new(store, worker, shape, treatment, &object);
    if (!error) {
        error = publish(store, object, &object_no);
        if (!error)
            error = member_new(store, object, object_no, shape->page_count, &member);
        if (!error) {
            *object_ret = member->number;
            if (object->family)
                member_link(object->family, member);
            member_join(store, member);
        } else {
            object_free(store, object);
        }
    }
    change_end(store, worker);
    return error;
}

static int shape_backing(const struct pgs_backing *backing, struct pgs_object *shape)
{
    if (!backing)
        return PGS_OK;
    if (backing->struct_size != sizeof *backing || !backing->page_in)
        return PGS_E_INVALID;
    shape->backing = *backing;
    shape->backing_bytes = backing_memory_bytes(backing);
    shape->backing_pages = backing->capacity ? backing->capacity(backing->ctx) : UINT64_MAX;
    return PGS_OK;
}

int pgs_object_add(pgs_store *store, uint64_t page_count, uint64_t base_address,
                   const struct pgs_backing *backing, const pgs_codec *codec, uint32_t *object_ret)
{
    struct pgs_object shape = {.page_count = page_count, .base_address = base_address,
                               .codecs = {codec}, .anonymous = !backing};
    int error = shape_backing(backing, &shape);
    return error ? error : add(store, &shape, PLAIN_DATA, object_ret);
}

int pgs_anonymous_add(pgs_store *store, uint64_t page_count, uint32_t treatment,
                      const struct pgs_backing *backing, const pgs_codec *codec,
                      uint32_t *object_ret)
{
    struct pgs_object shape = {.page_count = page_count, .codecs = {codec}, .anonymous = true};
    if (treatment >= PGS_TREAT_END || !is_treatment((uint8_t)treatment) ||
        (treatment & PGS_TREAT_LEVEL_MASK) == PGS_LEVEL_PINNED)
        return PGS_E_INVALID;
    int error = shape_backing(backing, &shape);
    return error ? error : add(store, &shape, (uint8_t)treatment, object_ret);
}

int pgs_object_add_codec(pgs_store *store, uint32_t number, const pgs_codec *codec)
{
    struct worker *worker;
    int error = change_begin(store, &worker);
    if (error)
        return error;
    const struct member *member = member_of(store, number);
    struct pgs_object *object = member ? member->object : NULL;
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
    change_end(store, worker);
    return error;
}

int check_unpinned(struct job *job, uint64_t first, uint64_t end)
{
    struct member *member = job->member;
    for (uint64_t i = member_next(member, first, end); i < end;
         i = member_next(member, i + 1, end))
        if (job_select(job, i) && page_is_pinned_here(job))
            return PGS_E_PINNED;
    return PGS_OK;
}

/* Takes all that the pages of a member have from `first` up to before `end`. */
static void give_up(struct job *job, uint64_t first, uint64_t end)
{
    struct member *member = job->member;
    for (uint64_t i = member_next(member, first, end); i < end;
         i = member_next(member, i + 1, end)) {
        /* A break by another member may move it. */
        while (job_select(job, i)) {
            page_claim(job->store, job->page);
            if (!job->object->family || member_slot(member, job->member_page) == job->page_no)
                break;
            page_publish(job->store, job->page, 0, 0);
        }
        if (!job->page)
            continue;
        if (job->object->family) {
            page_give_up(job);
        } else {
            page_empty(job);
            page_publish(job->store, job->page, PAGE_HOT, 0);
        }
    }
}

int pgs_object_remove(pgs_store *store, uint32_t number)
{
    int error = section_may_page(store);
    if (error)
        return error;
    struct pgs_object *gone = NULL;
    pthread_mutex_lock(&store->object_lock);
    struct member *member = member_of(store, number);
    error = member ? PGS_OK : PGS_E_RANGE;
    if (!error) {
        struct job job = job_of(store, member);
        uint64_t pages = member_pages(member);
        error = member->map ? PGS_E_MAPPED : check_unpinned(&job, 0, pages);
        if (!error) {
            give_up(&job, 0, pages);
            struct pgs_object *object = member->object;
            uint32_t object_no = member->object_no;
            if (member_leave(store, member)) {
                atomic_store_explicit(&store->objects[object_no], NULL, memory_order_release);
                gone = object;
            }
        }
    }
    pthread_mutex_unlock(&store->object_lock);
    if (gone) {
        /* It may take as long as its deadline: others need not wait for that. */
        backing_close(store, &gone->backing);
        object_free(store, gone);
    }
    return error;
}

/* Pages beyond the end are no pages to anybody before they are given up. */
static int resize(pgs_store *store, struct worker *worker, struct member *member,
                  uint64_t page_count)
{
    struct job job = job_of(store, member);
    uint64_t before = member_pages(member);
    int error = member_grow(store, worker, member, page_count);
    if (error)
        return error;
    member_set_pages(member, page_count);
    error = check_unpinned(&job, page_count, before);
    if (error)
        member_set_pages(member, before);
    else
        give_up(&job, page_count, before);
    return error;
}

int pgs_object_resize(pgs_store *store, uint32_t number, uint64_t page_count)
{
    if (page_count == 0 || page_count > page_count_limit)
        return PGS_E_INVALID;
    struct worker *worker;
    int error = change_begin(store, &worker);
    if (error)
        return error;
    struct member *member = member_of(store, number);
    if (!member)
        error = PGS_E_RANGE;
    else if (!member->object->family)
        error = PGS_E_UNSUPPORTED;
    else if (member->map)
        error = PGS_E_MAPPED;
    else
        error = resize(store, worker, member, page_count);
    change_end(store, worker);
    return error;
}
