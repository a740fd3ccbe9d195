/* SPDX-License-Identifier: MIT
 *
 * A swap file is made, or one that is there is looked at, and refused unless it is this one.
 */
#define _GNU_SOURCE /* O_DIRECT, statx, locks of open files */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pagestep/error.h"
#include "store/blobs/deadline.h"
#include "store/blobs/swap.h"
#include "store/file_io.h"

enum {
    READ_BYTES = 16 * 1024,
    WRITE_BYTES = 32 * 1024,
    RECORDS_MIN = 4 /* of the largest size: fewer are no swap file */
};

struct opening {
    struct swap *swap;
    struct stat status;
    uint64_t size;         /* of the file or device */
    unsigned char *header; /* SWAP_HEADER_SIZE bytes, aligned */
    uint32_t flags;
};

static int lock_file(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return PGS_OK;
    return errno == EAGAIN || errno == EACCES ? PGS_E_IN_USE : PGS_E_IO;
}

/* -- O_DIRECT --------------------------------------------------------------------------- */

static void set_direct(int fd, bool direct)
{
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
}

/* What offsets must be multiples of for O_DIRECT; 0 where nobody says. */
static uint32_t direct_align(const struct opening *opening)
{
    int block_size;
    if (S_ISBLK(opening->status.st_mode))
        return ioctl(opening->swap->fd, BLKSSZGET, &block_size) == 0 ? (uint32_t)block_size : 0;
#ifdef STATX_DIOALIGN
    struct statx more;
    if (statx(opening->swap->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &more) == 0 &&
        (more.stx_mask & STATX_DIOALIGN))
        return more.stx_dio_offset_align;
#endif
    return SWAP_UNIT_MAX;
}

/* Asks for O_DIRECT. What it says is not believed before it was tried. */
static uint32_t try_direct(const struct opening *opening)
{
    uint32_t align = direct_align(opening);
    if (opening->flags & PGS_SWAP_BUFFERED || align == 0 || align > SWAP_UNIT_MAX)
        return SWAP_UNIT_MIN;
    set_direct(opening->swap->fd, true);
    return align > SWAP_UNIT_MIN ? align : SWAP_UNIT_MIN;
}

static bool is_direct(int fd)
{
    return fcntl(fd, F_GETFL) & O_DIRECT;
}

static int write_header(const struct opening *opening)
{
    int fd = opening->swap->fd;
    swap_header_write(&opening->swap->header, opening->header);
    int error = file_write(fd, opening->header, SWAP_HEADER_SIZE, 0);
    if (error && is_direct(fd)) {
        set_direct(fd, false);
        error = file_write(fd, opening->header, SWAP_HEADER_SIZE, 0);
    }
    if (error)
        return error;
    return opening->flags & PGS_SWAP_TEMPORARY || fsync(fd) == 0 ? PGS_OK : PGS_E_IO;
}

static int read_header(const struct opening *opening)
{
    int fd = opening->swap->fd;
    int error = file_read(fd, opening->header, SWAP_HEADER_SIZE, 0);
    if (error && is_direct(fd)) {
        set_direct(fd, false);
        error = file_read(fd, opening->header, SWAP_HEADER_SIZE, 0);
    }
    return error;
}

/* -- making one ------------------------------------------------------------------------- */

static int allocate_file(const struct opening *opening)
{
    const struct swap_header *header = &opening->swap->header;
    if (S_ISBLK(opening->status.st_mode))
        return PGS_OK;
    int error = posix_fallocate(opening->swap->fd, 0,
                                (off_t)swap_offset(header, header->unit_count));
    if (error == ENOSPC || error == EFBIG || error == EDQUOT)
        return PGS_E_FULL;
    return error ? PGS_E_IO : PGS_OK;
}

static uint32_t units_max_of(const struct swap_header *header)
{
    return swap_units(header->unit_size, header->shape.page_size + PGS_BLOB_EXTRA_MAX);
}

