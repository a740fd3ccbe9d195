/* SPDX-License-Identifier: MIT
 *
 * The freestanding reader with the host's codecs. Each coder set has a kit, and
 * so a struct pgs_rom, of its own, for a kit's context is what its decoders
 * work in. Codings that differ in their filter only share a coder: filters are
 * the kit's.
 */
#include "pagestep/rom_reader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec_internal.h"
#include "codec/filter_internal.h"
#include "codec/le.h"
#include "rom/rom_internal.h"
#include "store/backing.h"

enum { PAGES_PER_TURN = 16 };

struct coder_set {
    struct pgs_rom rom;
    struct pgs_rom_kit kit;
    pgs_coder *coders[PGS_ROM_CODING_COUNT_MAX]; /* by coding; NULL where none is needed */
    struct coder_set *next;
};

struct pgs_rom_reader {
    atomic_uint owners; /* who opened it, and backings over it */
    struct pgs_rom rom;
    unsigned char *ram; /* decoded dictionaries */
    size_t ram_size;
    pgs_codec *codecs[PGS_ROM_CODING_COUNT_MAX]; /* by coding; NULL where `first` has it */
    uint8_t first[PGS_ROM_CODING_COUNT_MAX]; /* coding of the same codec and dictionary */
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t is_free;
    struct coder_set *free_sets;
    uint64_t next_ticket, serving; /* of threads that want a set */
    uint32_t set_count;
    struct coder_set sets[];
};

/* -- the kit ------------------------------------------------------------------ */

static int same_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    (void)ctx, (void)coding_no, (void)dict;
    if (src_size != ROM_WORD_SIZE) /* of a coding or dictionary that names this codec */
        return PGS_E_CORRUPT;
    pgs_fill(out, out_size, pgs_load_le64(src));
    return PGS_OK;
}

static int lz4_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                      const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    const struct coder_set *set = ctx;
    if (coding_no == PGS_ROM_NO_CODING)
        return pgs_rom_lz4_decode(NULL, coding_no, src, src_size, dict, out, out_size);
    return pgs_decode(set->coders[coding_no], src, src_size, 0, out);
}

static int zstd_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                       const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    const struct coder_set *set = ctx;
    (void)dict;
    if (coding_no == PGS_ROM_NO_CODING)
        return pgs_zstd_decode_run(src, src_size, out, out_size);
    return pgs_decode(set->coders[coding_no], src, src_size, 0, out);
}

#define UNDO(name)                                                                                 \
    static void undo_##name(unsigned char *bytes, size_t size, uint32_t address)                   \
    {                                                                                              \
        pgs_filter_##name.undo(bytes, size, address);                                              \
    }
UNDO(x86)
UNDO(arm)
UNDO(thumb)
UNDO(arm64)
UNDO(riscv)

static const struct pgs_rom_kit kit_of_host = {
    .decode = {[PGS_CODEC_RAW] = pgs_rom_raw_decode,
               [PGS_CODEC_SAME] = same_decode,
               [PGS_CODEC_LZ4] = lz4_decode,
               [PGS_CODEC_ZSTD] = zstd_decode},
    .undo = {[PGS_FILTER_NONE] = pgs_rom_undo_none,
             [PGS_FILTER_X86] = undo_x86,
             [PGS_FILTER_ARM] = undo_arm,
             [PGS_FILTER_THUMB] = undo_thumb,
             [PGS_FILTER_ARM64] = undo_arm64,
             [PGS_FILTER_RISCV] = undo_riscv},
};

/* -- opening ------------------------------------------------------------------ */

static const unsigned char *coding_at(const pgs_rom_reader *reader, uint32_t coding_no)
{
    return reader->rom.tables[PGS_ROM_CODINGS].at + (size_t)ROM_CODING_SIZE * coding_no;
}

/* Only codings that a slot uses were checked by pgs_rom_open. */
static bool needs_codec(const pgs_rom_reader *reader, uint32_t coding_no)
{
    const unsigned char *coding = coding_at(reader, coding_no);
    unsigned codec_id = coding[ROM_CODING_CODEC_AT], dict_no = coding[ROM_CODING_DICT_NO_AT];
    return (codec_id == PGS_CODEC_LZ4 || codec_id == PGS_CODEC_ZSTD) &&
           (dict_no == ROM_NO_DICT || dict_no < reader->rom.tables[PGS_ROM_DICTS].count);
}

