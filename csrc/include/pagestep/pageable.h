/* SPDX-License-Identifier: MIT */
#ifndef PAGESTEP_PAGEABLE_H
#define PAGESTEP_PAGEABLE_H

/*
 * Tags for the source of a kernel, a driver or firmware: which functions and
 * data may leave RAM, and how gladly. For GCC and Clang, C89 and later, C++.
 *
 *     static int __pageable_eager probe(void) { ... }
 *     static struct table __pageable_data table = { ... };
 *     static const char __pageable_rodata_once banner[] = "...";
 *
 * A tag puts what it stands before into a section of its level. pagestep reads
 * the sections back from object files, modules and linked images alike; link
 * with pagestep/pageable.ld, so that each level has pages of its own. Where an
 * image has tags at all, what is not tagged is PINNED. Rules go before tags.
 *
 * A section holds code, data or constants, never two of them: so there are
 * three tags of each level. One thing has one tag; compilers refuse a second
 * one. Uninitialised data that is tagged takes bytes in the file. Of a function's
 * tag on a variable they only warn (noinline is ignored): it then lies in code,
 * which may not be written.
 *
 * A tagged function is not inlined, for then it would be where its caller is.
 *
 * What the levels mean is in docs/LEVELS.md. The tag `once` is for what is
 * needed only until start-up ends, and is dropped then.
 */

#if !defined(__GNUC__) && !defined(__clang__)
#error "pagestep/pageable.h needs a compiler with GCC's attributes"
#endif

#define PAGESTEP_TEXT_(level) __attribute__((noinline, section(".pageable.text." level)))
#define PAGESTEP_DATA_(level) __attribute__((section(".pageable.data." level)))
#define PAGESTEP_RODATA_(level) __attribute__((section(".pageable.rodata." level)))

/* Functions. */
#define __nonpageable PAGESTEP_TEXT_("pinned")
#define __pageable_last_resort PAGESTEP_TEXT_("last_resort")
#define __pageable_reluctant PAGESTEP_TEXT_("reluctant")
#define __pageable_normal PAGESTEP_TEXT_("normal")
#define __pageable_eager PAGESTEP_TEXT_("eager")
#define __pageable_step_on_it PAGESTEP_TEXT_("step_on_it")
#define __pageable_once PAGESTEP_TEXT_("once")
#define __pageable __pageable_normal

/* Data that is written. */
#define __nonpageable_data PAGESTEP_DATA_("pinned")
#define __pageable_data_last_resort PAGESTEP_DATA_("last_resort")
#define __pageable_data_reluctant PAGESTEP_DATA_("reluctant")
#define __pageable_data_normal PAGESTEP_DATA_("normal")
#define __pageable_data_eager PAGESTEP_DATA_("eager")
#define __pageable_data_step_on_it PAGESTEP_DATA_("step_on_it")
#define __pageable_data_once PAGESTEP_DATA_("once")
#define __pageable_data __pageable_data_normal

/* Constants. */
#define __nonpageable_rodata PAGESTEP_RODATA_("pinned")
#define __pageable_rodata_last_resort PAGESTEP_RODATA_("last_resort")
#define __pageable_rodata_reluctant PAGESTEP_RODATA_("reluctant")
#define __pageable_rodata_normal PAGESTEP_RODATA_("normal")
#define __pageable_rodata_eager PAGESTEP_RODATA_("eager")
#define __pageable_rodata_step_on_it PAGESTEP_RODATA_("step_on_it")
#define __pageable_rodata_once PAGESTEP_RODATA_("once")
#define __pageable_rodata __pageable_rodata_normal

/*
 * Marks for `pagestep check`: that a function may fault, or must not, neither
 * itself nor by what it calls. A mark is a declaration of its own, anywhere
 * behind the function's first one; the function may be static, and may have
 * a tag as well, but not both marks:
 *
 *     static void __nonpageable tick(void) { ... }
 *     __no_fault(tick);
 *
 * It leaves the function's address in section .pagestep.may_fault or
 * .pagestep.no_fault: an attribute could not, for a function is in one section
 * and that is its tag's. So a function that is marked is not dropped, and the
 * compiler keeps a copy of it that is not inlined. pageable.ld keeps the
 * sections where the linker collects garbage; another script must
 * KEEP(*(.pagestep.may_fault)), and the other likewise.
 */
#define __may_fault(function) PAGESTEP_MARK_(function, may_fault)
#define __no_fault(function) PAGESTEP_MARK_(function, no_fault)
#define PAGESTEP_MARK_(function, mark)                                                        \
    static void (*const pagestep_##mark##_##function)(void)                                   \
        __attribute__((used, section(".pagestep." #mark))) = (void (*)(void))function

#endif
