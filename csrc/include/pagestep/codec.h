/* SPDX-License-Identifier: MIT
 *
 * Codecs: one page in, fewer bytes out, and back. No I/O, no policy.
 *
 * A codec is an algorithm with its parameters, branch filter and dictionary.
 * It is immutable once open and may be shared by any number of threads. What
 * a thread needs to run it (match tables, a buffer behind the dictionary) is
 * a coder: one thread at a time, reused for every page.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_CODEC_H
#define PAGESTEP_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/ids.h"

typedef struct pgs_codec pgs_codec;
typedef struct pgs_coder pgs_coder;

struct pgs_codec_params {
    uint32_t struct_size; /* sizeof(struct pgs_codec_params) */
    uint32_t codec_id;    /* enum pgs_codec_id */
    int32_t level;        /* see enum pgs_codec_id; -1 for the codec's default */
    uint32_t filter_id;   /* enum pgs_filter_id */
    uint32_t page_size;   /* a power of two, 512 to 65536 */
    uint32_t dict_size;   /* bytes, 0 for none, at most 1 MiB */
    const void *dict;     /* copied; content, which may begin with zstd's tables */
};

/* Opens a codec.
 *
 * A dictionary that begins with zstd's magic number for dictionaries is taken
 * as tables and content by PGS_CODEC_ZSTD, which then need not send tables
 * with every page; its tables must be whole. To LZ4 all of it is content, of
 * which only the last 65,535 bytes are in reach.
 *
 * Errors: PGS_E_INVALID (unknown id, level or size out of range, damaged
 * tables), PGS_E_UNSUPPORTED (a dictionary for RAW or SAME), PGS_E_NOMEM. On
 * error *codec_ret is NULL. */
int pgs_codec_open(const struct pgs_codec_params *params, pgs_codec **codec_ret);

/* Opens a codec whose coders only decode. It takes no tables for encoding, and
 * no copy of the dictionary, which must outlive it. Errors as pgs_codec_open. */
int pgs_codec_open_to_decode(const struct pgs_codec_params *params, pgs_codec **codec_ret);

/* Opens a codec that differs from `codec` in its level only: each decodes what
 * the other encodes. Errors as pgs_codec_open. */
int pgs_codec_open_like(const pgs_codec *codec, int32_t level, pgs_codec **codec_ret);

/* Closes a codec, whose coders go on to work until they are closed. NULL is
 * accepted. */
void pgs_codec_close(pgs_codec *codec);

/* The page_size that the codec was opened with. */
uint32_t pgs_codec_page_size(const pgs_codec *codec);

/* Bytes of RAM that the codec itself takes: its dictionary and the tables
 * that all coders share. */
size_t pgs_codec_memory_bytes(const pgs_codec *codec);

/* Opens a coder: what one thread needs to run `codec`.
 * `encodes` says whether it will encode as well as decode; a coder that only
 * decodes is smaller. Errors: PGS_E_NOMEM, PGS_E_INVALID (the codec only
 * decodes). */
int pgs_coder_open(const pgs_codec *codec, int encodes, pgs_coder **coder_ret);

/* Closes a coder. NULL is accepted. */
void pgs_coder_close(pgs_coder *coder);

/* Bytes of RAM that the coder takes. */
size_t pgs_coder_memory_bytes(const pgs_coder *coder);

/* Encodes one page of the codec's page_size at `address` (the address of the
 * page's first byte as the branch filter sees it).
 *
 * *dst_size_ret is the number of bytes written, or 0 where the page does not
 * fit into dst_cap bytes: then store it raw. There is no bound to be asked
 * for: pass the size above which a raw page is better.
 * The bytes are the same for the same library version, whatever the coder did
 * before. Errors: PGS_E_INVALID (a coder that only decodes), PGS_E_NOMEM. */
int pgs_encode(pgs_coder *coder, const void *page, uint64_t address, void *dst, size_t dst_cap,
               size_t *dst_size_ret);

/* Decodes one page: the inverse of pgs_encode with the same parameters and
 * address. Writes exactly page_size bytes to `page`, or returns
 * PGS_E_CORRUPT; then what `page` holds is not specified. Reads nothing
 * outside src and writes nothing outside page, whatever the bytes of src. */
