/* SPDX-License-Identifier: MIT
 *
 * A few coders, with room for a blob each, that threads borrow.
 */
#ifndef PGS_LENDER_H
#define PGS_LENDER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "pagestep/codec.h"

enum { LENT_MAX = 16 };
enum lent_kind { LEND_BYTES, LEND_DECODER, LEND_ENCODER };

struct lent {
    bool taken;
    pgs_coder *coder;     /* NULL where there is no codec, or only bytes are lent */
    unsigned char *bytes; /* room for a blob; NULL of a decoder */
};

struct lender {
    pthread_mutex_t lock;
    pthread_cond_t given;
    uint32_t count;
    struct lent all[LENT_MAX];
};

/* On error it is to be deinit all the same. */
int lender_init(struct lender *lender, enum lent_kind kind, uint32_t count,
                const pgs_codec *codec, size_t bytes_size);
void lender_deinit(struct lender *lender);
uint64_t lender_bytes(const struct lender *lender, size_t bytes_size);
/* NULL where none was given back in time. */
struct lent *lender_take(struct lender *lender, uint64_t until_ns);
void lender_give(struct lender *lender, struct lent *lent);

#endif
