/* SPDX-License-Identifier: MIT
 *
 * XXH32, from the specification of xxHash, without what it does with the
 * bytes behind the last stripe of 16: the format has none. Four lanes hide
 * the multiplier's latency. A change within one 32-bit word is always seen,
 * because every step of a lane is a bijection.
 */
#include "pagestep/rom.h"

#include "rom_bytes.h"

static const uint32_t PRIME_1 = UINT32_C(0x9e3779b1);
static const uint32_t PRIME_2 = UINT32_C(0x85ebca77);
static const uint32_t PRIME_3 = UINT32_C(0xc2b2ae3d);

static inline uint32_t rotate_left(uint32_t value, unsigned count)
{
    return value << count | value >> (32 - count);
}

uint32_t pgs_xxh32(const void *bytes, size_t size, uint32_t seed)
{
    static const unsigned char counts[4] = {1, 7, 12, 18};
    uint32_t lanes[4] = {seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed, seed - PRIME_1};
    uint32_t hash = (uint32_t)size;
    const unsigned char *at = bytes;
    size_t left;
    unsigned i;

    for (left = size; left >= 16; left -= 16)
        for (i = 0; i < 4; i++, at += 4)
            lanes[i] = rotate_left(lanes[i] + rom_load32(at) * PRIME_2, 13) * PRIME_1;
    for (i = 0; i < 4; i++)
        hash += rotate_left(lanes[i], counts[i]);
    hash = (hash ^ hash >> 15) * PRIME_2;
    hash = (hash ^ hash >> 13) * PRIME_3;
    return hash ^ hash >> 16;
}
