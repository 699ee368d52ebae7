/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about processors, virtual and real: modes, registers, load. */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/registers.h"
#include "monitor/command/command.h"
#include "monitor/command/registers.h"
#include "pgm/walk.h"
#include "vm/machine/schedule.h"
#include "vm/vcpu/nested.h"

static struct machine *chosen[CONFIG_MAX_MACHINES];

/* ---- info mode ---- */
/* PGE and NX as the host's own tables use them; long mode always. */
static const char *host_mode(void)
{
	static const char *const names[] = { "AMD64", "AMD64_G", "AMD64_NX", "AMD64_G_NX" };

	return names[(read_cr4() & CR4_PGE ? 1 : 0) + (rdmsr(MSR_EFER) & EFER_NXE ? 2 : 0)];
}

/* Whose second-level tables the vcpu runs on: the machine's own, or the shadow of those that its hypervisor has made for its guest. */
static const char *slat_mode(const struct vcpu *v)
{
	if (!vcpu_outer(v))
		return "DIRECT";
	return hv_capabilities.slat == SLAT_EPT ? "EPT" : "NPT";
}

/* Which columns are asked for. */
enum { MODE_GUEST = 1, MODE_SHADOW = 2, MODE_HOST = 4, MODE_ALL = 7 };

static unsigned mode_word(const char *word)
{
	static const char *const words[] = { "guest", "shadow", "host", "all" };
	static const uint8_t kinds[] = { MODE_GUEST, MODE_SHADOW, MODE_HOST, MODE_ALL };

	for (unsigned i = 0; word && i < ARRAY_SIZE(words); i++)
		if (!strcmp(word, words[i]))
			return kinds[i];
	return 0;
}

static void show_mode(struct output *out, struct vcpu *v, unsigned kinds)
{
	bool now = registers_fetch(v);

	output_cell_text(out, "%s vcpu %u", v->machine->name, v->id);
	if (kinds & MODE_GUEST) {
		output_cell_text(out, "%s", guest_mode_name(guest_mode_of(v->hv->cr0, v->hv->cr4, v->hv->efer)));
		output_cell_number(out, v->guest_mode_changes);
		output_cell_text(out, "%s", v->a20_mask ? "off" : "on");
		output_cell_text(out, "%s", registers_seen(now));
	}
	if (kinds & MODE_SHADOW) {
		output_cell_text(out, "%s", vcpu_in_l2(v) ? "L2" : "L1");
		output_cell_text(out, "%s", slat_mode(v));
	}
	if (kinds & MODE_HOST)
		output_cell_text(out, "%s", host_mode());
}

static void info_mode(struct output *out, char *const *argument)
{
	static const struct output_column all[] = {
		{ "vcpu", 0, false },      { "guest_mode", 0, false }, { "changes", 0, false },
		{ "a20", 0, false },       { "registers", 0, false },  { "level", 0, false },
		{ "slat_mode", 0, false }, { "host_mode", 0, false },
	};
	static const uint8_t kind_of[] = { MODE_ALL,   MODE_GUEST,  MODE_GUEST,  MODE_GUEST,
					   MODE_GUEST, MODE_SHADOW, MODE_SHADOW, MODE_HOST };
	struct output_column columns[ARRAY_SIZE(all)];
	/* One word alone may be either: a machine called "guest" is reached by "info mode guest guest". */
	bool named = argument[1] || !mode_word(argument[0]);
	unsigned kinds = mode_word(argument[named ? 1 : 0]), count, shown = 0;

	if (argument[1] && !kinds) {
		output_error(out, "usage: info mode [NAME] [all|guest|shadow|host]");
		return;
	}
	kinds = kinds ? kinds : MODE_ALL;
	count = command_machines(out, named ? argument[0] : NULL, chosen);
	if (out->failed)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
		if (kind_of[i] & kinds)
			columns[shown++] = all[i];
	output_records_begin(out, "modes", columns, shown);
	for (unsigned m = 0; m < count; m++)
		for (unsigned i = 0; i < chosen[m]->vcpu_count; i++)
			show_mode(out, chosen[m]->vcpu[i], kinds);
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
	output_cell_text(out, "%s", registers_seen(now));
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
			show_vcpu(out, chosen[m]->vcpu[i], registers_fetch(chosen[m]->vcpu[i]));
	output_table_end(out);
	if (!count)
		output_note(out, "no machine is running");
}

/* ---- cpu ---- */
static void cpu(struct output *out, char *const *argument)
{
	static const struct output_column columns[] = {
		{ "cpu", 3, true },           { "apic_id", 7, true },        { "vcpus", 5, true },
		{ "idle_percent", 12, true }, { "guest_percent", 13, true }, { "loops", 12, true },
		{ "fault", 9, true },         { "work", 9, true },           { "housekeeping", 12, true },
	};
	uint64_t now = rdtsc();

	(void)argument;
	output_table_begin(out, "cpus", columns, ARRAY_SIZE(columns));
	for (unsigned i = 0; i < cpu_count(); i++) {
		struct schedule_info info;
		uint64_t percent;

		if (!cpu_is_open(i))
			continue;
		schedule_describe(i, &info);
		percent = max_u64((now - info.started) / 100, 1);
		output_cell_number(out, i);
		output_cell_number(out, host_apic_id(i));
		output_cell_number(out, info.vcpus);
		output_cell_number(out, min_u64(info.idle_ticks / percent, 100));
		output_cell_number(out, min_u64(info.guest_ticks / percent, 100));
		output_cell_number(out, info.loops);
		for (unsigned s = 0; s < STRETCHES; s++)
			output_cell_number(out, info.longest[s]);
	}
	output_table_end(out);
}

static const struct command commands[] = {
	{ "info mode", "[NAME] [all|guest|shadow|host]", 0, 2, "paging modes: guest, second level, host", info_mode },
	{ "info cpu", "[NAME]", 0, 1, "vcpus: registers, activity, exits", info_cpu },
	{ "cpu", "", 0, 0, "host CPUs: vcpus, idle time, longest stretches with interrupts off in ticks", cpu },
};

const struct command_table commands_cpu = { commands, ARRAY_SIZE(commands) };