int pgs_decode(pgs_coder *coder, const void *src, size_t src_size, uint64_t address, void *page);

/* Encodes `page_count` pages that lie one after the other, the first at
 * `address`. Page i's bytes start at dst + i * dst_stride; sizes_ret[i] is as
 * *dst_size_ret above, with dst_stride as dst_cap. Stops at the first error. */
int pgs_encode_pages(pgs_coder *coder, const void *pages, size_t page_count, uint64_t address,
                     void *dst, size_t dst_stride, uint32_t *sizes_ret);

/* Decodes `page_count` pages: page i from src + offsets[i], sizes[i] bytes,
 * at addresses[i], into pages + i * page_size. Pages that do not decode get
 * PGS_E_CORRUPT in statuses_ret; the others 0. An extent outside src_size is
 * corrupt as well. Returns 0, or PGS_E_CORRUPT where any page was. */
int pgs_decode_pages(pgs_coder *coder, const void *src, size_t src_size, const uint64_t *offsets,
                     const uint32_t *sizes, const uint64_t *addresses, size_t page_count,
                     void *pages, int32_t *statuses_ret);

/* 1 where the page repeats one 8-byte word, which goes to *word_ret (as a
 * little-endian number); else 0. size is a multiple of 8. */
int pgs_same_filled(const void *page, size_t size, uint64_t *word_ret);

/* Fills `size` bytes (a multiple of 8) with the word. */
void pgs_fill(void *page, size_t size, uint64_t word);

/* Applies a branch filter in place: targets become absolute. Unknown filter
 * ids are PGS_E_INVALID. Undone by pgs_filter_undo with the same address;
 * both are total: any bytes, any size. */
int pgs_filter_apply(uint32_t filter_id, void *bytes, size_t size, uint64_t address);
int pgs_filter_undo(uint32_t filter_id, void *bytes, size_t size, uint64_t address);

/* A 64-bit checksum of `size` bytes: for a store's own RAM
 * only. Its value may change with the library's version and is never kept in
 * a file. */
uint64_t pgs_checksum(const void *bytes, size_t size);

/* Chooses a dictionary's content from pages, which lie one after the other
 * and are as a coder sees them: filtered, none of them same-filled. Writes at
 * most dict_cap bytes, what pages share most at the end; *dict_size_ret is how
 * many, and 0 where the pages share nothing. The same pages give the same
 * bytes on any machine. Takes RAM of a quarter of the pages'
 * size and at most 130 MiB more.
 *
 * Errors: PGS_E_INVALID (page_size below 512 or not a multiple of 32, more
 * than 128 GiB of pages), PGS_E_NOMEM. */
int pgs_dict_cover(const void *pages, size_t page_count, uint32_t page_size, void *dict,
                   size_t dict_cap, size_t *dict_size_ret);

/* Writes zstd's tables for such pages, then the content, to dict, which has
 * room for PGS_DICT_TABLES_MAX bytes more than the content.
 *
 * Errors: PGS_E_INVALID (content below PGS_DICT_TABLES_MAX bytes, no room, no
 * pages, pages from which no tables can be made), PGS_E_NOMEM. */
enum { PGS_DICT_TABLES_MAX = 256 };
int pgs_dict_add_tables(const void *content, size_t content_size, const void *pages,
                        size_t page_count, uint32_t page_size, void *dict, size_t dict_cap,
                        size_t *dict_size_ret);

/* Bytes of zstd's tables that a dictionary begins with; 0 where there are none
 * or they are damaged. */
size_t pgs_dict_tables_size(const void *dict, size_t dict_size);

/* Decodes an LZO1X block, as found in kernels packed with lzop. Writes
 * at most dst_cap bytes; *dst_size_ret is how many. PGS_E_CORRUPT where the
 * stream is not whole or would not fit. Never reads or writes out of bounds. */
int pgs_lzo1x_decode(const void *src, size_t src_size, void *dst, size_t dst_cap,
                     size_t *dst_size_ret);

#endif
