/* SPDX-License-Identifier: MIT
 *
 * pagestep: a compressed page store for kernel and firmware images.
 * The whole public C interface; each part says what it promises.
 */
#ifndef PAGESTEP_H
#define PAGESTEP_H

#include "pagestep/blobs.h"
#include "pagestep/codec.h"
#include "pagestep/discipline.h"
#include "pagestep/error.h"
#include "pagestep/heap.h"
#include "pagestep/ids.h"
#include "pagestep/map.h"
#include "pagestep/pager.h"
#include "pagestep/rom.h"
#include "pagestep/rom_reader.h"
#include "pagestep/store.h"

#endif
