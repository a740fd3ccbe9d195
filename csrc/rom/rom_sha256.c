/* SPDX-License-Identifier: MIT
 *
 * SHA-256, from FIPS 180-4: small rather than fast.
 */
#include "pagestep/rom.h"

#include "rom_bytes.h"

enum { BLOCK_SIZE = 64, ROUNDS = 64 };

static const uint32_t ROUND_CONSTANTS[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate_right(uint32_t value, unsigned count)
{
    return value >> count | value << (32 - count);
}

static uint32_t load_big_endian(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void store_big_endian(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)(value >> 24);
    at[1] = (unsigned char)(value >> 16);
    at[2] = (unsigned char)(value >> 8);
    at[3] = (unsigned char)value;
}

/* The schedule's words are made as they are needed: 16 of them are enough. */
static void add_block(uint32_t *state, const unsigned char *block)
{
    uint32_t s[8], words[16];
    unsigned i;

    for (i = 0; i < 8; i++)
        s[i] = state[i];
    for (i = 0; i < 16; i++)
        words[i] = load_big_endian(block + 4 * i);
    for (i = 0; i < ROUNDS; i++) {
        uint32_t word = words[i % 16], near = words[(i + 1) % 16], late = words[(i + 14) % 16];
        uint32_t t1 = s[7] + ROUND_CONSTANTS[i] + word + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                      (rotate_right(s[4], 6) ^ rotate_right(s[4], 11) ^ rotate_right(s[4], 25));
        uint32_t t2 = ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2])) +
                      (rotate_right(s[0], 2) ^ rotate_right(s[0], 13) ^ rotate_right(s[0], 22));
        unsigned k;

        words[i % 16] = word + words[(i + 9) % 16] +
                        (rotate_right(near, 7) ^ rotate_right(near, 18) ^ near >> 3) +
                        (rotate_right(late, 17) ^ rotate_right(late, 19) ^ late >> 10);
        for (k = 7; k > 0; k--)
            s[k] = s[k - 1];
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (i = 0; i < 8; i++)
        state[i] += s[i];
}

void pgs_sha256_init(struct pgs_sha256 *sha)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned i;

    for (i = 0; i < 8; i++)
        sha->state[i] = start[i];
    sha->size = 0;
}

void pgs_sha256_add(struct pgs_sha256 *sha, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    while (size != 0) {
        size_t used = (size_t)(sha->size % BLOCK_SIZE), part = BLOCK_SIZE - used;

        part = part < size ? part : size;
        rom_copy_apart(sha->block + used, at, part);
        sha->size += part;
        at += part;
        size -= part;
        if (used + part == BLOCK_SIZE)
            add_block(sha->state, sha->block);
    }
}

void pgs_sha256_end(struct pgs_sha256 *sha, unsigned char *digest_ret)
{
    static const unsigned char one = 0x80, zero = 0;
    unsigned char bits[8];
    uint64_t size = sha->size * 8;
    unsigned i;

    store_big_endian(bits, (uint32_t)(size >> 32));
    store_big_endian(bits + 4, (uint32_t)size);
    pgs_sha256_add(sha, &one, 1);
    while (sha->size % BLOCK_SIZE != BLOCK_SIZE - sizeof(bits))
        pgs_sha256_add(sha, &zero, 1);
    pgs_sha256_add(sha, bits, sizeof(bits));
    for (i = 0; i < 8; i++)
        store_big_endian(digest_ret + 4 * i, sha->state[i]);
}
