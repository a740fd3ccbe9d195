/* SPDX-License-Identifier: MIT */
#include "store/blobs/lender.h"

#include <stdlib.h>

#include "pagestep/error.h"
#include "store/blobs/deadline.h"

int lender_init(struct lender *lender, enum lent_kind kind, uint32_t count,
                const pgs_codec *codec, size_t bytes_size)
{
    *lender = (struct lender){.count = count};
    pthread_mutex_init(&lender->lock, NULL);
    condition_init(&lender->given);
    for (uint32_t i = 0; i < count; i++) {
        struct lent *lent = &lender->all[i];
        int error = codec && kind != LEND_BYTES
                        ? pgs_coder_open(codec, kind == LEND_ENCODER, &lent->coder)
                        : PGS_OK;
        if (error)
            return error;
        if (kind != LEND_DECODER && !(lent->bytes = malloc(bytes_size)))
            return PGS_E_NOMEM;
    }
    return PGS_OK;
}

void lender_deinit(struct lender *lender)
{
    if (!lender->count)
        return;
    for (uint32_t i = 0; i < lender->count; i++) {
        pgs_coder_close(lender->all[i].coder);
        free(lender->all[i].bytes);
    }
    pthread_mutex_destroy(&lender->lock);
    pthread_cond_destroy(&lender->given);
}

uint64_t lender_bytes(const struct lender *lender, size_t bytes_size)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < lender->count; i++)
        sum += (lender->all[i].coder ? pgs_coder_memory_bytes(lender->all[i].coder) : 0) +
               (lender->all[i].bytes ? bytes_size : 0);
    return sum;
}

static struct lent *find(struct lender *lender)
{
    for (uint32_t i = 0; i < lender->count; i++)
        if (!lender->all[i].taken)
            return &lender->all[i];
    return NULL;
}

struct lent *lender_take(struct lender *lender, uint64_t until_ns)
{
    pthread_mutex_lock(&lender->lock);
    struct lent *lent = find(lender);
    while (!lent && condition_wait(&lender->given, &lender->lock, until_ns))
        lent = find(lender);
    if (lent)
        lent->taken = true;
    pthread_mutex_unlock(&lender->lock);
    return lent;
}

void lender_give(struct lender *lender, struct lent *lent)
{
    pthread_mutex_lock(&lender->lock);
    lent->taken = false;
    pthread_cond_signal(&lender->given);
    pthread_mutex_unlock(&lender->lock);
}
