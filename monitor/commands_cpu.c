/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands about processors, virtual and real: modes, registers, walks, load.
 *
 * A vcpu's registers can be had only where nobody runs it: on its own CPU between slices (that is here, for the
 * boot CPU's vcpus), or when its machine is paused. Otherwise what was last seen of them is shown, and
 * said to be that.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/registers.h"
#include "monitor/command.h"
#include "monitor/memory_map.h"
#include "pgm/walk.h"
#include "vm/schedule.h"
#include "vm/vcpu.h"

#define SHOWN_GROUPS (REGS_CONTROL | REGS_RFLAGS | REGS_RSP)

static struct machine *chosen[CONFIG_MAX_MACHINES];

/* Fetches the registers if they can be had now. On another CPU's vcpu, hands the backend's state back afterwards. */
static bool fetch_registers(struct vcpu *v)
{
	bool here = v->cpu == cpu_index();

	if (!here && (__atomic_load_n(&v->machine->state, __ATOMIC_ACQUIRE) == MACHINE_RUNNING ||
		      __atomic_load_n(&v->machine->vcpus_inside, __ATOMIC_ACQUIRE)))
		return false;
	hv_need(v->hv, SHOWN_GROUPS);
	if (!here)
		hv->unload(v->hv);
	return true;
}

static const char *seen_text(bool now)
{
	return now ? "now" : "last seen";
}

/* ---- info mode ---- */
/* PGE and NX as the host's own tables use them; long mode always. */
static const char *host_mode(void)
{
	static const char *const names[] = { "AMD64", "AMD64_G", "AMD64_NX", "AMD64_G_NX" };

	return names[(read_cr4() & CR4_PGE ? 1 : 0) + (rdmsr(MSR_EFER) & EFER_NXE ? 2 : 0)];
}

static void info_mode(struct output *out, char *const *argument)
{
	static const struct output_column columns[] = {
		{ "machine", 12, false }, { "vcpu", 4, true },   { "guest", 10, false },
		{ "slat", 5, false },     { "host", 10, false }, { "registers", 0, false },
	};
	unsigned count = command_machines(out, argument[0], chosen);

	if (out->failed)
		return;
	output_table_begin(out, "modes", columns, ARRAY_SIZE(columns));
	for (unsigned m = 0; m < count; m++) {
		for (unsigned i = 0; i < chosen[m]->vcpu_count; i++) {
			struct vcpu *v = chosen[m]->vcpu[i];
			bool now = fetch_registers(v);

			output_cell_text(out, "%s", chosen[m]->name);
			output_cell_number(out, i);
			output_cell_text(out, "%s",
					 guest_mode_name(guest_mode_of(v->hv->cr0, v->hv->cr4, v->hv->efer)));
			output_cell_text(out, "%s", hv_capabilities.slat == SLAT_EPT ? "EPT" : "NPT");
			output_cell_text(out, "%s", host_mode());
			output_cell_text(out, "%s", seen_text(now));
		}
	}
	output_table_end(out);
	if (!count)
		output_note(out, "no machine is running; host mode %s", host_mode());
}

/* ---- info cpu ---- */
static void show_vcpu(struct output *out, const struct vcpu *v, bool now)
{
	static const char *const activities[] = { "runnable", "halted", "waits for SIPI", "parked" };
	const struct hv_vcpu *h = v->hv;
	uint64_t exits = 0;

	for (unsigned i = 0; i < EXIT_KIND_COUNT; i++)
		exits += v->exits[i];
	output_cell_text(out, "%s vcpu %u", v->machine->name, v->id);
	output_cell_number(out, v->cpu);
	output_cell_text(out, "%s%s%s", activities[v->activity], *v->park_text ? ": " : "", v->park_text);
	output_cell_number(out, exits);
	output_cell_number(out, host_tsc_to_ns(v->run_ticks) / 1000);
	output_cell_text(out, "%s", seen_text(now));
	output_cell_hex(out, h->rip);
	output_cell_hex(out, h->gpr[GPR_RSP]);
	output_cell_hex(out, h->rflags);
	output_cell_hex(out, h->cr0);
	output_cell_hex(out, h->cr2);
	output_cell_hex(out, h->cr3);
	output_cell_hex(out, h->cr4);
	output_cell_hex(out, h->efer);
}

static void info_cpu(struct output *out, char *const *argument)
{
	static const struct output_column columns[] = {
		{ "vcpu", 0, false },   { "host_cpu", 0, false },  { "activity", 0, false }, { "exits", 0, false },
		{ "run_us", 0, false }, { "registers", 0, false }, { "rip", 0, false },      { "rsp", 0, false },
		{ "rflags", 0, false }, { "cr0", 0, false },       { "cr2", 0, false },      { "cr3", 0, false },
		{ "cr4", 0, false },    { "efer", 0, false },
	};
	unsigned count = command_machines(out, argument[0], chosen);

	if (out->failed)
		return;
	output_records_begin(out, "vcpus", columns, ARRAY_SIZE(columns));
	for (unsigned m = 0; m < count; m++)
		for (unsigned i = 0; i < chosen[m]->vcpu_count; i++)
			show_vcpu(out, chosen[m]->vcpu[i], fetch_registers(chosen[m]->vcpu[i]));
	output_table_end(out);
	if (!count)
		output_note(out, "no machine is running");
}

