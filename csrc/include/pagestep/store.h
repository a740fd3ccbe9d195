/* SPDX-License-Identifier: MIT */
#ifndef PAGESTEP_STORE_H
#define PAGESTEP_STORE_H
#endif
