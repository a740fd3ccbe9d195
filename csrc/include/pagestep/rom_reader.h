/* SPDX-License-Identifier: MIT
 *
 * The host's reader of ROM images: the freestanding one (rom.h) with liblz4,
 * libzstd and fast branch filters, for any number of threads; and a backing
 * over it, so that a store's object has its pages in ROM.
 *
 * Plain declarations only: the Python binding reads this file without its
 * '#' lines.
 */
#ifndef PAGESTEP_ROM_READER_H
#define PAGESTEP_ROM_READER_H

#include <stddef.h>
#include <stdint.h>

#include "pagestep/rom.h"
#include "pagestep/store.h"

enum { PGS_ROM_CODER_SETS_MAX = 64 };

typedef struct pgs_rom_reader pgs_rom_reader;

/* Opens the ROM image at `base`, of at most `size` bytes, which must stay where
 * it is and as it is. Any bytes may be given. As many threads decode at once as
 * there are coder sets, 1 to PGS_ROM_CODER_SETS_MAX; further ones wait.
 * All the RAM that reading takes is taken here.
 *
 * Errors: those of pgs_rom_open, PGS_E_INVALID (coder_set_count), PGS_E_NOMEM. On
 * error *reader_ret is NULL. */
int pgs_rom_reader_open(const void *base, size_t size, uint32_t coder_set_count,
                        pgs_rom_reader **reader_ret);

/* Closes a reader: its opener may not read from it any more. A backing over it
 * goes on until it is closed too. NULL is accepted. */
void pgs_rom_reader_close(pgs_rom_reader *reader);

/* What was opened: sizes, tables and decoded dictionaries, valid as long as the
 * reader is open. Pages are not to be read through it. */
const struct pgs_rom *pgs_rom_reader_rom(const pgs_rom_reader *reader);

/* Bytes of RAM that the reader takes: decoded dictionaries, codecs, coders. */
size_t pgs_rom_reader_memory_bytes(const pgs_rom_reader *reader);

/* Reads `count` whole pages, checked: page page_nos[i] to out + i * page_size.
 * statuses_ret[i] is 0 or what kept that page from being read; what `out`
 * holds there is then not specified. Returns 0, or the first page's error.
 * Errors of a page: PGS_E_RANGE, PGS_E_CORRUPT, PGS_E_ROM_ABSENT. statuses_ret
 * may be NULL: then it stops at the first error. Any thread. */
int pgs_rom_reader_pages(pgs_rom_reader *reader, const uint64_t *page_nos, size_t count, void *out,
                         int32_t *statuses_ret);

/* Reads one page: pgs_rom_reader_pages with a count of 1, cheaper to call. */
int pgs_rom_reader_page(pgs_rom_reader *reader, uint64_t page_no, void *out);

/* Says how a page is stored, without reading it: its codec (PGS_CODEC_SAME: one
 * repeated word), and how many bytes of the image are its own or shared with
 * equal pages. Errors: PGS_E_RANGE, PGS_E_CORRUPT, PGS_E_ROM_ABSENT. */
int pgs_rom_reader_stored(const pgs_rom_reader *reader, uint64_t page_no, uint32_t *codec_id_ret,
                          uint32_t *size_ret);

/* A backing over a ROM image, which keeps `reader` open; its memory counts as
 * the backing's. Pages that are left out of the image come from `rest`, and so do
 * damaged ones, if they then have the checksum that the image says. `rest` is
 * taken over and closed with it (on error it is not); where it is NULL such pages
 * are PGS_E_ROM_ABSENT and PGS_E_CORRUPT. Read-only. Errors: PGS_E_INVALID,
 * PGS_E_NOMEM. */
int pgs_backing_rom(pgs_rom_reader *reader, const struct pgs_backing *rest,
                    struct pgs_backing *backing_ret);

#endif
