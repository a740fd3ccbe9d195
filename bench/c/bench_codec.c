/* SPDX-License-Identifier: MIT
 *
 * Benchmarks of the core on a flat image:
 *
 *   bench_codec [--json] [--rounds N] [--only codec|store] FILTER IMAGE
 *
 * FILTER is x86, arm, thumb, arm64, riscv or none. docs/BENCHMARKS.md says
 * what is measured.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 200 };

static uint32_t filter_named(const char *name)
{
    static const char *const names[] = {"none", "x86", "arm", "thumb", "arm64", "riscv"};
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name))
            return i;
    require(false, "the filter is none, x86, arm, thumb, arm64 or riscv");
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.rounds = ROUNDS};
    const char *only = "";
    struct image image;
    int i = 1;

    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--json"))
            options.json = true;
        else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
            options.rounds = (unsigned)strtoul(argv[++i], NULL, 10);
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            only = argv[++i];
        else
            break;
    }
    require(argc - i == 2,
            "usage: bench_codec [--json] [--rounds N] [--only codec|store] FILTER IMAGE");
    image_load(&image, argv[i + 1], filter_named(argv[i]));
    if (options.json)
        printf("[");
    if (strcmp(only, "store") != 0)
        bench_codecs(&image, &options);
    if (strcmp(only, "codec") != 0)
        bench_store(&image, &options);
    if (options.json)
        printf("]\n");
    free(image.bytes);
    free(image.distinct);
    return 0;
}
