/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: what the hypervisor's own operations on a machine's memory cost, in ticks of the time stamp counter each. For
 * `make bench`. It changes nothing that the machine could notice, so none of its vcpus may be in the guest meanwhile.
 */
#include "arch/x86_64/cpu.h"
#include "dev/apic/ioapic.h"
#include "monitor/command/command.h"
#include "pgm/handlers.h"
#include "vm/machine.h"

#define TIMES 256u
#define COLLAPSE_STEPS 100000u
/* Within memory that any machine has and has touched: where a kernel is loaded. */
#define PLACE gpa(0x100000)

static uint8_t page[PAGE_SIZE];

static bool copy_page(struct pgm *pgm)
{
	return pgm_write(pgm, PLACE, page, sizeof(page), ORIGIN_DEVICE, NULL) == OK;
}

static bool copy_out(struct pgm *pgm)
{
	return pgm_read(pgm, PLACE, page, sizeof(page), ORIGIN_DEVICE, NULL) == OK;
}

/* Through the tree to a device that answers with all ones, since it isn't the guest who asks. */
static bool hit_handler(struct pgm *pgm)
{
	struct pgm_access access = { .where = gpa(IOAPIC_BASE), .size = 4, .origin = ORIGIN_DEBUGGER };

	return pgm_device_access(pgm, &access) == OK;
}

/* 0: it failed. */
static uint64_t per_call(struct pgm *pgm, bool (*operation)(struct pgm *pgm))
{
	uint64_t before = rdtsc();

	for (unsigned i = 0; i < TIMES; i++)
		if (!operation(pgm))
			return 0;
	return (rdtsc() - before) / TIMES;
}

/* Blocks that became large, and what it took. */
struct made_large {
	uint64_t blocks, ticks;
};

/* All blocks that the worker finds worth it, now. */
static struct made_large collapse_all(struct pgm *pgm)
{
	struct pgm_counters c;
	uint64_t copies, start = rdtsc();
	struct made_large made = { 0 };
	bool more = true;

	pgm_counters_sum(pgm, &c);
	copies = c.large_collapsed;
	for (unsigned i = 0; i < COLLAPSE_STEPS && more; i++) {
		more = pgm_collapse_step(pgm);
		pgm_counters_sum(pgm, &c);
		if (c.large_collapsed == copies)
			continue;
		copies = c.large_collapsed;
		made.blocks++;
		made.ticks += rdtsc() - start;
		start = rdtsc();
	}
	return made;
}

static enum status nobody(void *user, struct pgm_access *access)
{
	return NOT_FOUND;
}

/* The translation of a page goes, with all that was derived from it for guests of a guest: a handler comes and goes. 0: it failed. */
static uint64_t zap_page(struct pgm *pgm, gpa_t where)
{
	handler_type type;
	uint64_t before, ticks;
	enum status status = pgm_handler_type_register(pgm, HANDLER_KIND_ALL, 0, nobody, "bench", &type);

	if (status != OK)
		return 0;
	before = rdtsc();
	status = pgm_handler_register(pgm, type, where, gpa(where.v + PAGE_SIZE - 1), NULL, "bench");
	ticks = rdtsc() - before;
	if (status == OK && pgm_handler_deregister(pgm, where) != OK)
		status = CONFLICT;
	return pgm_handler_type_deregister(pgm, type) == OK && status == OK ? ticks : 0;
}

/* Paused; or all vcpus are pinned to this CPU, which is busy here. */
static bool at_rest(const struct machine *m)
{
	bool ours = true;

	for (unsigned i = 0; i < m->vcpu_count; i++)
		ours &= !m->vcpu[i]->movable && m->vcpu[i]->cpu == cpu_index();
	return ours || machine_stands_still(m);
}

static void bench(struct output *out, char *const *argument)
{
	struct machine *m = command_live_machine(out, argument[0]);
	struct made_large made;
	uint64_t where;

	if (!m || (argument[1] && !command_number(out, argument[1], "address", &where)))
		return;
	if (!at_rest(m)) {
		output_error(out, "vm %s: has vcpus on other CPUs; pause it first", m->name);
		return;
	}
	if (argument[1]) {
		output_number(out, "zap", zap_page(m->pgm, gpa(where & ~(PAGE_SIZE - 1))));
		return;
	}
	output_fields(out, NUMBER("read_4k", per_call(m->pgm, copy_out)),
		      NUMBER("write_4k", per_call(m->pgm, copy_page)),
		      NUMBER("handler_hit", per_call(m->pgm, hit_handler)));
	made = collapse_all(m->pgm);
	output_fields(out, NUMBER("collapse", made.ticks), NUMBER("collapsed", made.blocks));
}

static const struct command commands[] = {
	{ "bench", "NAME [ADDRESS]", 1, 2, "ticks that operations on a machine's memory, or on one page, take", bench },
};

const struct command_table commands_bench = { commands, ARRAY_SIZE(commands) };
