/* SPDX-License-Identifier: MIT
 *
 * The checksum's loop, compiled once per kind of vector by checksum.c, which
 * defines what is written in capitals here:
 *
 *   NAME, TARGET         the function and its target attribute
 *   VECTOR, WORDS        a vector of 64-bit words, and how many it holds
 *   LOAD, STORE          at any alignment
 *   ADD, XOR, SHIFT      64-bit; SHIFT is a logical shift right by a constant
 *   MULTIPLY_LOW         the low 32 bits of each word, multiplied to 64
 *   HIGH_TO_LOW          moves the high 32 bits of each word into the low ones
 *   LOW_TO_HIGH          the other way; zeroes come in
 *   SWAP                 exchanges words 2i and 2i + 1
 *   BROADCAST            one word everywhere
 */
TARGET static uint64_t NAME(const void *bytes, size_t size)
{
    enum { VECTORS = LANES / WORDS };
    const unsigned char *at = bytes;
    const unsigned char *const end = at + (size & ~(size_t)(STRIPE_BYTES - 1));
    uint64_t lanes[LANES];
    VECTOR sums[VECTORS];
    unsigned v;

    for (v = 0; v < VECTORS; v++)
        sums[v] = LOAD(start + v * WORDS);
    while (at != end) {
        const uint64_t *key = pgs_checksum_keys;
        const unsigned char *block_end =
            (size_t)(end - at) < BLOCK_BYTES ? end : at + BLOCK_BYTES;
        for (; at != block_end; at += STRIPE_BYTES, key += KEY_STEP) {
            for (v = 0; v < VECTORS; v++) {
                VECTOR data = LOAD(at + v * WORDS * 8);
                VECTOR mixed = XOR(data, LOAD(key + v * WORDS));
                VECTOR product = MULTIPLY_LOW(mixed, HIGH_TO_LOW(mixed));
                sums[v] = ADD(sums[v], ADD(product, SWAP(data)));
            }
        }
        for (v = 0; v < VECTORS; v++) {
            VECTOR mixed = XOR(sums[v], SHIFT(sums[v], 47));
            VECTOR low = MULTIPLY_LOW(mixed, BROADCAST(BLOCK_FACTOR));
            VECTOR high = MULTIPLY_LOW(HIGH_TO_LOW(mixed), BROADCAST(BLOCK_FACTOR));
            sums[v] = ADD(low, LOW_TO_HIGH(high));
        }
    }
    if (size % STRIPE_BYTES) {
        unsigned char last[STRIPE_BYTES] = {0};
        memcpy(last, end, size % STRIPE_BYTES);
        for (v = 0; v < VECTORS; v++) {
            VECTOR data = LOAD(last + v * WORDS * 8);
            VECTOR mixed = XOR(data, LOAD(pgs_checksum_keys + LAST_KEY + v * WORDS));
            VECTOR product = MULTIPLY_LOW(mixed, HIGH_TO_LOW(mixed));
            sums[v] = ADD(sums[v], ADD(product, SWAP(data)));
        }
    }
    for (v = 0; v < VECTORS; v++)
        STORE(lanes + v * WORDS, sums[v]);
    return finish(lanes, size);
}

#undef NAME
#undef TARGET
#undef VECTOR
#undef WORDS
#undef LOAD
#undef STORE
#undef ADD
#undef XOR
#undef SHIFT
#undef MULTIPLY_LOW
#undef HIGH_TO_LOW
#undef LOW_TO_HIGH
#undef SWAP
#undef BROADCAST
