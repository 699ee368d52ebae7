/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contradictions between keys of one section. Each rule is a row: the key to blame, the text, and a small
 * function that says whether the rule is broken. The first broken one is told.
 */
#include "vm/config/keys.h"
#include "vm/config/topology.h"

#define REAL_MODE_TOP MIB

struct machine_rule {
	enum machine_key key;
	enum config_protocol protocol;
	bool (*broken)(const struct config_machine *machine); /* NULL: given, though another protocol was chosen */
	const char *text;
};

static bool given(const struct config_machine *machine, enum machine_key key)
{
	return machine->key_lines[key] != 0;
}

static bool no_kernel(const struct config_machine *machine)
{
	return !machine->kernel[0];
}

/* Addresses matter when the machine may turn out flat and says where it wants to be. */
static bool places_itself(const struct config_machine *machine)
{
	return machine->protocol == PROTOCOL_FLAT || given(machine, KEY_LOAD_ADDRESS) || given(machine, KEY_ENTRY);
}

static bool load_outside(const struct config_machine *machine)
{
	uint64_t low_memory = min_u64(machine->memory, 4 * GIB - machine->ram_hole);
	uint64_t top = machine->flat_mode == FLAT_REAL ? min_u64(low_memory, REAL_MODE_TOP) : low_memory;

	return places_itself(machine) && machine->load_address >= top;
}

static bool entry_outside(const struct config_machine *machine)
{
	uint64_t top = machine->flat_mode == FLAT_REAL ? REAL_MODE_TOP : machine->memory;

	return places_itself(machine) && (machine->entry < machine->load_address || machine->entry >= top);
}

static bool other_number(const struct config_machine *machine)
{
	const struct topology t = topology_of(machine);

	return t.sockets * t.cores * t.threads != machine->cpus;
}

static bool passthrough_lazy(const struct config_machine *machine)
{
	const struct ini_text none = { "none", 4 };

	return !ini_equal(none, machine->pci_passthrough) && !machine->ram_preallocate;
}

static bool fusion_preallocated(const struct config_machine *machine)
{
	return machine->page_fusion && machine->ram_preallocate;
}

static bool balloon_preallocated(const struct config_machine *machine)
{
	return machine->balloon && machine->ram_preallocate;
}

static bool grows_badly(const struct config_machine *machine)
{
	return machine->memory_max && (machine->memory_max < machine->memory || machine->memory % (2 * MIB));
}

/* At a reset all that was plugged is given back. */
static bool grows_and_keeps(const struct config_machine *machine)
{
	return machine->memory_max && (machine->ram_preallocate || !machine->zero_ram_on_reset);
}

static const struct machine_rule machine_rules[] = {
	{ KEY_KERNEL, PROTOCOL_AUTO, no_kernel, "missing; a machine needs a kernel = FILE" },
	{ KEY_INITRD, PROTOCOL_LINUX, NULL, "used by protocol = linux only" },
	{ KEY_MODULES, PROTOCOL_MULTIBOOT, NULL, "used by protocol = multiboot only" },
	{ KEY_LOAD_ADDRESS, PROTOCOL_FLAT, NULL, "used by protocol = flat only" },
	{ KEY_ENTRY, PROTOCOL_FLAT, NULL, "used by protocol = flat only" },
	{ KEY_FLAT_MODE, PROTOCOL_FLAT, NULL, "used by protocol = flat only" },
	{ KEY_LOAD_ADDRESS, PROTOCOL_AUTO, load_outside,
	  "outside the machine's memory below 4 GiB, or above 1M with flat_mode = real" },
	{ KEY_ENTRY, PROTOCOL_AUTO, entry_outside,
	  "below load_address, outside memory, or above 1M with flat_mode = real" },
	{ KEY_TOPOLOGY, PROTOCOL_AUTO, other_number, "sockets, cores and threads don't make the number of cpus" },
	{ KEY_PCI_PASSTHROUGH, PROTOCOL_AUTO, passthrough_lazy, "needs ram_preallocate = on" },
	{ KEY_PAGE_FUSION, PROTOCOL_AUTO, fusion_preallocated, "not possible with ram_preallocate = on" },
	{ KEY_BALLOON, PROTOCOL_AUTO, balloon_preallocated, "not possible with ram_preallocate = on" },
	{ KEY_MEMORY_MAX, PROTOCOL_AUTO, grows_and_keeps,
	  "not possible with ram_preallocate = on, nor with zero_ram_on_reset = off" },
	{ KEY_MEMORY_MAX, PROTOCOL_AUTO, grows_badly, "less than memory, or memory isn't in steps of 2M" },
};

static bool is_broken(const struct machine_rule *rule, const struct config_machine *machine)
{
	if (rule->broken)
		return rule->broken(machine);
	return given(machine, rule->key) && machine->protocol != PROTOCOL_AUTO && machine->protocol != rule->protocol;
}

const char *config_check_machine(struct config_machine *machine, unsigned *key)
{
	if (machine->load_address == CONFIG_AUTO)
		machine->load_address = machine->flat_mode == FLAT_REAL ? 0x7c00 : MIB;
	if (machine->entry == CONFIG_AUTO)
		machine->entry = machine->load_address;
	if (machine->topology == CONFIG_AUTO)
		machine->topology = TOPOLOGY(1, machine->cpus, 1);
	for (size_t i = 0; i < ARRAY_SIZE(machine_rules); i++) {
		if (!is_broken(&machine_rules[i], machine))
			continue;
		*key = machine_rules[i].key;
		return machine_rules[i].text;
	}
	return NULL;
}

const char *config_check_host(const struct config_host *host, unsigned *key)
{
	*key = KEY_OVERCOMMIT_RATIO;
	if (host->key_lines[KEY_OVERCOMMIT_RATIO] && host->overcommit != CONFIG_OVERCOMMIT_RATIO)
		return "used with overcommit = ratio only";
	*key = KEY_MAX_MAPPED_CHUNKS;
	if (host->key_lines[KEY_MAX_MAPPED_CHUNKS] && host->mapping != MAPPING_SECRET_FREE)
		return "used with mapping = secret-free only";
	return NULL;
}
