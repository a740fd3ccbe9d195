// SPDX-License-Identifier: MIT
#include "context.h"

#include <string.h>

void contexts_init(struct contexts *all)
{
    memset(all, 0, sizeof *all);
    // The boot task has no name until it is first switched from.
    all->current = &all->tasks[0];
    all->current->key = UINT64_MAX;
}

static struct context *innermost(const struct contexts *all)
{
    struct task *task = all->current;
    return task->depth ? &task->contexts[task->depth - 1] : NULL;
}

enum context_kind context_now(const struct contexts *all)
{
    const struct task *task = all->current;
    for (unsigned depth = task->depth; depth; depth--)
        if (!task->contexts[depth - 1].leaving)
            return task->contexts[depth - 1].kind;
    return task->depth ? CONTEXT_RETURN : CONTEXT_NONE;
}

void context_enter(struct contexts *all, enum context_kind kind, uint64_t return_slot)
{
    struct task *task = all->current;
    if (task->depth == CONTEXT_DEPTH_MAX) {
        all->imbalances.too_deep++;
        return;
    }
    all->entries[kind]++;
    task->contexts[task->depth++] = (struct context){kind, false, return_slot};
}

void context_leave(struct contexts *all, bool to_user)
{
    struct context *context = innermost(all);
    if (!context) // a system call returns
        return;
    if (to_user && all->current->depth > 1)
        all->imbalances.leave_outer++;
    context->leaving = true;
}

void context_iret(struct contexts *all)
{
    const struct context *context = innermost(all);
    if (!context) {
        all->irets_outside++;
        return;
    }
    if (context->return_slot)
        all->imbalances.iret_softirq++;
    all->current->depth--;
}

void context_return(struct contexts *all, uint64_t slot)
{
    const struct context *context = innermost(all);
    if (context && context->return_slot == slot)
        all->current->depth--;
}

void context_user(struct contexts *all)
{
    if (all->current->depth) {
        all->imbalances.user_inside++;
        all->current->depth = 0;
    }
}

void context_switch_from(struct contexts *all, uint64_t from)
{
    if (all->current->key == UINT64_MAX)
        all->current->key = from;
    if (all->current->key != from)
        all->imbalances.wrong_task++;
}

void context_switch_to(struct contexts *all, uint64_t to)
{
    all->switches++;
    for (unsigned i = 0; i < TASKS_MAX; i++) {
        struct task *task = &all->tasks[i];
        if (task->key == 0)
            task->key = to;
        if (task->key == to) {
            all->current = task;
            return;
        }
    }
    all->imbalances.too_deep++;
}

void context_new_task(struct contexts *all)
{
    if (all->current->depth)
        all->imbalances.abandoned++;
    all->current->depth = 0;
}
