/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about processors, virtual and real: modes, registers, load. */
#include <string.h>

#include "arch/x86_64/host.h"
#include "lib/format.h"
#include "monitor/command/command.h"
#include "monitor/command/registers.h"
#include "pgm/walk.h"
#include "vm/machine/schedule.h"
#include "vm/vcpu/nested.h"

#define VCPU_NAME (CONFIG_MAX_NAME + 20)

static struct vcpu *chosen[COMMAND_MOST_VCPUS];

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

static const char *vcpu_name(const struct vcpu *v, char name[VCPU_NAME])
{
	format_string(name, VCPU_NAME, "%s vcpu %u", v->machine->name, v->id);
	return name;
}

static void show_mode(struct output *out, struct vcpu *v, unsigned kinds)
{
	bool now = registers_fetch(v), guest = kinds & MODE_GUEST;
	char name[VCPU_NAME];

	output_row(out, TEXT("vcpu", vcpu_name(v, name)),
		   guest ? TEXT("guest_mode", guest_mode_name(guest_mode_of(v->hv->cr0, v->hv->cr4, v->hv->efer)))
			 : LEFT_OUT,
		   guest ? NUMBER("changes", v->guest_mode_changes) : LEFT_OUT,
		   guest ? TEXT("a20", v->a20_mask ? "off" : "on") : LEFT_OUT,
		   guest ? TEXT("registers", registers_seen(now)) : LEFT_OUT,
		   kinds & MODE_SHADOW ? TEXT("level", vcpu_in_l2(v) ? "L2" : "L1") : LEFT_OUT,
		   kinds & MODE_SHADOW ? TEXT("slat_mode", slat_mode(v)) : LEFT_OUT,
		   kinds & MODE_HOST ? TEXT("host_mode", host_mode()) : LEFT_OUT);
}

static void info_mode(struct output *out, char *const *argument)
{
	/* One word alone may be either: a machine called "guest" is reached by "info mode guest guest". */
	bool named = argument[1] || !mode_word(argument[0]);
	unsigned kinds = mode_word(argument[named ? 1 : 0]), count;

	if (argument[1] && !kinds) {
		output_error(out, "usage: info mode [NAME[/VCPU]] [all|guest|shadow|host]");
		return;
	}
	kinds = kinds ? kinds : MODE_ALL;
	count = command_vcpus(out, named ? argument[0] : NULL, chosen);
	if (out->failed)
		return;
	output_records_begin(out, "modes");
	for (unsigned i = 0; i < count; i++)
		show_mode(out, chosen[i], kinds);
	output_table_end(out);
	if (!count)
		output_note(out, "no machine is running; host mode %s", host_mode());
}

/* ---- info cpu ---- */
static void show_vcpu(struct output *out, const struct vcpu *v, bool now)
{
	static const char *const activities[] = { "runnable", "halted", "waits for SIPI", "parked" };
	char name[VCPU_NAME], activity[sizeof(v->park_text) + 20];
	const struct hv_vcpu *h = v->hv;
	uint64_t exits = 0;

	for (unsigned i = 0; i < EXIT_KIND_COUNT; i++)
		exits += v->exits[i];
	format_string(activity, sizeof(activity), "%s%s%s", activities[v->activity], *v->park_text ? ": " : "",
		      v->park_text);
	output_row(out, TEXT("vcpu", vcpu_name(v, name)), NUMBER("host_cpu", v->cpu), NUMBER_OF(*v, moves),
		   NUMBER("waited_us", host_tsc_to_ns(v->waited_ticks) / 1000), TEXT("activity", activity),
		   NUMBER("exits", exits), NUMBER("run_us", host_tsc_to_ns(v->run_ticks) / 1000),
		   TEXT("registers", registers_seen(now)), HEX_OF(*h, rip), HEX("rsp", h->gpr[GPR_RSP]),
		   HEX_OF(*h, rflags), HEX_OF(*h, cr0), HEX_OF(*h, cr2), HEX_OF(*h, cr3), HEX_OF(*h, cr4),
		   HEX_OF(*h, efer));
}

static void info_cpu(struct output *out, char *const *argument)
{
	unsigned count = command_vcpus(out, argument[0], chosen);

	if (out->failed)
		return;
	output_records_begin(out, "vcpus");
	for (unsigned i = 0; i < count; i++)
		show_vcpu(out, chosen[i], registers_fetch(chosen[i]));
	output_table_end(out);
	if (!count)
		output_note(out, "no machine is running");
}

/* ---- cpu ---- */
static void cpu(struct output *out, char *const *argument)
{
	uint64_t now = rdtsc();

	output_table_begin(out, "cpus");
	for (unsigned i = 0; i < cpu_count(); i++) {
		struct schedule_info info;
		uint64_t percent;

		if (!cpu_is_open(i))
			continue;
		schedule_describe(i, &info);
		percent = max_u64((now - info.started) / 100, 1);
		output_row(out, NUMBER("cpu", i, 3), NUMBER("apic_id", host_apic_id(i), 7),
			   NUMBER_OF(info.queue, vcpus, 5),
			   NUMBER("idle_percent", min_u64(info.idle_ticks / percent, 100), 12),
			   NUMBER("guest_percent", min_u64(info.guest_ticks / percent, 100), 13),
			   NUMBER_OF(info.queue, waiting, 7), NUMBER_OF(info.queue, moves, 9),
			   NUMBER("node", host_node(i), 4), NUMBER_OF(info, loops, 12),
			   NUMBER("fault", info.longest[STRETCH_FAULT], 9),
			   NUMBER("work", info.longest[STRETCH_WORK], 9),
			   NUMBER("housekeeping", info.longest[STRETCH_HOUSEKEEPING], 12));
	}
	output_table_end(out);
}

static const struct command commands[] = {
	{ "info mode", "[NAME[/VCPU]] [all|guest|shadow|host]", 0, 2, "paging modes: guest, second level, host",
	  info_mode },
	{ "info cpu", "[NAME[/VCPU]]", 0, 1, "vcpus: registers, activity, exits", info_cpu },
	{ "cpu", "", 0, 0, "host CPUs: vcpus, idle time, longest stretches with interrupts off in ticks", cpu },
};

const struct command_table commands_cpu = { commands, ARRAY_SIZE(commands) };