static int make(const struct opening *opening, const struct pgs_swap_shape *shape,
                uint64_t size_bytes)
{
    struct swap_header *header = &opening->swap->header;
    bool is_device = S_ISBLK(opening->status.st_mode);
    if (is_device && (size_bytes == 0 || size_bytes > opening->size))
        size_bytes = opening->size;
    *header = (struct swap_header){.shape = *shape, .version = SWAP_FORMAT_VERSION};
    header->unit_size = try_direct(opening);
    if (size_bytes > INT64_MAX || size_bytes < SWAP_HEADER_SIZE)
        return PGS_E_FULL;
    header->unit_count = (size_bytes - SWAP_HEADER_SIZE) / header->unit_size;
    if (header->unit_count > SWAP_UNIT_COUNT_MAX)
        header->unit_count = SWAP_UNIT_COUNT_MAX;
    if (header->unit_count < RECORDS_MIN * (uint64_t)units_max_of(header))
        return PGS_E_FULL;
    if (getrandom(header->file_id, sizeof header->file_id, 0) != sizeof header->file_id)
        return PGS_E_IO;
    header->file_id[0] |= 1; /* zeros are no record */
    if (!is_device && opening->size && ftruncate(opening->swap->fd, 0))
        return PGS_E_IO;
    /* First the header: who is cut off here finds a swap file that is only too short. */
    int error = write_header(opening);
    if (!error)
        error = allocate_file(opening);
    if (error && !is_device)
        (void)!ftruncate(opening->swap->fd, 0);
    return error;
}

/* -- opening one ------------------------------------------------------------------------ */

static bool is_same_shape(const struct pgs_swap_shape *one, const struct pgs_swap_shape *other)
{
    return one->page_size == other->page_size && one->page_count == other->page_count &&
           one->base_address == other->base_address && one->codec_id == other->codec_id &&
           one->filter_id == other->filter_id && one->dict_size == other->dict_size &&
           one->dict_xxh32 == other->dict_xxh32 &&
           memcmp(one->owner, other->owner, sizeof one->owner) == 0;
}

/* Looks at what is there; nothing is written before it is known to be ours. */
static int look(const struct opening *opening, const struct pgs_swap_shape *shape)
{
    struct swap_header *header = &opening->swap->header;
    if (opening->size < SWAP_HEADER_SIZE)
        return PGS_E_SWAP_FOREIGN;
    uint32_t align = try_direct(opening);
    int error = read_header(opening);
    if (!error)
        error = swap_header_read(opening->header, header);
    if (error)
        return error;
    if (!is_same_shape(&header->shape, shape))
        return PGS_E_SWAP_OTHER;
    if (header->unit_count < RECORDS_MIN * (uint64_t)units_max_of(header))
        return PGS_E_CORRUPT;
    if (header->unit_size % align)
        set_direct(opening->swap->fd, false);
    uint64_t size = swap_offset(header, header->unit_count);
    if (opening->size >= size)
        return PGS_OK;
    return S_ISBLK(opening->status.st_mode) ? PGS_E_CORRUPT : allocate_file(opening);
}

static int size_of(struct opening *opening)
{
    uint64_t size = 0;
    if (fstat(opening->swap->fd, &opening->status))
        return PGS_E_IO;
    opening->size = (uint64_t)opening->status.st_size;
    if (S_ISREG(opening->status.st_mode))
        return PGS_OK;
    if (!S_ISBLK(opening->status.st_mode))
        return PGS_E_SWAP_FOREIGN;
    if (ioctl(opening->swap->fd, BLKGETSIZE64, &size))
        return PGS_E_IO;
    opening->size = size;
    return PGS_OK;
}

/* -- memory ----------------------------------------------------------------------------- */

static size_t rounded(size_t size)
{
    return (size + SWAP_ALIGN - 1) / SWAP_ALIGN * SWAP_ALIGN;
}

