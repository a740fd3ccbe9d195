// SPDX-License-Identifier: MIT
// A QEMU plugin that records which pages of a kernel are touched in interrupts and in faults.
//
//     -plugin record.so,plan=FILE,events=FILE,sites=FILE
//
// The plan says at which addresses what happens, a line each (record.py writes it):
//     image LOW HIGH | iret LOW HIGH | switch LOW HIGH | interrupt AT | fault AT | softirq AT |
//     to_user AT | preempt AT | new_task AT | mark AT ID | phase AT ID
// A mark is recorded the first time, a phase every time, as ID, ID + 1 and so on.
#include "context.h"
#include "plugin_api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_SHIFT = 12, FILTER_ENTRIES = 16, POINTS_MAX = 512, NAME_SIZE = 16 };
enum access { ACCESS_FETCH, ACCESS_READ, ACCESS_WRITE };

#define KERNEL_LOW UINT64_C(0xffff800000000000)

struct range {
    uint64_t low, high;
};

struct point {
    char name[NAME_SIZE];
    uint64_t at;
    uint32_t id;
    bool seen;
};

// The first instruction of a block, or of the part of a block on another page.
struct site {
    uint64_t at, counts[CONTEXT_COUNT];
    struct site *next;
};

// Pages and kinds of access, used last first, each as in an event.
struct filter {
    uint32_t tokens[FILTER_ENTRIES];
};

struct event { // as record.py reads it
    uint64_t time;
    uint32_t token; // page × 4 + access, or a mark's number
    uint32_t kind;  // CONTEXT_NONE for a mark
};
_Static_assert(sizeof(struct event) == 16, "record.py reads 16 bytes");

struct recorder {
    struct contexts contexts;
    struct filter filters[CONTEXT_COUNT];
    struct range image, iret, switching;
    struct point points[POINTS_MAX];
    unsigned point_count;
    uint64_t time, last_store;
    struct site *sites;
    FILE *events, *site_list;
};

PLUGIN_EXPORT int qemu_plugin_version = PLUGIN_VERSION;

// The translation callback gets no argument of ours, so this one pointer is the plugin's own.
static struct recorder *the_recorder;

static bool within(struct range range, uint64_t address)
{
    return range.low <= address && address < range.high;
}

static void write_event(struct recorder *rec, uint32_t token, enum context_kind kind)
{
    struct event event = {rec->time, token, kind};
    if (fwrite(&event, sizeof event, 1, rec->events) != 1) {
        perror("record: events");
        exit(1);
    }
}

static bool filter_miss(struct filter *filter, uint32_t token)
{
    unsigned i = 0;
    while (i < FILTER_ENTRIES - 1 && filter->tokens[i] != token)
        i++;
    bool miss = filter->tokens[i] != token;
    memmove(filter->tokens + 1, filter->tokens, i * sizeof *filter->tokens);
    filter->tokens[0] = token;
    return miss;
}

static void touch(struct recorder *rec, uint64_t address, enum access access,
                  enum context_kind kind)
{
    if (!within(rec->image, address))
        return;
    uint32_t token = (uint32_t)((address - rec->image.low) >> PAGE_SHIFT) * 4 + access;
    if (filter_miss(&rec->filters[kind], token))
        write_event(rec, token, kind);
}

static bool recorded(enum context_kind kind)
{
    return kind == CONTEXT_INTERRUPT || kind == CONTEXT_FAULT;
}

static void on_site(unsigned vcpu, void *ctx)
{
    (void)vcpu;
    struct recorder *rec = the_recorder;
    struct site *site = ctx;
    enum context_kind kind = context_now(&rec->contexts);
    site->counts[kind]++;
    if (recorded(kind))
        touch(rec, site->at, ACCESS_FETCH, kind);
}

static void on_memory(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *ctx)
{
    (void)vcpu;
    struct recorder *rec = ctx;
    bool store = qemu_plugin_mem_is_store(info);
    if (store)
        rec->last_store = address;
    enum context_kind kind = context_now(&rec->contexts);
    if (!recorded(kind))
        return;
    uint64_t last = address + (UINT64_C(1) << qemu_plugin_mem_size_shift(info)) - 1;
    touch(rec, address, store ? ACCESS_WRITE : ACCESS_READ, kind);
    if (last >> PAGE_SHIFT != address >> PAGE_SHIFT)
        touch(rec, last, store ? ACCESS_WRITE : ACCESS_READ, kind);
}

