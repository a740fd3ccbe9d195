/* SPDX-License-Identifier: MIT
 *
 * Little-endian numbers at any alignment, byte by byte: compilers make one
 * load of it where the processor can do that, and no call to memcpy where it
 * cannot.
 */
#ifndef PGS_ROM_BYTES_H
#define PGS_ROM_BYTES_H

#include <stddef.h>
#include <stdint.h>
#if __STDC_HOSTED__
#include <string.h>
#endif

/* Keeps a compiler from turning a loop into a call to memcpy or memset, which
 * a freestanding program may not have. */
#if defined(__GNUC__)
#define PGS_ROM_KEEP_LOOP() __asm__ volatile("")
#else
#define PGS_ROM_KEEP_LOOP() ((void)0)
#endif

/* One instruction where numbers may stand at any address, a call is longer. */
#if defined(__GNUC__) && (defined(__ARM_FEATURE_UNALIGNED) || defined(__x86_64__))
#define ROM_INLINE static inline __attribute__((always_inline))
#else
#define ROM_INLINE static inline
#endif

ROM_INLINE uint32_t rom_load16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

ROM_INLINE uint32_t rom_load32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

ROM_INLINE uint64_t rom_load64(const unsigned char *at)
{
    return rom_load32(at) | (uint64_t)rom_load32(at + 4) << 32;
}

ROM_INLINE void rom_store16(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
}

ROM_INLINE void rom_store32(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
    at[2] = (unsigned char)(value >> 16);
    at[3] = (unsigned char)(value >> 24);
}

/* Copies forward, byte by byte: where `to` lies behind `from`, what is between
 * them repeats. Returns the end of what was written. The test stands below the
 * loop because at -Os compilers leave it where it is, and jump to it each time. */
static inline unsigned char *rom_copy(unsigned char *to, const unsigned char *from, size_t size)
{
    const unsigned char *end = from + size;

    if (size != 0) {
        do {
            *to++ = *from++;
            PGS_ROM_KEEP_LOOP();
        } while (from != end);
    }
    return to;
}

/* Copies what does not overlap. */
static inline void rom_copy_apart(unsigned char *to, const unsigned char *from, size_t size)
{
#if __STDC_HOSTED__
    memcpy(to, from, size);
#else
    rom_copy(to, from, size);
#endif
}

#endif
