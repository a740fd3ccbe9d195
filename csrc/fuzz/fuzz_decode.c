/* SPDX-License-Identifier: MIT
 *
 * Any bytes into every decoder, with and without dictionary and filter. The
 * first byte chooses; the rest is the encoded page. What decodes is encoded
 * and decoded again, and must be the same.
 */
#include "pagestep/codec.h"
#include "pagestep/error.h"

#include <stdlib.h>
#include <string.h>

enum { DICT_SIZE = 3000, PAGE_SIZE_MAX = 4096 };

static const uint64_t ADDRESS = UINT64_C(0xffffffff81234000);

struct opened {
    pgs_codec *codec;
    pgs_coder *coder;
};

static struct opened open_choice(unsigned choice)
{
    static const struct {
        uint32_t id;
        int32_t level;
    } codecs[] = {{PGS_CODEC_LZ4, 3}, {PGS_CODEC_ZSTD, 3}, {PGS_CODEC_SAME, 0}, {PGS_CODEC_RAW, 0}};
    static unsigned char dict[DICT_SIZE];
    struct pgs_codec_params params = {.struct_size = sizeof(params)};
    struct opened opened = {NULL, NULL};
    unsigned i;

    for (i = 0; i < DICT_SIZE; i++) /* text-like: what repeats, and what does not */
        dict[i] = (unsigned char)(i % 7 == 0 ? i / 7 : "\xe8\x00\x10\x00\x00 pagestep"[i % 13]);
    params.codec_id = codecs[choice % 4].id;
    params.level = codecs[choice % 4].level;
    params.filter_id = choice / 4 % 6;
    params.page_size = choice / 24 % 2 ? PAGE_SIZE_MAX : 512;
    if (choice / 48 % 2 && choice % 4 < 2) {
        params.dict = dict;
        params.dict_size = DICT_SIZE;
    }
    if (pgs_codec_open(&params, &opened.codec) != PGS_OK ||
        pgs_coder_open(opened.codec, 1, &opened.coder) != PGS_OK)
        abort();
    return opened;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct opened cache[96];
    struct opened *opened;
    unsigned char *src, *page, *again, *encoded;
    size_t page_size, encoded_size;
    unsigned choice;

    if (size == 0)
        return 0;
    choice = data[0] % 96;
    opened = &cache[choice];
    if (opened->coder == NULL)
        *opened = open_choice(choice);
    page_size = choice / 24 % 2 ? PAGE_SIZE_MAX : 512;
    src = malloc(size - 1 + (size == 1)); /* so that its end is watched */
    page = malloc(page_size);
    again = malloc(page_size);
    encoded = malloc(2 * page_size);
    memcpy(src, data + 1, size - 1);
    if (pgs_decode(opened->coder, src, size - 1, ADDRESS, page) == PGS_OK) {
        if (pgs_encode(opened->coder, page, ADDRESS, encoded, 2 * page_size, &encoded_size) != 0)
            abort();
        if (encoded_size == 0 ||
            pgs_decode(opened->coder, encoded, encoded_size, ADDRESS, again) != PGS_OK ||
            memcmp(page, again, page_size) != 0)
            abort();
    }
    free(src);
    free(page);
    free(again);
    free(encoded);
    return 0;
}
