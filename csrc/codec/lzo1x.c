/* SPDX-License-Identifier: MIT
 *
 * A decoder for LZO1X, written from the description of the stream format in
 * Linux's Documentation/staging/lzo.rst. It is for payloads, not for pages:
 * clear and bounded comes before fast.
 *
 * An instruction byte says where to copy from and how much; its last two bits
 * (or those of the bytes behind it) say how many literals, 0 to 3, follow the
 * copy. What instruction bytes below 16 mean depends on how many literals the
 * instruction before ended with: that is the state, where 4 stands for more
 * than 3.
 */
#include "pagestep/codec.h"
#include "pagestep/error.h"

#include "le.h"

#include <string.h>

enum {
    STATE_NONE = 0, /* no literals since the last match, or the start */
    STATE_RUN = 4,  /* a run of literals */
    FIRST_RUN = 17  /* a first byte above this is a run of byte - 17 literals */
};

struct reader {
    const unsigned char *at, *end;
};

struct writer {
    unsigned char *begin, *at, *end;
};

static int copy_literals(struct reader *in, struct writer *out, size_t count)
{
    if ((size_t)(in->end - in->at) < count || (size_t)(out->end - out->at) < count)
        return PGS_E_CORRUPT;
    if (count != 0) {
        memcpy(out->at, in->at, count);
        in->at += count;
        out->at += count;
    }
    return PGS_OK;
}

static int copy_match(struct writer *out, size_t distance, size_t length)
{
    const unsigned char *from;

    if ((size_t)(out->at - out->begin) < distance || (size_t)(out->end - out->at) < length)
        return PGS_E_CORRUPT;
    from = out->at - distance;
    if (distance >= length) {
        memcpy(out->at, from, length);
        out->at += length;
    } else {
        while (length-- != 0)
            *out->at++ = *from++;
    }
    return PGS_OK;
}

/* A length that its field could not hold: each zero byte is 255 more, the
 * first other byte ends it. No length beyond `limit` can be written. */
static int read_long_length(struct reader *in, size_t base, size_t limit, size_t *length_ret)
{
    size_t length = base;

    while (in->at != in->end && length <= limit) {
        unsigned char byte = *in->at++;
        if (byte != 0) {
            *length_ret = length + byte;
            return PGS_OK;
        }
        length += 255;
    }
    return PGS_E_CORRUPT;
}

struct match {
    size_t distance, length;
    unsigned literals;       /* that follow it */
    int is_end;              /* of the stream */
};

/* Bytes below 16, whose meaning is in the state. */
static int read_short(struct reader *in, unsigned byte, unsigned state, struct match *match)
{
    if (in->at == in->end)
        return PGS_E_CORRUPT;
    match->literals = byte & 3;
    match->distance = ((size_t)*in->at++ << 2) + (byte >> 2) + 1;
    match->length = 2;
    if (state == STATE_RUN) {
        match->distance += 2048;
        match->length = 3;
    }
    return PGS_OK;
}

/* Bytes 16 to 63: the distance and the literals are in the two bytes behind
 * the length. */
static int read_far(struct reader *in, unsigned byte, size_t limit, struct match *match)
{
    unsigned field = byte >= 32 ? 31 : 7;
    uint16_t tail;

    match->length = (byte & field) + 2;
    if ((byte & field) == 0) {
        int error = read_long_length(in, field + 2, limit, &match->length);
        if (error != PGS_OK)
            return error;
    }
    if (in->end - in->at < 2)
        return PGS_E_CORRUPT;
    tail = pgs_load_le16(in->at);
    in->at += 2;
    match->literals = tail & 3;
    if (byte >= 32) {
        match->distance = (size_t)(tail >> 2) + 1;
        return PGS_OK;
    }
    match->distance = 16384 + ((size_t)(byte & 8) << 11) + (tail >> 2);
    match->is_end = match->distance == 16384;
    return PGS_OK;
}

/* Bytes from 64: one more byte of distance. */
static int read_near(struct reader *in, unsigned byte, struct match *match)
{
    if (in->at == in->end)
        return PGS_E_CORRUPT;
    match->length = byte >= 128 ? 5 + (byte >> 5 & 3) : 3 + (byte >> 5 & 1);
    match->distance = ((size_t)*in->at++ << 3) + (byte >> 2 & 7) + 1;
    match->literals = byte & 3;
    return PGS_OK;
}

static int read_match(struct reader *in, unsigned byte, unsigned state, size_t limit,
                      struct match *match)
{
    memset(match, 0, sizeof(*match));
    if (byte >= 64)
        return read_near(in, byte, match);
    if (byte >= 16)
        return read_far(in, byte, limit, match);
    return read_short(in, byte, state, match);
}

static int decode(struct reader *in, struct writer *out)
{
    size_t limit = (size_t)(out->end - out->begin);
    unsigned state = STATE_NONE;
    int error = PGS_OK;

    if (in->at != in->end && *in->at > FIRST_RUN) {
        unsigned count = *in->at++ - FIRST_RUN;
        state = count < STATE_RUN ? count : STATE_RUN;
        error = copy_literals(in, out, count);
    }
    while (error == PGS_OK && in->at != in->end) {
        struct match match;
        unsigned byte = *in->at++;

        if (byte < 16 && state == STATE_NONE) {
            size_t count = byte + 3;
            if (byte == 0)
                error = read_long_length(in, 15 + 3, limit, &count);
            if (error == PGS_OK)
                error = copy_literals(in, out, count);
            state = STATE_RUN;
            continue;
        }
        error = read_match(in, byte, state, limit, &match);
        if (error == PGS_OK && match.is_end)
            return match.length == 3 && in->at == in->end ? PGS_OK : PGS_E_CORRUPT;
        if (error == PGS_OK)
            error = copy_match(out, match.distance, match.length);
        if (error == PGS_OK)
            error = copy_literals(in, out, match.literals);
        state = match.literals;
    }
    return PGS_E_CORRUPT; /* an error, or the end of the input before the end mark */
}

int pgs_lzo1x_decode(const void *src, size_t src_size, void *dst, size_t dst_cap,
                     size_t *dst_size_ret)
{
    struct reader in = {src, src == NULL ? src : (const unsigned char *)src + src_size};
    struct writer out = {dst, dst, dst == NULL ? dst : (unsigned char *)dst + dst_cap};
    int error = decode(&in, &out);

    *dst_size_ret = error == PGS_OK ? (size_t)(out.at - out.begin) : 0;
    return error;
}
