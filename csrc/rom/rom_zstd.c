/* SPDX-License-Identifier: MIT
 *
 * zstd by libzstd's decoder, in RAM that it is given. A dictionary without
 * tables is used where it lies, and costs nothing to begin with. Tables have to
 * be built, which takes about a third as long as a page does: so a digest has them.
 */
#define ZSTD_STATIC_LINKING_ONLY /* magicless frames, decoders in the caller's RAM */
#include "pagestep/rom_zstd.h"

#include "rom_internal.h"
#include "rom_zstd_frame.h"

#include <zstd.h>

enum { ZSTD_RAM_ALIGN = 8, TABLES_SIZE_MIN = 8 };

static size_t aligned(size_t size)
{
    return (size + ZSTD_RAM_ALIGN - 1) / ZSTD_RAM_ALIGN * ZSTD_RAM_ALIGN;
}

/* Its content stays where it is, so that all digests have one size. */
static size_t digest_size(void)
{
    return aligned(ZSTD_estimateDDictSize(0, ZSTD_dlm_byRef));
}

size_t pgs_rom_zstd_ram_size(uint32_t digest_count)
{
    return aligned(ZSTD_estimateDCtxSize()) + digest_count * digest_size();
}

int pgs_rom_zstd_init(struct pgs_rom_zstd *zstd, void *ram, size_t ram_size)
{
    size_t size = pgs_rom_zstd_ram_size(0);

    zstd->digest_count = 0;
    if ((uintptr_t)ram % ZSTD_RAM_ALIGN != 0)
        return PGS_E_INVALID;
    if (ram_size < size)
        return PGS_E_NOMEM;
    zstd->decoder = ZSTD_initStaticDCtx(ram, size);
    zstd->digest_bytes = (unsigned char *)ram + size;
    zstd->digest_bytes_max = ram_size - size;
    return ZSTD_isError(ZSTD_DCtx_setParameter(zstd->decoder, ZSTD_d_format,
                                               ZSTD_f_zstd1_magicless))
               ? PGS_E_UNSUPPORTED
               : PGS_OK;
}

/* Dictionaries of an image may begin at the same byte and end at different ones. */
static const void *find_digest(const struct pgs_rom_zstd *zstd, const struct pgs_rom_dict *dict)
{
    uint32_t i;

    for (i = 0; dict != NULL && i < zstd->digest_count; i++)
        if (zstd->dicts[i].bytes == dict->bytes && zstd->dicts[i].size == dict->size)
            return zstd->digests[i];
    return NULL;
}

static int add_digest(struct pgs_rom_zstd *zstd, const struct pgs_rom_dict *dict)
{
    size_t size = digest_size(), used = zstd->digest_count * size;
    const void *digest;

    if (dict->size < TABLES_SIZE_MIN || rom_load32(dict->bytes) != ZSTD_MAGIC_DICTIONARY ||
        find_digest(zstd, dict) != NULL)
        return PGS_OK;
    if (zstd->digest_bytes_max - used < size)
        return PGS_E_NOMEM;
    digest = ZSTD_initStaticDDict(zstd->digest_bytes + used, size, dict->bytes, dict->size,
                                  ZSTD_dlm_byRef, ZSTD_dct_fullDict);
    if (digest == NULL)
        return PGS_E_ROM_DICT;
    zstd->dicts[zstd->digest_count] = *dict;
    zstd->digests[zstd->digest_count++] = digest;
    return PGS_OK;
}

/* Of the codings pgs_rom_open checked only those that a slot uses. */
int pgs_rom_zstd_digest(struct pgs_rom_zstd *zstd, const struct pgs_rom *rom)
{
    const unsigned char *coding = rom->tables[PGS_ROM_CODINGS].at;
    uint32_t i;
    int error = PGS_OK;

    zstd->digest_count = 0;
    for (i = 0; error == PGS_OK && i < rom->tables[PGS_ROM_CODINGS].count; i++) {
        if (coding[ROM_CODING_CODEC_AT] == PGS_CODEC_ZSTD &&
            coding[ROM_CODING_DICT_NO_AT] < rom->tables[PGS_ROM_DICTS].count)
            error = add_digest(zstd, &rom->dicts[coding[ROM_CODING_DICT_NO_AT]]);
        coding += ROM_CODING_SIZE;
    }
    return error;
}

int pgs_rom_zstd_decode(void *ctx, uint32_t coding_no, const unsigned char *src, size_t src_size,
                        const struct pgs_rom_dict *dict, unsigned char *out, size_t out_size)
{
    const struct pgs_rom_zstd *zstd = ctx;
    const void *digest = find_digest(zstd, dict);
    size_t size;

    (void)coding_no;
    if (!rom_zstd_is_frame(src, src_size))
        return PGS_E_CORRUPT;
    if (digest != NULL)
        size = ZSTD_decompress_usingDDict(zstd->decoder, out, out_size, src, src_size, digest);
    else
        size = ZSTD_decompress_usingDict(zstd->decoder, out, out_size, src, src_size,
                                         dict != NULL ? dict->bytes : NULL,
                                         dict != NULL ? dict->size : 0);
    return size == out_size ? PGS_OK : PGS_E_CORRUPT;
}
