/* SPDX-License-Identifier: MIT
 *
 * A page's entry, and how threads share it.
 *
 * Everything that changes under other threads is one 64-bit word:
 *
 *   HOT      the page is in frame `frame`
 *   COPY     its compressed form is at hand (in the pool at `place`, or as a
 *            repeated word); with HOT it is the same bytes, kept so that the
 *            frame can be given up for nothing
 *   BUSY     one thread moves or changes the page; it alone touches the
 *            entry's other fields. Others wait, for this page only
 *   WAITED   somebody sleeps until BUSY goes
 *   DIRTY    the backing may not have these bytes
 *   GONE     nobody has its bytes any more; it must be written before it is read
 *   LEVEL    enum pgs_level
 *   CODING   how the copy is coded, enum page_coding
 *   EFFORT   enum pgs_effort: how the next copy is to be coded
 *   STAYS    it may leave its frame, but not RAM
 *   SETTLED  its copy was coded anew, or that did not make it smaller
 *   READERS  threads that copy or decode the page just now: while there are
 *            any, nothing moves
 *   PINS     counted promises that the page stays in its frame
 *   STAMP    the fault clock, coarsely, when the page last faulted: an entry
 *            is its own ghost, no ghost queue is needed
 */
#ifndef PGS_PAGE_H
#define PGS_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE_HOT ((uint64_t)1 << 0)
#define PAGE_COPY ((uint64_t)1 << 1)
#define PAGE_BUSY ((uint64_t)1 << 2)
#define PAGE_WAITED ((uint64_t)1 << 3)
#define PAGE_DIRTY ((uint64_t)1 << 4)
#define PAGE_GONE ((uint64_t)1 << 5)
/* PGS_LEVEL_PINNED is 0 */
#define PAGE_LEVEL_SHIFT 8
#define PAGE_LEVEL_MASK ((uint64_t)0x7 << PAGE_LEVEL_SHIFT)
#define PAGE_CODING_SHIFT 12
#define PAGE_CODING_MASK ((uint64_t)0x7 << PAGE_CODING_SHIFT)
#define PAGE_EFFORT_SHIFT 15
#define PAGE_EFFORT_MASK ((uint64_t)0x3 << PAGE_EFFORT_SHIFT)
#define PAGE_STAYS ((uint64_t)1 << 17)
#define PAGE_SETTLED ((uint64_t)1 << 18)
#define PAGE_READER ((uint64_t)1 << 20)
#define PAGE_READERS_MASK ((uint64_t)0xfff << 20)
#define PAGE_PIN ((uint64_t)1 << 32)
#define PAGE_PINS_MASK ((uint64_t)0xffff << 32)
#define PAGE_STAMP_SHIFT 48
#define PAGE_STAMP_MASK ((uint64_t)0xffff << PAGE_STAMP_SHIFT)

enum page_coding {
    CODING_RAW = 0,   /* as it is */
    CODING_SAME = 1,  /* one repeated word, in the entry itself */
    CODING_CODED = 2  /* by its object's first codec; the others follow */
};

struct page {
    _Atomic uint64_t word;
    uint64_t copy_sum;   /* while COPY: checksum of the stored bytes */
    /* Checksum of the page's bytes as its backing gives them. 0: nobody has
     * asked for them yet; only a backing that checks them itself leaves it so. */
    _Atomic uint64_t origin_sum;
    union {
        struct {
            uint32_t frame; /* while HOT */
            uint32_t place; /* while COPY, coding not CODING_SAME */
        };
        uint64_t fill; /* while COPY and not HOT, CODING_SAME */
    };
};
_Static_assert(sizeof(struct page) == 32, "a page costs 32 bytes");

static inline uint64_t page_load(const struct page *page)
{
    return atomic_load_explicit(&page->word, memory_order_acquire);
}

static inline bool page_swap(struct page *page, uint64_t *seen, uint64_t next)
{
    return atomic_compare_exchange_weak_explicit(&page->word, seen, next, memory_order_acq_rel,
                                                 memory_order_acquire);
}

static inline unsigned page_level(uint64_t word)
{
    return (unsigned)((word & PAGE_LEVEL_MASK) >> PAGE_LEVEL_SHIFT);
}

static inline enum page_coding page_coding(uint64_t word)
{
    return (enum page_coding)((word & PAGE_CODING_MASK) >> PAGE_CODING_SHIFT);
}

static inline unsigned page_effort(uint64_t word)
{
    return (unsigned)((word & PAGE_EFFORT_MASK) >> PAGE_EFFORT_SHIFT);
}

static inline uint16_t page_stamp(uint64_t word)
{
    return (uint16_t)(word >> PAGE_STAMP_SHIFT);
}

static inline uint64_t page_with_stamp(uint64_t word, uint16_t stamp)
{
    return (word & ~PAGE_STAMP_MASK) | (uint64_t)stamp << PAGE_STAMP_SHIFT;
}

/* True: the page is this thread's to move (BUSY), and nobody reads it. False
 * at once where it is in use in any way, pinned included. */
static inline bool page_try_claim(struct page *page)
{
    uint64_t word = page_load(page);
    while (!(word & (PAGE_BUSY | PAGE_READERS_MASK | PAGE_PINS_MASK)))
        if (page_swap(page, &word, word | PAGE_BUSY))
            return true;
    return false;
}

/* Cannot leave its frame. */
static inline bool page_is_held(uint64_t word)
{
    return (word & PAGE_PINS_MASK) || !(word & PAGE_LEVEL_MASK);
}

/* Whether these are the bytes that the page's backing gives. */
static inline bool page_is_as_origin(const struct page *page, uint64_t sum)
{
    return sum != 0 && sum == atomic_load_explicit(&page->origin_sum, memory_order_relaxed);
}

/* Ends a read begun by adding PAGE_READER. */
static inline void page_end_read(struct page *page)
{
    atomic_fetch_sub_explicit(&page->word, PAGE_READER, memory_order_release);
}

#endif