static uint8_t first_like(const pgs_rom_reader *reader, uint32_t coding_no)
{
    const unsigned char *coding = coding_at(reader, coding_no), *other;
    uint32_t i = 0;
    for (; other = coding_at(reader, i), i != coding_no; i++)
        if (other[ROM_CODING_CODEC_AT] == coding[ROM_CODING_CODEC_AT] &&
            other[ROM_CODING_DICT_NO_AT] == coding[ROM_CODING_DICT_NO_AT])
            break;
    return (uint8_t)i;
}

static int open_codec(pgs_rom_reader *reader, uint32_t coding_no)
{
    const unsigned char *coding = coding_at(reader, coding_no);
    struct pgs_codec_params params = {.struct_size = sizeof params,
                                      .codec_id = coding[ROM_CODING_CODEC_AT],
                                      .level = -1,
                                      .page_size = reader->rom.page_size};
    reader->first[coding_no] = first_like(reader, coding_no);
    if (reader->first[coding_no] != coding_no)
        return PGS_OK;
    if (coding[ROM_CODING_DICT_NO_AT] != ROM_NO_DICT) {
        const struct pgs_rom_dict *dict = &reader->rom.dicts[coding[ROM_CODING_DICT_NO_AT]];
        params.dict = dict->bytes;
        params.dict_size = dict->size;
    }
    int error = pgs_codec_open_to_decode(&params, &reader->codecs[coding_no]);
    return error == PGS_E_INVALID ? PGS_E_ROM_DICT : error; /* tables that are none */
}

static int open_set(pgs_rom_reader *reader, struct coder_set *set)
{
    uint32_t coding_count = reader->rom.tables[PGS_ROM_CODINGS].count;
    int error = PGS_OK;
    set->kit = kit_of_host;
    set->kit.ctx = set;
    set->rom = reader->rom;
    set->rom.kit = &set->kit;
    for (uint32_t i = 0; i < coding_count && !error; i++) {
        if (reader->codecs[i])
            error = pgs_coder_open(reader->codecs[i], 0, &set->coders[i]);
        else if (needs_codec(reader, i))
            set->coders[i] = set->coders[reader->first[i]];
    }
    set->next = reader->free_sets;
    reader->free_sets = set;
    return error;
}

static int open_all(pgs_rom_reader *reader, const void *base, size_t size)
{
    int error = reader->ram ? PGS_OK : PGS_E_NOMEM;
    if (!error)
        error = pgs_rom_open(base, size, &kit_of_host, reader->ram, reader->ram_size, &reader->rom);
    for (uint32_t i = 0; !error && i < reader->rom.tables[PGS_ROM_CODINGS].count; i++)
        if (needs_codec(reader, i))
            error = open_codec(reader, i);
    for (uint32_t i = 0; !error && i < reader->set_count; i++)
        error = open_set(reader, &reader->sets[i]);
    return error;
}

int pgs_rom_reader_open(const void *base, size_t size, uint32_t coder_set_count,
                        pgs_rom_reader **reader_ret)
{
    size_t ram_size;
    *reader_ret = NULL;
    if (coder_set_count < 1 || coder_set_count > PGS_ROM_CODER_SETS_MAX)
        return PGS_E_INVALID;
    int error = pgs_rom_ram_size(base, size, &ram_size);
    if (error)
        return error;
    pgs_rom_reader *reader =
        calloc(1, sizeof *reader + coder_set_count * sizeof(struct coder_set));
    if (!reader)
        return PGS_E_NOMEM;
    atomic_init(&reader->owners, 1);
    reader->set_count = coder_set_count;
    reader->ram_size = ram_size;
    reader->ram = pgs_aligned_alloc(ram_size ? ram_size : 1);
    pthread_mutex_init(&reader->lock, NULL);
    pthread_cond_init(&reader->is_free, NULL);
    error = open_all(reader, base, size);
    if (error)
        pgs_rom_reader_close(reader);
    else
        *reader_ret = reader;
    return error;
}

