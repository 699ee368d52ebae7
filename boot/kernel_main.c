/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_main opens the rooms one after another, from the lowest to the highest, and ends in the
 * scheduler. What can't go on is told on one page that says what is missing and what to change.
 */
#include "boot/kernel.h"

#include <string.h>

#include "arch/x86_64/console.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/start.h"
#include "lib/format.h"
#include "mm/map.h"
#include "mm/secret_free.h"
#include "monitor/monitor.h"
#include "vm/load/load.h"
#include "vm/machine/schedule.h"

#define AP_POLL_NS UINT64_C(1000000000)

const struct hv_ops *hv SET_ONCE;
struct hv_caps hv_capabilities SET_ONCE;

static struct quire_config *config;

/* One heading, then the text broken at blanks into lines that fit a screen. */
static void tell(const char *heading, const char *text)
{
	size_t length = strlen(text), width = 88;

	while (length) {
		size_t take = length;

		if (take > width)
			for (take = width; take > 1 && text[take] != ' '; take--)
				;
		log_line(LOG_ERROR "  %-16s %.*s", heading, (int)take, text);
		heading = "";
		while (take < length && text[take] == ' ')
			take++;
		text += take;
		length -= take;
	}
}

static void tell_start(void)
{
	log_line(LOG_ERROR " ");
	log_line(LOG_ERROR "Quire can't start on this machine.");
}

void refuse(const char *missing, const char *change)
{
	tell_start();
	tell("What is missing:", missing);
	tell("What to change:", change);
	arch_refuse();
}

static const struct hv_ops *const backends[] = { &vmx_ops, &svm_ops };

/* The first backend that this processor can carry; else the page, with what each of them said. */
static void choose_backend(void)
{
	struct hv_refusal why[ARRAY_SIZE(backends)] = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(backends); i++) {
		if (backends[i]->probe(&hv_capabilities, &why[i]) == OK) {
			hv = backends[i];
			return;
		}
	}
	tell_start();
	tell("What is missing:", "hardware virtualisation with nested paging");
	for (unsigned i = 0; i < ARRAY_SIZE(backends); i++)
		tell(backends[i]->name, why[i].text);
	tell("What to change:",
	     "use a processor with VMX and EPT or with SVM and NPT, and switch virtualisation on in the "
	     "firmware setup (or nesting on in the hypervisor below)");
	arch_refuse();
}

/* Every CPU must offer what the boot CPU does. */
static enum status enable_this_cpu(struct hv_refusal *why)
{
	struct hv_caps caps;
	enum status status = hv->probe(&caps, why);

	return status == OK ? hv->enable_cpu(why) : status;
}

static enum status open_this_cpu(struct hv_refusal *why)
{
	if (!secret_free || chunk_map_open() == OK)
		return enable_this_cpu(why);
	return EXPLAIN(NO_MEMORY, why->text, sizeof(why->text), "no memory for its chunk map");
}

static bool ap_open(void)
{
	struct hv_refusal why = { 0 };
	bool open = open_this_cpu(&why) == OK;

	if (!open)
		log_line(LOG_WARNING "cpu %u: left out: %s", cpu_index(), why.text);
	return open;
}

static void ap_main(void)
{
	schedule_loop(NULL, AP_POLL_NS);
}

static struct guest_file files[BOOT_MAX_FILES];

static void hand_over_files(const struct boot_info *info)
{
	static const char *const errors[] = { "empty", "not found on the boot volume", "could not be read",
					      "did not fit in memory", "too many files" };
	unsigned count = info->file_count < BOOT_MAX_FILES ? info->file_count : BOOT_MAX_FILES;

	for (unsigned i = 0; i < count; i++) {
		const struct boot_file *f = &info->files[i];

		files[i] = (struct guest_file){ .name = f->name, .size = f->size };
		if (f->size)
			files[i].data = direct_pointer(hpa(f->address));
		else
			files[i].error = errors[f->error < ARRAY_SIZE(errors) ? f->error : 0];
	}
	load_set_files(files, count);
}