static void on_return(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *ctx)
{
    struct recorder *rec = ctx;
    (void)vcpu, (void)info;
    context_return(&rec->contexts, address);
}

static void on_switch(unsigned vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *ctx)
{
    struct recorder *rec = ctx;
    (void)vcpu;
    if (qemu_plugin_mem_is_store(info))
        context_switch_from(&rec->contexts, address);
    else
        context_switch_to(&rec->contexts, address);
}

static void on_user(unsigned vcpu, void *ctx)
{
    struct recorder *rec = ctx;
    (void)vcpu;
    context_user(&rec->contexts);
}

static void on_iret(unsigned vcpu, void *ctx)
{
    struct recorder *rec = ctx;
    (void)vcpu;
    context_iret(&rec->contexts);
}

static void on_point(unsigned vcpu, void *ctx)
{
    (void)vcpu;
    struct recorder *rec = the_recorder;
    struct point *point = ctx;
    if (!strcmp(point->name, "interrupt"))
        context_enter(&rec->contexts, CONTEXT_INTERRUPT, 0);
    else if (!strcmp(point->name, "fault"))
        context_enter(&rec->contexts, CONTEXT_FAULT, 0);
    else if (!strcmp(point->name, "softirq")) // it was called: its return address came last
        context_enter(&rec->contexts, CONTEXT_INTERRUPT, rec->last_store);
    else if (!strcmp(point->name, "to_user"))
        context_leave(&rec->contexts, true);
    else if (!strcmp(point->name, "preempt"))
        context_leave(&rec->contexts, false);
    else if (!strcmp(point->name, "new_task"))
        context_new_task(&rec->contexts);
    else if (!strcmp(point->name, "phase"))
        write_event(rec, point->id++, CONTEXT_NONE);
    else if (!point->seen) // a mark
        write_event(rec, point->id, CONTEXT_NONE);
    point->seen = true;
}

static void add_site(struct recorder *rec, struct qemu_plugin_insn *insn, uint64_t at)
{
    struct site *site = calloc(1, sizeof *site);
    if (!site)
        abort();
    *site = (struct site){.at = at, .next = rec->sites};
    rec->sites = site;
    qemu_plugin_register_vcpu_insn_exec_cb(insn, on_site, QEMU_PLUGIN_CB_NO_REGS, site);
}

static bool begins(struct qemu_plugin_insn *insn, const char *bytes, size_t size)
{
    return qemu_plugin_insn_size(insn) >= size && !memcmp(qemu_plugin_insn_data(insn), bytes, size);
}

static bool is_return(struct qemu_plugin_insn *insn)
{
    return begins(insn, "\xc3", 1) || begins(insn, "\xc2", 1) || begins(insn, "\xf3\xc3", 2);
}

// mov %rsp, N(%rdi) and mov N(%rsi), %rsp: to the task that goes, and from the one that comes.
static bool is_stack_switch(struct qemu_plugin_insn *insn)
{
    return begins(insn, "\x48\x89\xa7", 3) || begins(insn, "\x48\x8b\xa6", 3);
}

static void translate_kernel(struct recorder *rec, struct qemu_plugin_insn *insn, bool new_page)
{
    uint64_t at = qemu_plugin_insn_vaddr(insn);
    uint64_t last = at + qemu_plugin_insn_size(insn) - 1;

    for (unsigned i = 0; i < rec->point_count; i++)
        if (rec->points[i].at == at)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_point, QEMU_PLUGIN_CB_NO_REGS,
                                                   &rec->points[i]);
    if (new_page)
        add_site(rec, insn, at);
    if (at >> PAGE_SHIFT != last >> PAGE_SHIFT)
        add_site(rec, insn, last);
    if (within(rec->iret, at) && begins(insn, "\x48\xcf", 2))
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_iret, QEMU_PLUGIN_CB_NO_REGS, rec);

    plugin_mem_fn fn = on_memory;
    if (is_return(insn))
        fn = on_return;
    else if (within(rec->switching, at) && is_stack_switch(insn))
        fn = on_switch;
    qemu_plugin_register_vcpu_mem_cb(insn, fn, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, rec);
}

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct recorder *rec = the_recorder;
    uint64_t page = UINT64_MAX;
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t at = qemu_plugin_insn_vaddr(insn);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &rec->time, 1);
        if (at >= KERNEL_LOW)
            translate_kernel(rec, insn, at >> PAGE_SHIFT != page);
        else if (i == 0)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_user, QEMU_PLUGIN_CB_NO_REGS, rec);
        page = at >> PAGE_SHIFT;
    }
}

