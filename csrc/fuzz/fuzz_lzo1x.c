/* SPDX-License-Identifier: MIT
 *
 * Any bytes into the LZO1X decoder. The first two are the room for what comes
 * out.
 */
#include "pagestep/codec.h"
#include "pagestep/error.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *src, *dst;
    size_t cap, decoded_size;
    int error;

    if (size < 3)
        return 0;
    cap = data[0] | (size_t)data[1] << 8;
    size -= 2;
    src = malloc(size); /* so that its end is watched */
    dst = malloc(cap + (cap == 0));
    memcpy(src, data + 2, size);
    error = pgs_lzo1x_decode(src, size, dst, cap, &decoded_size);
    if (error != PGS_OK && error != PGS_E_CORRUPT)
        abort();
    if (decoded_size > cap || (error != PGS_OK && decoded_size != 0))
        abort();
    free(src);
    free(dst);
    return 0;
}
