/* SPDX-License-Identifier: Apache-2.0 */
/* For kvm.c: a multiboot 1 guest's memory, its image and its boot information. What can't be done ends the program. */
#pragma once

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1024ul * 1024)
#define MEMORY (128 * MIB)
#define INFO 0x7000u
#define COMMAND_LINE 0x20000u

static uint8_t *memory;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int checked(int result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

/* Returns the entry; *top is the image's end. */
static uint32_t load(const char *path, uint32_t *top)
{
	static uint8_t file[4 * MIB];
	int fd = checked(open(path, O_RDONLY), path);
	long size = read(fd, file, sizeof(file));
	const Elf32_Ehdr *e = (const Elf32_Ehdr *)file;

	if (size < (long)sizeof(*e) || memcmp(file, ELFMAG, SELFMAG)) {
		fprintf(stderr, "%s: no ELF file\n", path);
		exit(1);
	}
	for (int i = 0; i < e->e_phnum; i++) {
		const Elf32_Phdr *p = (const Elf32_Phdr *)(file + e->e_phoff) + i;

		if (p->p_type != PT_LOAD)
			continue;
		memcpy(memory + p->p_paddr, file + p->p_offset, p->p_filesz);
		if (p->p_paddr + p->p_memsz > *top)
			*top = p->p_paddr + p->p_memsz;
	}
	close(fd);
	return e->e_entry;
}

/* Multiboot information: memory, command line, one module. */
static void boot_information(const char *line, uint32_t top, unsigned long module_size)
{
	uint32_t *info = (uint32_t *)(memory + INFO), *module = info + 32;
	uint32_t start = (top + 0xfff) & ~0xfffu;

	strcpy((char *)memory + COMMAND_LINE, line);
	info[0] = 1 | 4 | 8;
	info[1] = 639;
	info[2] = (uint32_t)((MEMORY - MIB) / 1024);
	info[4] = COMMAND_LINE;
	info[5] = module_size ? 1 : 0;
	info[6] = INFO + 32 * 4;
	module[0] = start;
	module[1] = start + (uint32_t)module_size;
	for (unsigned long at = 0; at < module_size; at += 4096)
		memory[start + at] = 0x5a;
}
