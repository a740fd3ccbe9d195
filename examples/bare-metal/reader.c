/* SPDX-License-Identifier: MIT */
#define PAGESTEP_ROM_IMPLEMENTATION
#include "pagestep_rom.h"
