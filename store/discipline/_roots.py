# SPDX-License-Identifier: MIT
"""Where the discipline begins, and where it ends, when nobody says otherwise.

Names are those of Linux; one that an image lacks is passed over, so that one list serves
several versions.
"""

from __future__ import annotations

LINUX_COMMON = {
    "fault handler": ("handle_mm_fault",),
    "interrupt entry": (
        "__do_softirq",
        "handle_softirqs",
        "irq_exit_rcu",
        # The flow of an interrupt is called through its descriptor.
        "handle_edge_irq",
        "handle_fasteoi_irq",
        "handle_level_irq",
        "handle_percpu_devid_irq",
        "handle_simple_irq",
        "generic_handle_arch_irq",
        # So is the timer's.
        "hrtimer_interrupt",
        "tick_handle_periodic",
    ),
    "swap-in": ("do_swap_page", "swapin_readahead", "swap_readpage", "swap_read_folio"),
    "block I/O": (
        "submit_bio",
        "bio_endio",
        "blk_mq_submit_bio",
        "blk_mq_run_hw_queue",
        "blk_mq_run_work_fn",
        "blk_mq_dispatch_rq_list",
        "blk_mq_complete_request",
        "blk_mq_end_request",
    ),
    "scheduler": (
        "schedule",
        "__schedule",
        "preempt_schedule_irq",
        "try_to_wake_up",
        "default_wake_function",
        "scheduler_tick",
        "sched_tick",
        "__switch_to_asm",
        "__switch_to",
    ),
}
"""Roots that all instruction sets share, by what they are for."""

LINUX_ENTRY: dict[str, dict[str, tuple[str, ...]]] = {
    "x86": {
        "fault handler": ("asm_exc_page_fault", "exc_page_fault", "error_entry", "paranoid_entry"),
        "interrupt entry": (
            "asm_common_interrupt",
            "asm_spurious_interrupt",
            "asm_sysvec_*",
            "asm_exc_nmi",
            "irq_entries_start",
        ),
    },
    "arm": {
        "fault handler": (
            "__dabt_svc",
            "__dabt_usr",
            "__pabt_svc",
            "__pabt_usr",
            "do_DataAbort",
            "do_PrefetchAbort",
            "do_page_fault",
            "do_translation_fault",
            # The processor's own part of an abort, called through a table.
            "v*_early_abort",
            "*_pabort",
        ),
        "interrupt entry": (
            "__irq_svc",
            "__irq_usr",
            "__fiq_svc",
            "__fiq_usr",
            "vector_irq",
            "*_handle_irq",
            "handle_IRQ",
        ),
    },
    "arm64": {
        "fault handler": (
            "vectors",
            "el1h_64_sync",
            "el0t_64_sync",
            "el1h_64_sync_handler",
            "el0t_64_sync_handler",
            "do_mem_abort",
            "do_page_fault",
            "do_translation_fault",
        ),
        "interrupt entry": (
            "el1h_64_irq",
            "el0t_64_irq",
            "el1h_64_irq_handler",
            "el0t_64_irq_handler",
            "gic_handle_irq",
        ),
    },
    "riscv": {
        "fault handler": ("handle_exception", "do_page_fault", "handle_page_fault"),
        "interrupt entry": ("do_irq", "riscv_intc_irq", "plic_handle_irq"),
    },
}
"""Roots of one family of instruction sets, beside the common ones."""

FIRMWARE = {
    "reset": (
        "Reset_Handler",
        "reset_handler",
        "__reset",
        "_reset",
        "_start",
        "_entry",
        "z_arm_reset",
        "__start",
    ),
    "vectors": (
        "*_Handler",
        "*_IRQHandler",
        "_isr_wrapper",
        "z_arm_svc",
        "z_arm_pendsv",
        "exception_common",
        "trap_entry",
        "trap_handler",
        "trap_vector",
    ),
}
"""Roots of firmware, where an image has none of Linux."""

CUTS: dict[str, tuple[str, ...]] = {
    "the kernel ends here: nothing has to work afterwards": (
        "panic",
        "nmi_panic",
        "__stack_chk_fail",
        "emergency_restart",
        "machine_restart",
        "machine_halt",
        "machine_power_off",
        "kernel_restart",
        "kernel_halt",
        "kernel_power_off",
        "crash_kexec",
        "__crash_kexec",
    ),
    "a task, or the kernel, dies of its own fault": (
        "die",
        "die_addr",
        "die_kernel_fault",
        "__die",
        "arm_notify_die",
        "bad_mode",
        "oops_begin",
        "oops_end",
        "oops_enter",
        "oops_exit",
        "page_fault_oops",
        "kernelmode_fixup_or_oops",
        "make_task_dead",
        "rewind_stack_and_make_dead",
    ),
    "a warning: it is printed once, and what it says is a bug of the kernel": (
        "__warn",
        "__warn_printk",
        "warn_slowpath_fmt",
        "report_bug",
        "handle_bug",
        "refcount_warn_saturate",
        "fortify_panic",
        "__fortify_report",
        "__ubsan_handle_*",
        "kasan_report*",
        "kcsan_report*",
    ),
    "printing: it only happens beside one of the above, or where somebody is to read it": (
        "_printk",
        "_printk_deferred",
        "printk",
        "printk_deferred",
        "vprintk*",
        "__dynamic_pr_debug",
        "dump_stack*",
        "show_regs*",
        "show_stack*",
        "show_trace_log_lvl",
        "__show_regs",
        "show_mem",
        "__show_mem",
        "show_free_areas",
        "__show_free_areas",
        "warn_alloc",
        "dump_page",
        "dump_header",
        "dump_tasks",
        "print_hex_dump",
        "print_vma_addr",
        "print_bad_pte",
        "slab_err",
        "object_err",
        "_dev_*",
        "dev_printk*",
        "__dev_printk",
        "blk_dump_rq_flags",
    ),
    "a watchdog found the kernel stuck, and says where": (
        "watchdog_overflow_callback",
        "watchdog_timer_fn",
        "print_cpu_stall*",
        "print_other_cpu_stall",
        "rcu_dump_cpu_stacks",
        "rcu_check_gp_kthread_*",
        "show_rcu_gp_kthreads",
        "nmi_trigger_cpumask_backtrace",
        "nmi_cpu_backtrace",
        "__schedule_bug",
        "sched_show_task",
        "debug_show_all_locks",
        "__handle_sysrq",
        "handle_sysrq",
        "kgdb_*",
        "kdb_*",
    ),
}
"""Functions that are not entered, by why: a fault there comes too late to matter."""


def family_of(arch: str) -> str:
    """Return the family that an instruction set belongs to in ``LINUX_ENTRY``."""
    return {"x86_64": "x86", "thumb": "arm", "riscv32": "riscv", "riscv64": "riscv"}.get(arch, arch)


def linux_roots(arch: str) -> dict[str, tuple[str, ...]]:
    """Return the default roots of a Linux kernel, by what they are for."""
    entry = LINUX_ENTRY.get(family_of(arch), {})
    return {what: entry.get(what, ()) + globs for what, globs in LINUX_COMMON.items()}


def default_cuts() -> tuple[str, ...]:
    """Return the functions that are not entered, unless asked otherwise."""
    return tuple(glob for globs in CUTS.values() for glob in globs)
