/* SPDX-License-Identifier: MIT
 *
 * Reads every page of a ROM image in random order, then checks the whole
 * image, and says what it cost. The image lies at ROM_ADDRESS, which the
 * Makefile gives: on a board that is flash. Leaves with status 0 where all is
 * right, 1 where pages are damaged, 2 where the image cannot be opened.
 */
#include "pagestep_rom.h"

#include "board.h"

#define SEED UINT32_C(20261123)

/* All the RAM that reading takes, beside a few hundred bytes of stack (docs/rom-footprint.csv) and a struct: one
 * page, and the dictionary if the image has it compressed. Only the check of
 * the whole image wants the tree. */
static unsigned char page[64 << 10];
static unsigned char dictionary[128 << 10];
static struct pgs_rom rom;
static struct pgs_rom_tree tree;

static void put_text(const char *text)
{
    while (*text != '\0')
        board_put(*text++);
}

static void put_number(uint32_t number)
{
    if (number >= 10)
        put_number(number / 10);
    board_put((char)('0' + number % 10));
}

/* Says "what number end". */
static void put(const char *what, uint32_t number, const char *end)
{
    put_text(what);
    put_number(number);
    put_text(end);
}

/* Ends a line that begins with `what`. Errors are negative. */
static void put_error(const char *what, int error)
{
    put(what, (uint32_t)-error, ", ");
    put_text(pgs_error_text(error));
    board_put('\n');
}

/* Depends on each byte, its place and its page, but not on the pages' order. */
static uint32_t weigh(uint32_t page_no)
{
    uint32_t sum = 0, i;

    for (i = 0; i < rom.page_size; i++)
        sum += (i + 1) * page[i];
    return sum * (2 * page_no + 1);
}

/* Reads each page once; returns how many were not what was stored. */
static uint32_t read_all(void)
{
    uint32_t mask = 0, at = SEED, left, sum = 0, bad = 0, ticks = 0, ticks_max = 0;

    while (mask < rom.page_count)
        mask = mask << 1 | 1;
    for (left = mask;; left--) {
        uint32_t page_no = at & mask, start = board_ticks(), taken;

        if (page_no < rom.page_count) {
            int error = pgs_rom_page(&rom, page_no, page);

            taken = (board_ticks() - start) & BOARD_TICKS_MASK;
            ticks += taken;
            ticks_max = taken > ticks_max ? taken : ticks_max;
            if (error == PGS_OK) {
                sum += weigh(page_no);
            } else if (error != PGS_E_ROM_ABSENT) {
                put("page ", page_no, "");
                put_error(": error -", error);
                bad++;
            }
        }
        if (left == 0)
            break;
        /* Its low bits take every value once: 4 divides the factor less 1, and
         * the other number is odd. */
        at = at * UINT32_C(1664525) + UINT32_C(1013904223);
    }
    put("sum ", sum, "\n");
    put("instructions ", ticks / rom.page_count * BOARD_TICK_INSTRUCTIONS, " a page, ");
    put("", ticks_max * BOARD_TICK_INSTRUCTIONS, " at most\n");
    return bad;
}

int main(void)
{
    const void *base = (const void *)ROM_ADDRESS;
    size_t ram_size;
    uint32_t bad, bad_page;
    int error = pgs_rom_ram_size(base, ROM_SIZE_MAX, &ram_size);

    if (error == PGS_OK)
        error = pgs_rom_open(base, ROM_SIZE_MAX, &pgs_rom_kit_small, dictionary,
                             sizeof(dictionary), &rom);
    if (error != PGS_OK) {
        put_error("open: error -", error);
        return 2;
    }
    put("pages ", rom.page_count, " of ");
    put("", rom.page_size, " bytes, ");
    put("", (uint32_t)ram_size, " of RAM for dictionaries\n");
    if (rom.page_count == 0)
        return 0;

    bad = read_all();
    error = pgs_rom_verify(&rom, &tree, page, &bad_page);
    if (error == PGS_OK) {
        put_text("verified\n");
    } else {
        put("verify: page ", bad_page, "");
        put_error(": error -", error);
    }
    return bad != 0 || error != PGS_OK;
}
