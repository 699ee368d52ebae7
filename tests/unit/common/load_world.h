/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine as the loaders see it, over a PGM that the test has made: one boot vcpu whose registers are plain memory.
 * For unit tests and fuzz targets alike, so no cmocka here.
 */
#pragma once

#include <asm/bootparam.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "vm/config/topology.h"
#include "vm/load/load.h"
#include "vm/load/internal.h"

static struct load_plan load_plan;
static struct config_machine load_config;
static struct hv_vcpu load_hv;
static struct guest_file load_files[4];
static char load_why[200];

static void fake_load(struct hv_vcpu *vcpu, uint32_t groups)
{
	vcpu->valid |= groups;
}

static const struct hv_ops fake_hv = { .name = "fake", .load = fake_load };
const struct hv_ops *hv = &fake_hv;

/* The kernel is load_files[0], an initrd or module "second" is load_files[1]. */
static void load_world(struct pgm *pgm, enum config_protocol protocol)
{
	memset(&load_hv, 0, sizeof(load_hv));
	memset(load_files, 0, sizeof(load_files));
	load_config = (struct config_machine){
		.kernel = "kernel", .initrd = "", .cmdline = "", .protocol = protocol, .topology = TOPOLOGY(1, 1, 2)
	};
	load_plan = (struct load_plan){ .pgm = pgm, .config = &load_config, .vcpu_count = 2, .boot = &load_hv };
	load_files[0].name = "kernel";
	load_files[1] = (struct guest_file){ .name = "second", .error = "not found" };
	load_set_files(load_files, 2);
	load_why[0] = 0;
}

static enum status load_run(const void *image, size_t size)
{
	load_files[0].data = image;
	load_files[0].size = size;
	return load_guest(&load_plan, load_why, sizeof(load_why));
}

#define SETUP_BYTES 1024u /* boot sector and one more */
#define KERNEL_BYTES 9000u
#define PREFERRED UINT64_C(0x1000000)

/* A bzImage of boot protocol 2.15 with both entries. */
static void make_bzimage(uint8_t *image)
{
	struct setup_header *h = (struct setup_header *)(image + offsetof(struct boot_params, hdr));

	memset(image, 0, SETUP_BYTES);
	for (unsigned i = 0; i < KERNEL_BYTES; i++)
		image[SETUP_BYTES + i] = (uint8_t)(i * 31 >> 2);
	image[0x201] = sizeof(*h) - (0x202 - 0x1f1);
	h->setup_sects = 1;
	h->header = 0x53726448;
	h->version = 0x020f;
	h->loadflags = LOADED_HIGH;
	h->code32_start = 0x100000;
	h->kernel_alignment = 2 << 20;
	h->xloadflags = XLF_KERNEL_64;
	h->initrd_addr_max = 0x7fffffff;
	h->cmdline_size = 300;
	h->relocatable_kernel = 1;
	h->pref_address = PREFERRED;
	h->init_size = 1 << 20;
}
#define BZIMAGE_BYTES (SETUP_BYTES + KERNEL_BYTES)

static void put_multiboot(uint8_t *at, uint32_t flags)
{
	uint32_t header[3] = { 0x1badb002, flags, -(0x1badb002 + flags) };

	memcpy(at, header, sizeof(header));
}

#define ELF_BYTES 4096u
#define ELF_HEADERS 0x101u /* where the program headers are: not aligned */
#define ELF_DATA 0x800u

static void make_elf32(uint8_t *image)
{
	Elf32_Ehdr e = { .e_ident = ELFMAG "\1\1\1",
			 .e_type = ET_EXEC,
			 .e_machine = EM_386,
			 .e_version = 1,
			 .e_entry = 0x100010,
			 .e_phoff = ELF_HEADERS,
			 .e_phentsize = sizeof(Elf32_Phdr),
			 .e_phnum = 2 };
	Elf32_Phdr p[2] = {
		{ .p_type = PT_NOTE },
		{ .p_type = PT_LOAD, .p_offset = ELF_DATA, .p_paddr = 0x100000, .p_filesz = 0x700, .p_memsz = 0x3000 }
	};

	memset(image, 0x11, ELF_BYTES);
	memcpy(image, &e, sizeof(e));
	put_multiboot(image + 0x80, 3);
	memcpy(image + ELF_HEADERS, p, sizeof(p));
}

static void make_elf64(uint8_t *image)
{
	Elf64_Ehdr e = { .e_ident = ELFMAG "\2\1\1",
			 .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_version = 1,
			 .e_entry = 0x100010,
			 .e_phoff = ELF_HEADERS,
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2 };
	Elf64_Phdr p[2] = {
		{ .p_type = PT_NOTE },
		{ .p_type = PT_LOAD, .p_offset = ELF_DATA, .p_paddr = 0x100000, .p_filesz = 0x700, .p_memsz = 0x3000 }
	};

	memset(image, 0x11, ELF_BYTES);
	memcpy(image, &e, sizeof(e));
	put_multiboot(image + 0x80, 3);
	memcpy(image + ELF_HEADERS, p, sizeof(p));
}