/* ---- walk ---- */
/* The registers as they stand in *h, fetched or last seen; a peek needs no rights, so no CPL and no keys. */
static void walk_context_of(const struct vcpu *v, struct walk_context *c)
{
	const struct hv_vcpu *h = v->hv;

	*c = (struct walk_context){ .cr0 = h->cr0,
				    .cr3 = h->cr3,
				    .cr4 = h->cr4,
				    .efer = h->efer,
				    .rflags = h->rflags,
				    .physical_bits = cpuid_physical_bits(v->machine->cpuid),
				    .page_1g = cpuid_has_1g(v->machine->cpuid),
				    .a20_mask = v->a20_mask };
	vcpu_fetch_pdptes(v, c, ORIGIN_DEBUGGER);
}

/* What an entry's bits mean in this format: "P W U A D PS G NX". */
static void entry_flags(const struct pt_format *f, uint64_t entry, char *text, size_t size)
{
	const struct {
		uint64_t mask;
		const char *name;
	} flags[] = { { f->present, "P" }, { f->write, "W" },  { f->user, "U" },   { f->accessed, "A" },
		      { f->dirty, "D" },   { f->large, "PS" }, { f->global, "G" }, { f->no_execute, "NX" } };
	size_t used = 0;

	text[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		size_t length = strlen(flags[i].name);

		if (!(entry & flags[i].mask) || used + length + 2 > size)
			continue;
		if (used)
			text[used++] = ' ';
		memcpy(text + used, flags[i].name, length + 1);
		used += length;
	}
}

static void show_steps(struct output *out, const struct pt_format *format, const struct walk_result *result,
		       uint64_t where)
{
	static const struct output_column columns[] = {
		{ "level", 5, true },  { "index", 5, true },  { "table_entry_at", 16, true },
		{ "entry", 18, true }, { "flags", 0, false },
	};

	output_table_begin(out, "steps", columns, ARRAY_SIZE(columns));
	for (unsigned i = 0; format && i < result->steps && i < PT_MAX_LEVELS; i++) {
		const struct walk_step *step = &result->step[i];
		char flags[32];

		entry_flags(format, step->entry, flags, sizeof(flags));
		output_cell_number(out, step->level);
		output_cell_number(out, pt_index(format, step->level, where));
		output_cell_hex(out, step->where.v);
		output_cell_hex(out, step->entry);
		output_cell_text(out, "%s", flags);
	}
	output_table_end(out);
}

static void show_outcome(struct output *out, struct machine *m, enum status status, const struct walk_result *result)
{
	if (status == GUEST_FAULT)
		output_text(out, "result", "page fault, error code 0x%x", result->error_code);
	else if (status == BAD_VALUE)
		output_text(out, "result", "not a canonical address");
	else if (status != OK)
		output_text(out, "result", "%s", status_text(status));
	if (status != OK)
		return;
	output_text(out, "result", "mapped");
	output_hex(out, "gpa", result->gpa.v);
	memory_page_show(out, m, result->gpa);
}

static void walk(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	struct walk_result result = { 0 };
	struct walk_context context;
	enum guest_mode mode;
	enum status status;
	uint64_t where;
	bool now;

	if (!m || !command_number(out, argument[1], "address", &where))
		return;
	now = fetch_registers(m->vcpu[0]);
	walk_context_of(m->vcpu[0], &context);
	mode = guest_mode_of(context.cr0, context.cr4, context.efer);
	output_hex(out, "gva", where);
	output_text(out, "registers", "%s", seen_text(now));
	output_text(out, "mode", "%s", guest_mode_name(mode));
	output_hex(out, "cr3", context.cr3);
	status = guest_walk(m->pgm, &context, gva(where), ACCESS_READ | WALK_PEEK, &result);
	show_steps(out, guest_mode_format(mode), &result, where);
	show_outcome(out, m, status, &result);
}

/* ---- cpu ---- */
static void cpu(struct output *out, char *const *argument)
{
	static const struct output_column columns[] = {
		{ "cpu", 3, true },           { "apic_id", 7, true },        { "vcpus", 5, true },
		{ "idle_percent", 12, true }, { "guest_percent", 13, true }, { "loops", 12, true },
	};
	uint64_t now = rdtsc();

	(void)argument;
	output_table_begin(out, "cpus", columns, ARRAY_SIZE(columns));
	for (unsigned i = 0; i < cpu_count(); i++) {
		struct schedule_info info;
		uint64_t percent;

		schedule_describe(i, &info);
		percent = max_u64((now - info.started) / 100, 1);
		output_cell_number(out, i);
		output_cell_number(out, host_apic_id(i));
		output_cell_number(out, info.vcpus);
		output_cell_number(out, min_u64(info.idle_ticks / percent, 100));
		output_cell_number(out, min_u64(info.guest_ticks / percent, 100));
		output_cell_number(out, info.loops);
	}
	output_table_end(out);
}

static const struct command commands[] = {
	{ "info mode", "[NAME]", 0, 1, "paging modes: guest, second level, host", info_mode },
	{ "info cpu", "[NAME]", 0, 1, "vcpus: registers, activity, exits", info_cpu },
	{ "walk", "NAME GVA", 2, 2, "translate a guest-linear address, level by level", walk },
	{ "cpu", "", 0, 0, "host CPUs: vcpus, idle time", cpu },
};

const struct command_table commands_cpu = { commands, ARRAY_SIZE(commands) };