void rom_reader_keep(pgs_rom_reader *reader)
{
    atomic_fetch_add(&reader->owners, 1);
}

void pgs_rom_reader_close(pgs_rom_reader *reader)
{
    if (!reader || atomic_fetch_sub(&reader->owners, 1) > 1)
        return;
    for (uint32_t i = 0; i < PGS_ROM_CODING_COUNT_MAX; i++) {
        for (uint32_t set = 0; set < reader->set_count && reader->codecs[i]; set++)
            pgs_coder_close(reader->sets[set].coders[i]);
        pgs_codec_close(reader->codecs[i]);
    }
    pthread_cond_destroy(&reader->is_free);
    pthread_mutex_destroy(&reader->lock);
    free(reader->ram);
    free(reader);
}

const struct pgs_rom *pgs_rom_reader_rom(const pgs_rom_reader *reader)
{
    return &reader->rom;
}

size_t pgs_rom_reader_memory_bytes(const pgs_rom_reader *reader)
{
    size_t bytes = sizeof *reader + reader->set_count * sizeof *reader->sets + reader->ram_size;
    for (uint32_t i = 0; i < PGS_ROM_CODING_COUNT_MAX; i++) {
        if (!reader->codecs[i])
            continue;
        bytes += pgs_codec_memory_bytes(reader->codecs[i]);
        for (uint32_t set = 0; set < reader->set_count; set++)
            bytes += pgs_coder_memory_bytes(reader->sets[set].coders[i]);
    }
    return bytes;
}

/* -- reading ------------------------------------------------------------------ */

/* In the order in which threads came: who gives a set back and wants another one
 * does not go before who waits. */
static struct coder_set *take_set(pgs_rom_reader *reader)
{
    pthread_mutex_lock(&reader->lock);
    uint64_t ticket = reader->next_ticket++;
    while (!reader->free_sets || ticket != reader->serving)
        pthread_cond_wait(&reader->is_free, &reader->lock);
    struct coder_set *set = reader->free_sets;
    reader->free_sets = set->next;
    if (++reader->serving != reader->next_ticket && reader->free_sets)
        pthread_cond_broadcast(&reader->is_free);
    pthread_mutex_unlock(&reader->lock);
    return set;
}

static void give_set(pgs_rom_reader *reader, struct coder_set *set)
{
    pthread_mutex_lock(&reader->lock);
    set->next = reader->free_sets;
    reader->free_sets = set;
    if (reader->serving != reader->next_ticket)
        pthread_cond_broadcast(&reader->is_free);
    pthread_mutex_unlock(&reader->lock);
}

int pgs_rom_reader_pages(pgs_rom_reader *reader, const uint64_t *page_nos, size_t count, void *out,
                         int32_t *statuses_ret)
{
    struct coder_set *set = take_set(reader);
    unsigned char *to = out;
    int first_error = PGS_OK;
    /* Others may wait for the set: they get their turn between any few pages. */
    for (size_t i = 0; i < count && (statuses_ret || !first_error); i++) {
        int error = PGS_E_RANGE;
        if (i % PAGES_PER_TURN == PAGES_PER_TURN - 1) {
            give_set(reader, set);
            set = take_set(reader);
        }
        if (page_nos[i] < reader->rom.page_count)
            error = pgs_rom_page(&set->rom, (uint32_t)page_nos[i], to);
        if (statuses_ret)
            statuses_ret[i] = error;
        if (!first_error)
            first_error = error;
        to += reader->rom.page_size;
    }
    give_set(reader, set);
    return first_error;
}

int pgs_rom_reader_page(pgs_rom_reader *reader, uint64_t page_no, void *out)
{
    return pgs_rom_reader_pages(reader, &page_no, 1, out, NULL);
}

int pgs_rom_reader_stored(const pgs_rom_reader *reader, uint64_t page_no, uint32_t *codec_id_ret,
                          uint32_t *size_ret)
{
    struct rom_place place;
    if (page_no >= reader->rom.page_count)
        return PGS_E_RANGE;
    int error = pgs_rom_locate(&reader->rom, (uint32_t)page_no, &place);
    if (error)
        return error;
    *codec_id_ret = place.coding[ROM_CODING_CODEC_AT];
    *size_ret = place.size;
    return PGS_OK;
}