static void config_mistake(void *context, unsigned line, const char *text)
{
	if (line)
		log_line(LOG_ERROR "quire.conf line %u: %s", line, text);
	else
		log_line(LOG_ERROR "quire.conf: %s", text);
}

static void open_console(const struct config_host *host)
{
	_Static_assert(LOG_LEVEL_DEBUG - LOG_LEVEL_ERROR == 3, "the same four levels as in log.h");
	log_set_level((char)(*LOG_ERROR + host->log_level));
	if (!console_choose(host->console != CONSOLE_FRAMEBUFFER, host->console != CONSOLE_SERIAL))
		log_line(LOG_WARNING "console: what quire.conf chose is not there: using what is");
}

static void read_config(const struct boot_info *info)
{
	enum status status;

	config = heap_alloc(sizeof(*config));
	if (!config)
		refuse("memory for the configuration", "give the machine more memory");
	status = config_parse(direct_pointer(hpa(info->config_address)), info->config_size, config, config_mistake,
			      NULL);
	if (status == BAD_FORMAT)
		refuse("a usable configuration: see the lines above", "correct quire.conf on the boot volume");
	if (info->config_embedded)
		log_line(LOG_WARNING "no quire.conf on the boot volume: using the default configuration");
	open_console(&config->host);
	account_policy(config->host.overcommit == CONFIG_OVERCOMMIT_RATIO ? OVERCOMMIT_RATIO : OVERCOMMIT_NONE,
		       (unsigned)config->host.overcommit_ratio);
}

/* From here on guests' memory is out of reach; before there is any, and before other processors run. */
static void open_mapping(const struct boot_info *info)
{
	struct chunk_map_totals totals;

	if (config->host.mapping != MAPPING_SECRET_FREE)
		return;
	if (secret_free_start((unsigned)config->host.max_mapped_chunks, smp_count(info)) != OK)
		refuse("memory for the chunk map", "give the machine more memory, or lower max_mapped_chunks");
	chunk_map_totals(&totals);
	log_line("memory: guests' is not mapped in the hypervisor, but for %lu chunks of 2 MiB at a time", totals.most);
}

static void open_processors(const struct boot_info *info)
{
	struct hv_refusal why = { 0 };

	choose_backend();
	host_on_stop = hv->disable_cpu;
	if (config->host.executable_large_pages != LARGE_EXECUTE_AUTO)
		hv_capabilities.slat_large_execute = config->host.executable_large_pages == LARGE_EXECUTE_ON;
	if (!hv_capabilities.slat_large_execute)
		log_line("%s: guests' large pages hold no code", hv->name);
	if (hv->enable_cpu(&why) != OK)
		refuse(why.text, "switch virtualisation on in the firmware setup");
	log_line("%s: nested paging, %u CPUs named by the firmware", hv->name, info->cpu_count);
	if (smp_start(info, ap_open, ap_main) != OK)
		log_line(LOG_WARNING "some CPUs did not start: going on with %u", cpu_count());
}

_Noreturn void kernel_main(struct boot_info *boot)
{
	const struct boot_info *info = boot;

	if (arch_early(info) != OK)
		arch_refuse();
	log_line("Quire " QUIRE_VERSION);
	open_memory(info);
	info = direct_pointer(hpa((uint64_t)(uintptr_t)boot));
	if (arch_platform(info) != OK)
		arch_refuse();
	open_mm();
	read_config(info);
	open_mapping(info);
	open_processors(info);
	hand_over_files(info);
	if (machines_create(config) != OK)
		refuse("memory for the machines", "give the machine more memory");
	log_line("cpus: %u, time stamp counter: %lu kHz", cpu_count(), (host_tsc_hz() / 1000));
	first_entry.handover_tsc = info->handover_tsc;
	monitor_start(config);
	/* Asleep, too, it must not miss what is typed, where something can be. */
	schedule_loop(monitor_poll, console_can_read() ? CONSOLE_PATIENCE_NS : AP_POLL_NS);
}
