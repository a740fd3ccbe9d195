/* SPDX-License-Identifier: MIT */
#include "pagestep/rom.h"

const struct pgs_rom_kit pgs_rom_kit_small = {
    .decode = {[PGS_CODEC_RAW] = pgs_rom_raw_decode,
               [PGS_CODEC_SAME] = pgs_rom_raw_decode,
               [PGS_CODEC_LZ4] = pgs_rom_lz4_decode},
    .undo = {[PGS_FILTER_NONE] = pgs_rom_undo_none,
             [PGS_FILTER_X86] = pgs_rom_undo_x86,
             [PGS_FILTER_ARM] = pgs_rom_undo_arm,
             [PGS_FILTER_THUMB] = pgs_rom_undo_thumb,
             [PGS_FILTER_ARM64] = pgs_rom_undo_arm64,
             [PGS_FILTER_RISCV] = pgs_rom_undo_riscv},
};
