/* SPDX-License-Identifier: MIT
 *
 * The whole of a ROM image: every page, and the Merkle tree of RFC 6962 over
 * them. Of the tree only its right edge is kept, one node a level: after n
 * leaves there is a node for each bit set in n.
 */
#include "rom_internal.h"

enum { HASH_SIZE = 32 };

static void hash_leaf(struct pgs_sha256 *sha, const void *page, size_t size, unsigned char *hash)
{
    static const unsigned char is_leaf = 0;

    pgs_sha256_init(sha);
    pgs_sha256_add(sha, &is_leaf, 1);
    pgs_sha256_add(sha, page, size);
    pgs_sha256_end(sha, hash);
}

/* Replaces the two topmost nodes by their parent. */
static void join_nodes(struct pgs_rom_tree *tree)
{
    static const unsigned char is_node = 1;
    unsigned char *left = tree->nodes[tree->height - 2];

    pgs_sha256_init(&tree->sha);
    pgs_sha256_add(&tree->sha, &is_node, 1);
    pgs_sha256_add(&tree->sha, left, HASH_SIZE);
    pgs_sha256_add(&tree->sha, left + HASH_SIZE, HASH_SIZE);
    pgs_sha256_end(&tree->sha, left);
    tree->height--;
}

/* Adds leaf number `page_no`: as many parents are complete as there are ones at
 * the end of its number. */
static void add_leaf(struct pgs_rom_tree *tree, uint32_t page_no, const void *page, size_t size)
{
    hash_leaf(&tree->sha, page, size, tree->nodes[tree->height++]);
    for (; (page_no & 1) != 0; page_no >>= 1)
        join_nodes(tree);
}

static int root_differs(struct pgs_rom_tree *tree, const unsigned char *root)
{
    unsigned i;
    int differs = 0;

    if (tree->height == 0) {
        pgs_sha256_init(&tree->sha);
        pgs_sha256_end(&tree->sha, tree->nodes[0]);
    }
    while (tree->height > 1)
        join_nodes(tree);
    for (i = 0; i < HASH_SIZE; i++)
        differs |= tree->nodes[0][i] != root[i];
    return differs;
}

int pgs_rom_verify(const struct pgs_rom *rom, struct pgs_rom_tree *tree, void *page,
                   uint32_t *bad_page_ret)
{
    uint32_t page_no;

    tree->height = 0;
    for (page_no = 0; page_no < rom->page_count; page_no++) {
        int error = pgs_rom_page(rom, page_no, page);

        if (error != PGS_OK && error != PGS_E_ROM_ABSENT) {
            *bad_page_ret = page_no;
            return error;
        }
        add_leaf(tree, page_no, page, error == PGS_OK ? rom->page_size : 0);
    }
    *bad_page_ret = page_no;
    return root_differs(tree, rom->base + ROM_ROOT_AT) ? PGS_E_CORRUPT : PGS_OK;
}
