/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux bzImage, boot protocol 2.06 and later, by the 64-bit entry where the kernel has one, else by the
 * 32-bit entry. Manual: the kernel's Documentation/arch/x86/boot.rst.
 */
#include <asm/bootparam.h>
#include <string.h>

#include "vm/load/internal.h"

#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define HEADER_AT offsetof(struct boot_params, hdr)
#define MINIMUM_VERSION 0x0206u
#define ENTRY_64 0x200u
#define LOADER_TYPE_OTHER 0xff

_Static_assert(sizeof(struct boot_params) == 4096, "boot_params is one page");
_Static_assert(LOAD_INFO + sizeof(struct boot_params) <= LOAD_PAGE_TABLES, "boot_params below the page tables");

struct linux_image {
	const struct setup_header *header;
	uint64_t setup_size; /* boot sector and setup code */
	const uint8_t *payload;
	uint64_t payload_size;
	uint64_t load_at, end; /* where it goes; behind all that it uses until it knows the memory map */
	bool entry_64;
};

bool linux_detect(const struct guest_file *file)
{
	uint32_t magic;

	if (file->size < HEADER_AT + sizeof(struct setup_header))
		return false;
	memcpy(&magic, (const uint8_t *)file->data + HEADER_AT + offsetof(struct setup_header, header), sizeof(magic));
	return magic == HEADER_MAGIC;
}

/*
 * boot.rst, init_size: the kernel runs at its load address, aligned, but never below its preferred one (to which one that
 * isn't relocatable moves itself), and from there on init_size bytes are its own.
 */
static enum status place_kernel(struct loader *l, struct linux_image *image)
{
	const struct setup_header *h = image->header;
	bool newer = h->version >= 0x020a;
	uint64_t preferred = newer ? min_u64(h->pref_address, 4 * GIB) : 0;
	uint64_t unit = h->kernel_alignment, runs_at = max_u64(preferred, LOAD_HIGH);

	if (h->relocatable_kernel && unit && !(unit & (unit - 1)))
		runs_at = align_up(runs_at, unit);
	image->load_at = h->relocatable_kernel ? runs_at : LOAD_HIGH;
	image->end = max_u64(image->load_at + image->payload_size, runs_at + (newer ? h->init_size : 0));
	if (image->end <= l->low_end)
		return OK;
	return loader_fail(l, BAD_ADDRESS, "%s needs %lu %s of memory to start, the machine has %lu %s",
			   l->kernel->name, LOADER_SIZE(image->end), LOADER_SIZE(l->low_end));
}

static enum status parse(struct loader *l, struct linux_image *image)
{
	const uint8_t *data = l->kernel->data;
	const struct setup_header *h = (const struct setup_header *)(data + HEADER_AT);

	if (!linux_detect(l->kernel))
		return loader_fail(l, BAD_FORMAT, "%s is not a Linux bzImage", l->kernel->name);
	if (h->version < MINIMUM_VERSION)
		return loader_fail(l, NOT_SUPPORTED, "%s: boot protocol %u.%02u is too old (2.06 bzImage at least)",
				   l->kernel->name, h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH) || !h->code32_start)
		return loader_fail(l, NOT_SUPPORTED, "%s has only a 16-bit entry, which needs a BIOS: %s",
				   l->kernel->name,
				   h->code32_start ? "it is a zImage" : "its header gives no 32-bit one");
	image->header = h;
	image->setup_size = ((h->setup_sects ? h->setup_sects : 4) + UINT64_C(1)) * 512;
	if (image->setup_size >= l->kernel->size)
		return loader_fail(l, TRUNCATED, "%s ends inside its setup code", l->kernel->name);
	image->payload = data + image->setup_size;
	image->payload_size = l->kernel->size - image->setup_size;
	image->entry_64 = h->version >= 0x020c && (h->xloadflags & XLF_KERNEL_64);
	return place_kernel(l, image);
}

/* As high as allowed, below the end of low RAM, above the kernel. */
static enum status place_initrd(struct loader *l, const struct linux_image *image, struct boot_params *params)
{
	uint64_t limit = min_u64((uint64_t)image->header->initrd_addr_max + 1, l->low_end), at;
	const struct guest_file *file;

	if (!l->config->initrd || !l->config->initrd[0])
		return OK;
	TRY(loader_file(l, l->config->initrd, &file));
	if (file->size > limit || align_down(limit - file->size, PAGE_SIZE) < image->end)
		return loader_fail(l, BAD_ADDRESS,
				   "initrd %s (%lu %s) does not fit beside the kernel, which needs %lu %s", file->name,
				   LOADER_SIZE(file->size), LOADER_SIZE(image->end));
	at = align_down(limit - file->size, PAGE_SIZE);
	params->hdr.ramdisk_image = (uint32_t)at;
	params->hdr.ramdisk_size = (uint32_t)file->size;
	return loader_write(l, at, file->data, file->size, "initrd");
}

static enum status place_command_line(struct loader *l, const struct linux_image *image, struct boot_params *params)
{
	const char *text = l->config->cmdline ? l->config->cmdline : "";
	size_t length = strlen(text);

	if (length > image->header->cmdline_size)
		return loader_fail(l, BAD_VALUE, "cmdline has %zu characters, this kernel takes %u", length,
				   image->header->cmdline_size);
	params->hdr.cmd_line_ptr = (uint32_t)LOAD_COMMAND_LINE;
	return loader_write(l, LOAD_COMMAND_LINE, text, length + 1, "command line");
}

static void fill_map(const struct loader *l, struct boot_params *params)
{
	for (unsigned i = 0; i < l->map_count; i++) {
		params->e820_table[i].addr = l->map[i].base;
		params->e820_table[i].size = l->map[i].size;
		params->e820_table[i].type = l->map[i].usable ? 1 : 2;
	}
	params->e820_entries = (uint8_t)l->map_count;
}

enum status load_linux(struct loader *l)
{
	static struct boot_params params;
	struct linux_image image = { 0 };
	size_t header_size;

	TRY(parse(l, &image));
	memset(&params, 0, sizeof(params));
	/* The header ends where its own jump says (boot.rst, "Loading the rest of the kernel"). */
	header_size = 0x202u + ((const uint8_t *)l->kernel->data)[0x201] - HEADER_AT;
	memcpy(&params.hdr, image.header, min_u64(header_size, sizeof(params.hdr)));
	params.hdr.type_of_loader = LOADER_TYPE_OTHER;
	params.hdr.code32_start = (uint32_t)image.load_at;
	params.acpi_rsdp_addr = l->rsdp;
	fill_map(l, &params);
	TRY(place_initrd(l, &image, &params));
	TRY(place_command_line(l, &image, &params));
	TRY(loader_write(l, image.load_at, image.payload, image.payload_size, "kernel"));
	TRY(loader_write(l, LOAD_INFO, &params, sizeof(params), "boot parameters"));
	TRY(image.entry_64 ? loader_long(l, image.load_at + ENTRY_64) : loader_protected(l, image.load_at, 0x10, 0x18));
	l->plan->boot->gpr[GPR_RSI] = LOAD_INFO;
	return OK;
}