static void on_exit_of_qemu(qemu_plugin_id_t id, void *ctx)
{
    struct recorder *rec = ctx;
    const struct imbalances *bad = &rec->contexts.imbalances;
    (void)id;
    for (const struct site *site = rec->sites; site; site = site->next)
        fprintf(rec->site_list, "site %" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", site->at,
                site->counts[CONTEXT_INTERRUPT], site->counts[CONTEXT_FAULT],
                site->counts[CONTEXT_RETURN]);
    fprintf(rec->site_list,
            "total instructions %" PRIu64 "\ntotal switches %" PRIu64 "\ntotal interrupts %" PRIu64
            "\ntotal faults %" PRIu64 "\ntotal irets_outside %" PRIu64 "\n",
            rec->time, rec->contexts.switches, rec->contexts.entries[CONTEXT_INTERRUPT],
            rec->contexts.entries[CONTEXT_FAULT], rec->contexts.irets_outside);
    fprintf(rec->site_list,
            "wrong user_inside %" PRIu64 "\nwrong iret_softirq %" PRIu64
            "\nwrong leave_outer %" PRIu64 "\nwrong wrong_task %" PRIu64
            "\nwrong too_deep %" PRIu64 "\ntotal abandoned %" PRIu64
            "\n",
            bad->user_inside, bad->iret_softirq, bad->leave_outer, bad->wrong_task, bad->too_deep,
            bad->abandoned);
    if (fclose(rec->site_list) || fclose(rec->events))
        perror("record: output");
}

static int read_plan(struct recorder *rec, FILE *plan)
{
    char name[NAME_SIZE];
    uint64_t first, second;
    while (fscanf(plan, "%15s %" SCNx64 " %" SCNx64, name, &first, &second) == 3) {
        if (!strcmp(name, "image"))
            rec->image = (struct range){first, second};
        else if (!strcmp(name, "iret"))
            rec->iret = (struct range){first, second};
        else if (!strcmp(name, "switch"))
            rec->switching = (struct range){first, second};
        else if (rec->point_count == POINTS_MAX)
            return -1;
        else {
            struct point *point = &rec->points[rec->point_count++];
            *point = (struct point){.at = first, .id = (uint32_t)second};
            memcpy(point->name, name, sizeof name);
        }
    }
    return feof(plan) ? 0 : -1;
}

static FILE *open_argument(const char *argument, const char *name, const char *mode)
{
    size_t size = strlen(name);
    return strncmp(argument, name, size) ? NULL : fopen(argument + size, mode);
}

PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                      char **argv)
{
    if (!info->system_emulation || info->system.max_vcpus != 1 || argc != 3) {
        fprintf(stderr, "record: needs a system of one CPU, plan=, events= and sites=\n");
        return -1;
    }
    struct recorder *rec = the_recorder = calloc(1, sizeof *rec);
    if (!rec)
        return -1;
    contexts_init(&rec->contexts);
    memset(rec->filters, 0xff, sizeof rec->filters);
    FILE *plan = open_argument(argv[0], "plan=", "r");
    rec->events = open_argument(argv[1], "events=", "wb");
    rec->site_list = open_argument(argv[2], "sites=", "w");
    if (!plan || !rec->events || !rec->site_list || read_plan(rec, plan)) {
        fprintf(stderr, "record: plan, events or sites cannot be opened, or the plan is no plan\n");
        return -1;
    }
    fclose(plan);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_exit_of_qemu, rec);
    return 0;
}
