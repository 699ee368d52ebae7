/* SPDX-License-Identifier: Apache-2.0 */
// sources: lib/ini.c lib/format.c lib/status.c
// sources: vm/config/parse.c vm/config/mistake.c vm/config/keys.c vm/config/value.c vm/config/check.c vm/config/topology.c
/*
 * Any bytes as quire.conf. Beyond what the sanitizers see, it checks what config_parse promises: a status that
 * agrees with the flags, good machines whose values are in range, texts that lie in the pool, errors with a text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/config/config.h"
#include "vm/config/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static struct quire_config config;
static unsigned told;

static void tell(void *context, unsigned line, const char *text)
{
	size_t length = strlen(text);

	CHECK(length > 0 && length < CONFIG_ERROR_SIZE);
	for (size_t i = 0; i < length; i++)
		CHECK(text[i] >= 0x20 && text[i] < 0x7f);
	told++;
}

static void check_machine(const struct config_machine *machine)
{
	CHECK(machine->name[0] && strlen(machine->name) <= CONFIG_MAX_NAME);
	CHECK(machine->bad == (machine->error.text[0] != 0));
	CHECK(machine->modules.count <= CONFIG_MAX_MODULES);
	CHECK(strlen(machine->kernel) <= CONFIG_MAX_FILE && strlen(machine->initrd) <= CONFIG_MAX_FILE);
	CHECK(strlen(machine->cmdline) <= CONFIG_MAX_CMDLINE && strlen(machine->share_group) <= CONFIG_MAX_NAME);
	for (unsigned i = 0; i < machine->modules.count; i++)
		CHECK(machine->modules.list[i].name[0] && machine->modules.list[i].arguments);
	CHECK(machine->memory >= 1 << 20 && machine->memory % 4096 == 0 && machine->memory <= UINT64_C(1) << 44);
	CHECK(machine->cpus >= 1 && machine->cpus <= 64 && machine->weight >= 1 && machine->weight <= 1000);
	if (machine->bad)
		return;
	CHECK(machine->kernel[0]);
	CHECK(!machine->nested && !machine->balloon && !strcmp(machine->pci_passthrough, "none"));
	if (machine->protocol == PROTOCOL_FLAT)
		CHECK(machine->load_address < machine->memory && machine->entry < machine->memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum status status;

	memset(&config, 0xa5, sizeof(config));
	told = 0;
	status = config_parse((const char *)data, size, &config, tell, NULL);
	CHECK(status == OK || status == BAD_VALUE || status == BAD_FORMAT);
	CHECK((status == BAD_FORMAT) == config.host.fatal);
	CHECK((status == OK) == (config.error_count == 0));
	CHECK(told == (config.error_count < CONFIG_MAX_TOLD ? config.error_count : CONFIG_MAX_TOLD));
	CHECK(config.machine_count <= CONFIG_MAX_MACHINES && config.pool_used <= CONFIG_MAX_TEXT);
	CHECK(config.host.bad == (config.host.error.text[0] != 0));
	for (unsigned i = 0; i < config.machine_count; i++)
		check_machine(&config.machines[i]);
	return 0;
}
