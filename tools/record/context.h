// SPDX-License-Identifier: MIT
// Which context each task of a Linux kernel is in: none, an interrupt, a fault.
//
// Contexts nest within one task and stay with it while another task runs, as a fault does that
// waits for its page. So there is a stack of contexts for each task, and a current task.
#ifndef RECORD_CONTEXT_H
#define RECORD_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

enum context_kind {
    CONTEXT_NONE,
    CONTEXT_INTERRUPT, // hardware interrupt, NMI, or softirq wherever it runs
    CONTEXT_FAULT,     // page fault or other exception
    CONTEXT_RETURN,    // process context again, on the way out of either: may sleep, may fault
    CONTEXT_COUNT,
};

enum { TASKS_MAX = 8192, CONTEXT_DEPTH_MAX = 16 };

struct context {
    enum context_kind kind;
    bool leaving;        // it is doing what a return to a preemptible place asks for
    uint64_t return_slot; // where its return address lies, for a softirq; else 0
};

struct task {
    uint64_t key; // an address that is the task's own; 0: this place is free
    unsigned depth;
    struct context contexts[CONTEXT_DEPTH_MAX];
};

// What must not happen, counted; all but `abandoned` must be 0 for the contexts to be right.
struct imbalances {
    uint64_t user_inside;  // user mode ran while its task had a context
    uint64_t iret_softirq; // an interrupt return where a softirq was innermost
    uint64_t leave_outer;  // a return to user mode with other contexts around it
    uint64_t wrong_task;   // a switch from another task than the current one
    uint64_t too_deep;     // contexts or tasks beyond what there is room for
    uint64_t abandoned;    // a task ended within a context; its place was used again
};

struct contexts {
    struct task *current;
    struct imbalances imbalances;
    uint64_t switches, entries[CONTEXT_COUNT], irets_outside;
    struct task tasks[TASKS_MAX];
};

void contexts_init(struct contexts *all);

// The kind that what runs now belongs to.
enum context_kind context_now(const struct contexts *all);

// An entry; `return_slot` is 0 but for a function's call, whose return ends the context.
void context_enter(struct contexts *all, enum context_kind kind, uint64_t return_slot);

// The innermost context does what may sleep, on its way out. `to_user`: to user mode.
void context_leave(struct contexts *all, bool to_user);

// The entry code's iret is about to run.
void context_iret(struct contexts *all);

// A return read its address from `slot`.
void context_return(struct contexts *all, uint64_t slot);

// User mode runs.
void context_user(struct contexts *all);

// The scheduler saved the stack pointer of task `from`, or is about to load that of `to`.
void context_switch_from(struct contexts *all, uint64_t from);
void context_switch_to(struct contexts *all, uint64_t to);

// A new task runs for the first time.
void context_new_task(struct contexts *all);

#endif
