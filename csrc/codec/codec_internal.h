/* SPDX-License-Identifier: MIT
 *
 * The seam between codec.c, which knows pages, filters and buffers, and the
 * algorithms, which know none of them.
 */
#ifndef PGS_CODEC_INTERNAL_H
#define PGS_CODEC_INTERNAL_H

#include "pagestep/codec.h"

#include <stdatomic.h>

enum {
    PGS_BUFFER_ALIGN = 64,
    PGS_PAGE_SIZE_MIN = 512,
    PGS_PAGE_SIZE_MAX = 65536,
    PGS_DICT_SIZE_MAX = 1 << 20
};

/* What an algorithm provides. Every int is 0 or a PGS_E_* code; hooks that
 * are NULL are skipped. `page` arguments hold codec->page_size bytes. */
struct pgs_codec_ops {
    int32_t level_min, level_max, level_default;
    int takes_dict;            /* else a dictionary is PGS_E_UNSUPPORTED */
    int is_filtered;           /* else the branch filter is never applied */
    uint32_t dict_reach_bytes; /* how far back a match can point */

    int (*codec_open)(pgs_codec *codec); /* sets codec->shared */
    void (*codec_close)(pgs_codec *codec);
    int (*coder_open)(pgs_coder *coder); /* sets coder->state */
    void (*coder_close)(pgs_coder *coder);
    size_t (*codec_memory)(const pgs_codec *codec);
    size_t (*coder_memory)(const pgs_coder *coder);

    /* Where there is a dictionary, `page` is coder->page: it lies directly
     * behind the dictionary, in the same array. */
    int (*encode)(pgs_coder *coder, const void *page, void *dst, size_t dst_cap,
                  size_t *dst_size_ret);
    int (*decode)(pgs_coder *coder, const void *src, size_t src_size, void *page);
};

struct pgs_codec {
    atomic_uint owners; /* who opened it, and its coders */
    const struct pgs_codec_ops *ops;
    uint32_t codec_id;
    int32_t level;
    uint32_t filter_id; /* PGS_FILTER_NONE where the algorithm is not filtered */
    uint32_t page_size;
    int only_decodes;    /* no coder encodes: no tables for that */
    uint32_t dict_size;  /* what of the dictionary is in reach */
    const unsigned char *dict; /* NULL where dict_size is 0 */
    unsigned char *own_dict;   /* the same, or NULL where it is the caller's */
    void *shared;
};

/* `window` is [dictionary][page] in one allocation, NULL where neither is
 * needed. Decoders are at their fastest when the dictionary ends where the
 * output begins: they then see one buffer instead of two. */
struct pgs_coder {
    const pgs_codec *codec;
    int encodes;
    unsigned char *window;
    size_t window_size;
    unsigned char *dict; /* within window, or NULL */
    unsigned char *page; /* within window, or NULL; PGS_BUFFER_ALIGN aligned */
    void *state;
};

extern const struct pgs_codec_ops pgs_raw_ops;
extern const struct pgs_codec_ops pgs_same_ops;
extern const struct pgs_codec_ops pgs_lz4_ops;
extern const struct pgs_codec_ops pgs_zstd_ops;

/* Decodes a run of bytes of any size, coded as pages are, without a dictionary:
 * exactly dst_size bytes. PGS_E_CORRUPT, PGS_E_NOMEM. */
int pgs_zstd_decode_run(const void *src, size_t src_size, void *dst, size_t dst_size);

/* Bytes aligned to PGS_BUFFER_ALIGN; NULL where there are none. free() them. */
void *pgs_aligned_alloc(size_t size);

#endif