static int prepare(struct swap *swap)
{
    const struct swap_header *header = &swap->header;
    uint64_t pages = header->shape.page_count;
    swap->units_max = units_max_of(header);
    swap->bay = header->unit_count - swap->units_max;
    size_t record = swap_bytes(swap, swap->units_max);
    swap->write_size = rounded(record > WRITE_BYTES ? record : WRITE_BYTES);
    swap->read_size = rounded(record > READ_BYTES ? record : READ_BYTES);
    swap->write_buffer = aligned_alloc(SWAP_ALIGN, swap->write_size);
    swap->zero_unit = aligned_alloc(SWAP_ALIGN, SWAP_ALIGN);
    swap->places = malloc(pages * sizeof *swap->places);
    swap->limbo = swap->temporary ? NULL : malloc(LIMBO_MAX * sizeof *swap->limbo);
    bool there = swap->write_buffer && swap->zero_unit && swap->places &&
                 (swap->limbo || swap->temporary);
    for (unsigned i = 0; i < READ_BUFFERS; i++)
        there &= (swap->read_buffers[i] = aligned_alloc(SWAP_ALIGN, swap->read_size)) != NULL;
    if (swap_space_init(&swap->space, header->unit_count) || !there)
        return PGS_E_NOMEM;
    memset(swap->zero_unit, 0, SWAP_ALIGN);
    for (uint64_t i = 0; i < pages; i++)
        swap->places[i] = (struct swap_place){.unit = PLACE_NONE};
    return PGS_OK;
}

static void describe(const struct swap *swap, struct pgs_swap_info *info)
{
    const struct swap_header *header = &swap->header;
    info->shape = header->shape;
    info->format_version = header->version;
    info->unit_size = header->unit_size;
    info->unit_count = header->unit_count;
}

static int open_as(struct opening *opening, const struct pgs_swap_shape *shape,
                   uint64_t size_bytes, struct pgs_swap_info *info)
{
    struct swap *swap = opening->swap;
    int error = lock_file(swap->fd);
    if (!error)
        error = size_of(opening);
    if (error)
        return error;
    bool is_empty = S_ISREG(opening->status.st_mode) && opening->size == 0;
    info->is_new = is_empty || opening->flags & PGS_SWAP_REPLACE;
    error = info->is_new ? make(opening, shape, size_bytes) : look(opening, shape);
    describe(swap, info);
    info->is_direct = is_direct(swap->fd);
    if (!error)
        error = prepare(swap);
    return error ? error : swap_scan(swap, info);
}

static int check(const struct pgs_swap_shape *shape, uint32_t flags)
{
    uint32_t known = PGS_SWAP_REPLACE | PGS_SWAP_TEMPORARY | PGS_SWAP_BUFFERED;
    bool ok = shape->struct_size == sizeof *shape && shape->page_size >= 512 &&
              shape->page_size <= 65536 && !(shape->page_size & (shape->page_size - 1)) &&
              shape->page_count > 0 && shape->page_count <= UINT32_MAX && !(flags & ~known);
    return ok ? PGS_OK : PGS_E_INVALID;
}

int pgs_blobs_swap(int fd, const struct pgs_swap_shape *shape, uint64_t size_bytes, uint32_t flags,
                   struct pgs_blobs *blobs_ret, struct pgs_swap_info *info_ret)
{
    memset(info_ret, 0, sizeof *info_ret);
    int error = check(shape, flags);
    if (error)
        return error;
    struct swap *swap = calloc(1, sizeof *swap);
    struct opening opening = {.swap = swap, .flags = flags,
                              .header = aligned_alloc(SWAP_ALIGN, SWAP_HEADER_SIZE)};
    if (!swap || !opening.header) {
        free(swap);
        free(opening.header);
        return PGS_E_NOMEM;
    }
    pthread_mutex_init(&swap->write_lock, NULL);
    pthread_mutex_init(&swap->map_lock, NULL);
    pthread_mutex_init(&swap->read_lock, NULL);
    condition_init(&swap->read_given);
    swap->temporary = flags & PGS_SWAP_TEMPORARY;
    swap->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    error = swap->fd < 0 ? PGS_E_IO : open_as(&opening, shape, size_bytes, info_ret);
    free(opening.header);
    if (error)
        swap_free(swap);
    else
        *blobs_ret = swap_blobs(swap);
    return error;
}
