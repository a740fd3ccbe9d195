/* SPDX-License-Identifier: MIT
 *
 * Any bytes through every branch filter and back, and the other way round.
 * The first byte chooses the filter, the next eight are the address.
 */
#include "codec/filter_internal.h"
#include "pagestep/codec.h"
#include "pagestep/error.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes, *plain;
    uint64_t address;
    uint32_t filter_id;
    size_t count;

    if (size < 10)
        return 0;
    filter_id = data[0] % 6;
    memcpy(&address, data + 1, 8);
    data += 9;
    count = size - 9;
    bytes = malloc(count); /* so that its end is watched */
    plain = malloc(count);
    memcpy(bytes, data, count);
    memcpy(plain, data, count);
    if (pgs_filter_apply(filter_id, bytes, count, address) != PGS_OK)
        abort();
    if (filter_id == PGS_FILTER_X86) {
        pgs_filter_x86_plain.apply(plain, count, address);
        if (memcmp(bytes, plain, count) != 0)
            abort();
    }
    if (pgs_filter_undo(filter_id, bytes, count, address) != PGS_OK)
        abort();
    if (memcmp(bytes, data, count) != 0)
        abort();
    if (pgs_filter_undo(filter_id, bytes, count, address) != PGS_OK ||
        pgs_filter_apply(filter_id, bytes, count, address) != PGS_OK)
        abort();
    if (memcmp(bytes, data, count) != 0)
        abort();
    free(bytes);
    free(plain);
    return 0;
}
