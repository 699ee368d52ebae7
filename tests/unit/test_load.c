/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c vm/load/load.c vm/load/flat.c vm/load/linux.c vm/load/multiboot.c vm/load/acpi.c vm/load/bios.c vm/config/topology.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c
/*
 * Guest loaders: what a good image becomes, byte by byte and register by register, and that bad ones are refused with a
 * text: cut off at every length, with absurd numbers in every field, with random bytes changed. Every image stands
 * in an allocation of its own size, so that a byte read past its end is seen.
 */
#include "common/pgm_world.h"
#include "common/load_world.h"
#undef PF_W /* of elf.h */
#include "dev/pci/pci.h"
#include "pgm/walk.h"

#define WORLD (64 * MIB)
#define RAM (48 * MIB)

static struct pgm *pgm;

static void open_machine(enum config_protocol protocol)
{
	pgm = make_pgm(RAM);
	load_world(pgm, protocol);
}

static void read_guest(uint64_t where, void *to, size_t size)
{
	assert_int_equal(pgm_read(pgm, gpa(where), to, size, ORIGIN_GUEST, NULL), OK);
}

static void expect_bytes(uint64_t where, const void *want, size_t size)
{
	uint8_t *got = malloc(size);

	read_guest(where, got, size);
	assert_memory_equal(got, want, size);
	free(got);
}

/* Loads a copy in its own allocation; an error must have a text. */
static enum status load_copy(const void *image, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);
	enum status status;

	memcpy(copy, image, size);
	load_why[0] = 0;
	status = load_run(copy, size);
	if (status != OK && !load_why[0])
		fail_msg("%s without a text", status_text(status));
	free(copy);
	return status;
}

static enum status load_once(enum config_protocol protocol, const void *image, size_t size)
{
	enum status status;

	open_machine(protocol);
	status = load_copy(image, size);
	end_pgm(pgm);
	return status;
}

static uint8_t image[BZIMAGE_BYTES];
static struct setup_header *header(void)
{
	return (struct setup_header *)(image + offsetof(struct boot_params, hdr));
}

static void test_linux(void **state)
{
	uint8_t *initrd = malloc(12345);
	struct boot_params params;

	memset(initrd, 0x77, 12345);
	make_bzimage(image);
	open_machine(PROTOCOL_AUTO);
	load_files[1].data = initrd;
	load_files[1].size = 12345;
	load_config.initrd = "second";
	load_config.cmdline = "console=ttyS0 quiet";
	assert_int_equal(load_copy(image, sizeof(image)), OK);
	assert_int_equal(load_hv.rip, PREFERRED + 0x200);
	assert_int_equal(load_hv.gpr[GPR_RSI], LOAD_INFO);
	assert_int_equal(load_hv.cr0, 0x80000011);
	assert_int_equal(load_hv.efer, 0x500);
	assert_int_equal(load_hv.changed, REGS_ALL);
	assert_int_equal(load_hv.rflags, 2);
	expect_bytes(PREFERRED, image + SETUP_BYTES, KERNEL_BYTES);
	read_guest(LOAD_INFO, &params, sizeof(params));
	assert_int_equal(params.hdr.header, 0x53726448);
	assert_int_equal(params.hdr.code32_start, PREFERRED);
	assert_int_equal(params.hdr.type_of_loader, 0xff);
	assert_int_equal(params.hdr.ramdisk_size, 12345);
	assert_int_equal(params.hdr.ramdisk_image, align_down(RAM - 12345, PAGE_SIZE));
	assert_int_equal(params.acpi_rsdp_addr, LOAD_ROM);
	expect_bytes(params.hdr.ramdisk_image, initrd, 12345);
	expect_bytes(params.hdr.cmd_line_ptr, "console=ttyS0 quiet", 20);
	assert_int_equal(params.e820_entries, 5);
	for (unsigned i = 1; i < params.e820_entries; i++)
		assert_true(params.e820_table[i].addr >= params.e820_table[i - 1].addr + params.e820_table[i - 1].size);
	assert_int_equal(params.e820_table[3].addr + params.e820_table[3].size, RAM);
	assert_int_equal(params.e820_table[4].addr, PCI_ECAM_BASE);
	assert_int_equal(params.e820_table[4].size, PCI_ECAM_SIZE);
	assert_int_equal(params.e820_table[4].type, 2);
	end_pgm(pgm);
	/* Without a 64-bit entry. */
	header()->xloadflags = 0;
	open_machine(PROTOCOL_LINUX);
	assert_int_equal(load_copy(image, sizeof(image)), OK);
	assert_int_equal(load_hv.rip, PREFERRED);
	assert_int_equal(load_hv.cr0, 0x11);
	assert_int_equal(load_hv.segment[SEG_CS].selector, 0x10);
	end_pgm(pgm);
	free(initrd);
}

/* The tables of a 64-bit start map 4 GiB one to one. */
static void test_boot_tables(void **state)
{
	static const uint64_t places[] = { 0, 0x1000, 0x200000, 0x12345678, GIB, 4 * GIB - 1 };

	open_machine(PROTOCOL_FLAT);
	load_config.flat_mode = FLAT_LONG;
	load_config.load_address = load_config.entry = 0x200000;
	assert_int_equal(load_copy("\xf4", 1), OK);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		struct walk_result r;
		struct walk_context c = { .cr0 = load_hv.cr0,
					  .cr3 = load_hv.cr3,
					  .cr4 = load_hv.cr4,
					  .efer = load_hv.efer,
					  .physical_bits = 40 };

		assert_int_equal(guest_walk(pgm, &c, gva(places[i]), RWX & ~ACCESS_EXECUTE, &r), OK);
		assert_int_equal(r.gpa.v, places[i]);
	}
	end_pgm(pgm);
}

static void test_linux_refused(void **state)
{
	static const struct {
		size_t at, size;
		uint64_t value;
		enum status status;
	} cases[] = {
#define FIELD(name, value, status)                                                                                     \
	{ offsetof(struct setup_header, name), sizeof(((struct setup_header *)0)->name), value, status }
		FIELD(header, 0, BAD_FORMAT),
		FIELD(version, 0x0205, NOT_SUPPORTED),
		FIELD(loadflags, 0, NOT_SUPPORTED),
		FIELD(code32_start, 0, NOT_SUPPORTED),
		FIELD(setup_sects, 255, TRUNCATED),
		FIELD(init_size, 0xffffffff, BAD_ADDRESS),
		FIELD(init_size, RAM, BAD_ADDRESS),
		FIELD(init_size, 0, OK),
		FIELD(init_size, RAM - PREFERRED - PAGE_SIZE, OK),
		FIELD(init_size, RAM - PREFERRED - PAGE_SIZE + 1, BAD_ADDRESS),
		FIELD(pref_address, UINT64_MAX, BAD_ADDRESS),
		FIELD(pref_address, RAM - 4096, BAD_ADDRESS),
		FIELD(pref_address, 0x1000, OK),
		FIELD(kernel_alignment, 3, OK),
		FIELD(kernel_alignment, 0x2000000, OK),
		FIELD(kernel_alignment, 0x80000000, BAD_ADDRESS),
		FIELD(initrd_addr_max, 0, BAD_ADDRESS),
		FIELD(initrd_addr_max, 0x1000000, BAD_ADDRESS),
		FIELD(initrd_addr_max, UINT32_MAX, OK),
		FIELD(cmdline_size, 3, BAD_VALUE),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		enum status status;

		make_bzimage(image);
		memcpy((uint8_t *)header() + cases[i].at, &cases[i].value, cases[i].size);
		open_machine(PROTOCOL_LINUX);
		load_config.initrd = "second";
		load_config.cmdline = "quiet";
		load_files[1].data = "initrd";
		load_files[1].size = 6;
		status = load_copy(image, sizeof(image));
		if (status != cases[i].status)
			fail_msg("case %u: %s: %s", i, status_text(status), load_why);
		end_pgm(pgm);
	}
}

/* What is too small is told in a unit that isn't 0, and how much would do. */
static void test_sizes_told(void **state)
{
	make_bzimage(image);
	header()->init_size = RAM - PREFERRED - PAGE_SIZE;
	open_machine(PROTOCOL_LINUX);
	load_config.initrd = "second";
	load_files[1].data = image;
	load_files[1].size = BZIMAGE_BYTES;
	assert_int_equal(load_copy(image, sizeof(image)), BAD_ADDRESS);
	assert_string_equal(load_why, "initrd second (10 KiB) does not fit beside the kernel, which needs 48 MiB");
	end_pgm(pgm);
	header()->init_size = RAM;
	assert_int_equal(load_once(PROTOCOL_LINUX, image, sizeof(image)), BAD_ADDRESS);
	assert_string_equal(load_why, "kernel needs 64 MiB of memory to start, the machine has 48 MiB");
	/* One that can't be moved is loaded at 1 MiB, but runs at its preferred address all the same. */
	header()->relocatable_kernel = 0;
	assert_int_equal(load_once(PROTOCOL_LINUX, image, sizeof(image)), BAD_ADDRESS);
	header()->init_size = MIB;
	assert_int_equal(load_once(PROTOCOL_LINUX, image, sizeof(image)), OK);
	assert_int_equal(load_hv.rip, MIB + 0x200);
	header()->loadflags = 0;
	assert_int_equal(load_once(PROTOCOL_LINUX, image, sizeof(image)), NOT_SUPPORTED);
	assert_non_null(strstr(load_why, "16-bit entry"));
}

/* Vectors, data area and the last bytes of the first MiB, as a BIOS leaves them. */
static void test_bios_area(void **state)
{
	uint16_t vector[2], word;
	uint8_t bytes[16];

	open_machine(PROTOCOL_FLAT);
	load_config.load_address = load_config.entry = 0x7c00;
	assert_int_equal(load_copy("\xf4", 1), OK);
	read_guest(0x40e, &word, 2);
	assert_int_equal(word << 4, LOAD_EBDA);
	read_guest(0x413, &word, 2);
	assert_int_equal(word, LOAD_EBDA / KIB);
	read_guest(0x400, &word, 2);
	assert_int_equal(word, 0x3f8);
	read_guest(LOAD_EBDA, bytes, 1);
	assert_int_equal(bytes[0], 1);
	read_guest(8 * 4, vector, 4);
	read_guest(((uint64_t)vector[1] << 4) + vector[0], bytes, 1);
	assert_int_equal(bytes[0], 0xcf);
	read_guest(0x13 * 4, vector, 4);
	read_guest(((uint64_t)vector[1] << 4) + vector[0], bytes, 11);
	assert_int_equal(bytes[10], 0xcf);
	read_guest(0xffff0, bytes, 16);
	assert_int_equal(bytes[0], 0xea);
	assert_int_equal(bytes[14], 0xfc);
	read_guest(0x19 * 4, vector, 4);
	assert_memory_equal(vector, bytes + 1, 4);
	end_pgm(pgm);
}

static void test_files(void **state)
{
	make_bzimage(image);
	open_machine(PROTOCOL_AUTO);
	load_config.kernel = "third";
	assert_int_equal(load_copy(image, sizeof(image)), NOT_FOUND);
	end_pgm(pgm);
	open_machine(PROTOCOL_AUTO);
	load_config.initrd = "second";
	assert_int_equal(load_copy(image, sizeof(image)), NOT_FOUND);
	assert_non_null(strstr(load_why, "second"));
	end_pgm(pgm);
	open_machine(PROTOCOL_AUTO);
	load_config.initrd = "second";
	load_files[1].data = image;
	load_files[1].size = RAM;
	assert_int_equal(load_copy(image, sizeof(image)), BAD_ADDRESS);
	assert_non_null(strstr(load_why, "does not fit"));
	end_pgm(pgm);
	assert_int_equal(load_once(PROTOCOL_AUTO, "nothing", 7), BAD_FORMAT);
	assert_int_equal(load_once(PROTOCOL_MULTIBOOT, image, sizeof(image)), BAD_FORMAT);
}

/* Cut off at every length: refused as long as the kernel isn't all there, and nothing is read past the end. */
static void test_cut_off(void **state)
{
	uint8_t elf[ELF_BYTES];

	make_bzimage(image);
	for (size_t size = 0; size <= SETUP_BYTES; size += size < 0x1e0 || size > 0x280 ? 37 : 1)
		assert_int_not_equal(load_once(PROTOCOL_LINUX, image, size), OK);
	for (unsigned wide = 0; wide < 2; wide++) {
		wide ? make_elf64(elf) : make_elf32(elf);
		for (size_t size = 0; size<ELF_DATA + 0x700; size += size> 0x200 ? 211 : 3)
			assert_int_not_equal(load_once(PROTOCOL_MULTIBOOT, elf, size), OK);
		assert_int_equal(load_once(PROTOCOL_MULTIBOOT, elf, ELF_DATA + 0x700), OK);
	}
}

static void expect_elf(const uint8_t *elf)
{
	uint32_t info[22];
	uint8_t zeros[0x2900] = { 0 };

	open_machine(PROTOCOL_AUTO);
	load_config.cmdline = "words";
	load_config.modules.count = 1;
	load_config.modules.list[0] = (struct config_module){ "second", "more words" };
	load_files[1].data = "module!";
	load_files[1].size = 7;
	assert_int_equal(load_copy(elf, ELF_BYTES), OK);
	expect_bytes(0x100000, elf + ELF_DATA, 0x700);
	expect_bytes(0x100700, zeros, sizeof(zeros));
	assert_int_equal(load_hv.rip, 0x100010);
	assert_int_equal(load_hv.gpr[GPR_RAX], 0x2badb002);
	assert_int_equal(load_hv.cr0, 0x11);
	read_guest(load_hv.gpr[GPR_RBX], info, sizeof(info));
	expect_bytes(info[4], "kernel words", 13);
	assert_int_equal(info[5], 1);
	expect_bytes(0x103000, "module!", 7);
	read_guest(info[6], info, 16);
	assert_int_equal(info[0], 0x103000);
	assert_int_equal(info[1], 0x103007);
	expect_bytes(info[2], "second more words", 18);
	end_pgm(pgm);
}

static void test_elf(void **state)
{
	uint8_t elf[ELF_BYTES];

	make_elf32(elf);
	expect_elf(elf);
	make_elf64(elf);
	expect_elf(elf);
}

/* An entry given as a virtual address is where its segment lies in physical memory. */
static void test_elf_virtual_entry(void **state)
{
	const uint64_t wide_base = UINT64_C(0xffffffff80000000), entry = wide_base + 0x10;
	const uint32_t narrow_base = 0xc0000000, narrow_entry = narrow_base + 0x10;
	uint8_t elf[ELF_BYTES];

	make_elf64(elf);
	memcpy(elf + offsetof(Elf64_Ehdr, e_entry), &entry, 8);
	memcpy(elf + ELF_HEADERS + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, p_vaddr), &wide_base, 8);
	expect_elf(elf);
	make_elf32(elf);
	memcpy(elf + offsetof(Elf32_Ehdr, e_entry), &narrow_entry, 4);
	memcpy(elf + ELF_HEADERS + sizeof(Elf32_Phdr) + offsetof(Elf32_Phdr, p_vaddr), &narrow_base, 4);
	expect_elf(elf);
}

#define HUGE64 (UINT64_MAX - 5)

static void test_elf_refused(void **state)
{
	static const struct {
		bool segment;
		size_t at32, at64, size;
		uint64_t value;
	} cases[] = {
#define IN_FILE(name, bytes, value) { false, offsetof(Elf32_Ehdr, name), offsetof(Elf64_Ehdr, name), bytes, value }
#define IN_SEGMENT(name, bytes, value)                                                                                 \
	{                                                                                                              \
		true, offsetof(Elf32_Phdr, name), offsetof(Elf64_Phdr, name), bytes, value                             \
	}
		IN_FILE(e_phoff, 0, HUGE64),
		IN_FILE(e_phoff, 0, ELF_BYTES - 8),
		IN_FILE(e_phnum, 2, 65535),
		IN_FILE(e_phentsize, 2, 16),
		IN_FILE(e_phentsize, 2, 0),
		IN_SEGMENT(p_offset, 0, HUGE64),
		IN_SEGMENT(p_offset, 0, ELF_BYTES - 0x6ff),
		IN_SEGMENT(p_filesz, 0, HUGE64),
		IN_SEGMENT(p_filesz, 0, 0x3001),
		IN_SEGMENT(p_memsz, 0, HUGE64),
		IN_SEGMENT(p_memsz, 0, 0x6ff),
		IN_SEGMENT(p_memsz, 0, RAM),
		IN_SEGMENT(p_paddr, 0, HUGE64),
		IN_SEGMENT(p_paddr, 0, RAM),
		IN_SEGMENT(p_paddr, 0, RAM - 0x2fff),
		IN_SEGMENT(p_paddr, 0, 0x9ff00),
		IN_SEGMENT(p_paddr, 0, LOAD_ROM),
	};

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned wide = 0; wide < 2; wide++) {
			uint8_t elf[ELF_BYTES];
			size_t at = wide ? cases[i].at64 : cases[i].at32;

			wide ? make_elf64(elf) : make_elf32(elf);
			if (cases[i].segment)
				at += ELF_HEADERS + (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr));
			memcpy(elf + at, &cases[i].value, cases[i].size ? cases[i].size : wide ? 8 : 4);
			if (load_once(PROTOCOL_MULTIBOOT, elf, sizeof(elf)) == OK)
				fail_msg("case %u, ELF%u was taken", i, wide ? 64 : 32);
		}
	}
}

/* A protected-mode start can't reach an entry above 4 GiB. */
static void test_entry_too_high(void **state)
{
	uint8_t elf[ELF_BYTES];
	uint64_t entry = 4 * GIB + 0x100010;

	make_elf64(elf);
	memcpy(elf + offsetof(Elf64_Ehdr, e_entry), &entry, 8);
	assert_int_equal(load_once(PROTOCOL_MULTIBOOT, elf, sizeof(elf)), BAD_FORMAT);
	assert_non_null(strstr(load_why, "entry"));
}

/* Thousands of segments that all say "the whole file, here": the work is bounded by the machine's memory. */
static void test_many_segments(void **state)
{
	size_t count = 1500, size = 6 * MIB;
	Elf32_Phdr p = {
		.p_type = PT_LOAD, .p_paddr = 0x100000, .p_filesz = (Elf32_Word)size, .p_memsz = (Elf32_Word)size
	};
	uint8_t *elf = calloc(1, size);
	Elf32_Ehdr *e = (Elf32_Ehdr *)elf;

	make_elf32(elf);
	e->e_phoff = ELF_BYTES;
	e->e_phnum = (Elf32_Half)count;
	for (size_t i = 0; i < count; i++)
		memcpy(elf + ELF_BYTES + i * sizeof(p), &p, sizeof(p));
	assert_int_equal(load_once(PROTOCOL_MULTIBOOT, elf, size), BAD_FORMAT);
	free(elf);
}

/* Addresses in the multiboot header instead of ELF. */
static void test_addresses(void **state)
{
	uint32_t h[8] = { 0x1badb002, 0x10003, 0, 0x200010, 0x200000, 0x200100, 0x201000, 0x200040 };
	uint8_t file[512];
	static const struct {
		unsigned field;
		uint32_t value;
		enum status status;
	} cases[] = {
		{ 3, 0x1fffff, BAD_FORMAT },
		{ 3, 0x200020, BAD_FORMAT },
		{ 5, 0x1fffff, BAD_FORMAT },
		{ 5, 0x200201, TRUNCATED },
		{ 5, 0, OK },
		{ 6, 0, OK },
		{ 6, 0xffffffff, BAD_ADDRESS },
		{ 6, 0x1fffff, BAD_FORMAT },
		{ 4, 0, BAD_FORMAT },
	};

	h[2] = -(h[0] + h[1]);
	memset(file, 0x33, sizeof(file));
	memcpy(file + 16, h, sizeof(h));
	open_machine(PROTOCOL_AUTO);
	assert_int_equal(load_copy(file, sizeof(file)), OK);
	assert_int_equal(load_hv.rip, 0x200040);
	expect_bytes(0x200000, file, 0x100);
	end_pgm(pgm);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t bad[8];
		enum status status;

		memcpy(bad, h, sizeof(h));
		bad[cases[i].field] = cases[i].value;
		memcpy(file + 16, bad, sizeof(bad));
		status = load_once(PROTOCOL_MULTIBOOT, file, sizeof(file));
		if (status != cases[i].status)
			fail_msg("case %u: %s: %s", i, status_text(status), load_why);
	}
	assert_int_equal(load_once(PROTOCOL_MULTIBOOT, file, 16 + 12), TRUNCATED);
}

static enum status load_flat_at(enum config_flat_mode mode, uint64_t where, uint64_t entry, size_t size)
{
	static uint8_t bytes[8 * MIB];
	enum status status;

	memset(bytes, 0x90, size);
	open_machine(PROTOCOL_FLAT);
	load_config.flat_mode = mode;
	load_config.load_address = where;
	load_config.entry = entry;
	status = load_copy(bytes, size);
	if (status == OK)
		expect_bytes(where, bytes, size);
	end_pgm(pgm);
	return status;
}

static void test_flat(void **state)
{
	assert_int_equal(load_flat_at(FLAT_REAL, 0x7c00, 0x7c00, 512), OK);
	assert_int_equal(load_hv.rip, 0x7c00);
	assert_int_equal(load_flat_at(FLAT_REAL, 0x80000, 0x80010, 512), OK);
	assert_int_equal(load_hv.segment[SEG_CS].base, 0x80000);
	assert_int_equal(load_hv.segment[SEG_CS].selector, 0x8000);
	assert_int_equal(load_hv.rip, 0x10);
	assert_int_equal(load_flat_at(FLAT_REAL, 0x100000, 0x100000, 512), BAD_VALUE);
	assert_int_equal(load_flat_at(FLAT_LONG, 0x100000, 0x100010, 8 * MIB), OK);
	assert_int_equal(load_hv.rip, 0x100010);
	assert_int_equal(load_flat_at(FLAT_LONG, RAM - 511, RAM - 511, 512), BAD_ADDRESS);
	assert_int_equal(load_flat_at(FLAT_LONG, UINT64_MAX - 3, 0, 512), BAD_ADDRESS);
	assert_int_equal(load_flat_at(FLAT_REAL, 0x9ff00, 0x9ff00, 512), BAD_ADDRESS);
	/* Where a 64-bit start puts its own GDT and tables no image may lie: it would be overwritten. */
	assert_int_equal(load_flat_at(FLAT_LONG, 0x8000, 0x8000, 0x1000), OK);
	assert_int_equal(load_flat_at(FLAT_LONG, 0x8000, 0x8000, 0x1001), BAD_ADDRESS);
	assert_int_equal(load_flat_at(FLAT_LONG, 0xefff, 0xefff, 16), BAD_ADDRESS);
	assert_int_equal(load_flat_at(FLAT_LONG, 0xf000, 0xf000, 16), OK);
	assert_int_equal(load_flat_at(FLAT_LONG, 0xff0, 0xff0, 32), BAD_ADDRESS);
}

static uint8_t sum_of(uint64_t where, size_t size)
{
	uint8_t *bytes = malloc(size), sum = 0;

	read_guest(where, bytes, size);
	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + bytes[i]);
	free(bytes);
	return sum;
}

/* Checksum, signature; and iasl takes it, if it's there. */
static void check_table(uint64_t where, const char *signature)
{
	char name[] = "/tmp/quire-acpi-XXXXXX", command[200];
	uint32_t length;
	uint8_t *bytes;
	int file;

	read_guest(where + 4, &length, 4);
	assert_in_range(length, 36, 65536);
	bytes = malloc(length);
	read_guest(where, bytes, length);
	assert_memory_equal(bytes, signature, 4);
	assert_int_equal(sum_of(where, length), 0);
	if (!access("/usr/bin/iasl", X_OK)) {
		file = mkstemp(name);
		assert_true(file >= 0);
		assert_int_equal(write(file, bytes, length), length);
		close(file);
		snprintf(command, sizeof(command),
			 "iasl -d %s >%s.log 2>&1 && ! grep -Ei 'error|invalid|incorrect' %s.log %s.dsl", name, name,
			 name, name);
		if (system(command))
			fail_msg("iasl doesn't like %s: %s.log", signature, name);
		snprintf(command, sizeof(command), "rm -f %s %s.log %s.dsl", name, name, name);
		assert_int_equal(system(command), 0);
	}
	free(bytes);
}

static void test_acpi(void **state)
{
	uint64_t xsdt, fadt, madt, ssdt, mcfg, dsdt, base;
	uint32_t length, facs, at;
	unsigned processors = 0;
	char signature[8];

	make_bzimage(image);
	open_machine(PROTOCOL_LINUX);
	load_plan.vcpu_count = 6;
	load_config.topology = TOPOLOGY(2, 3, 1);
	assert_int_equal(load_copy(image, sizeof(image)), OK);
	read_guest(LOAD_ROM, signature, 8);
	assert_memory_equal(signature, "RSD PTR ", 8);
	assert_int_equal(sum_of(LOAD_ROM, 20), 0);
	assert_int_equal(sum_of(LOAD_ROM, 36), 0);
	read_guest(LOAD_ROM + 24, &xsdt, 8);
	read_guest(xsdt + 36, &fadt, 8);
	read_guest(xsdt + 44, &madt, 8);
	read_guest(xsdt + 52, &ssdt, 8);
	read_guest(xsdt + 60, &mcfg, 8);
	read_guest(mcfg + 44, &base, 8);
	read_guest(fadt + 140, &dsdt, 8);
	read_guest(fadt + 36, &facs, 4);
	check_table(xsdt, "XSDT");
	check_table(fadt, "FACP");
	check_table(madt, "APIC");
	check_table(ssdt, "SSDT");
	check_table(mcfg, "MCFG");
	assert_int_equal(base, PCI_ECAM_BASE);
	check_table(dsdt, "DSDT");
	assert_int_equal(facs % 64, 0);
	read_guest(facs, signature, 4);
	assert_memory_equal(signature, "FACS", 4);
	/* The MADT's entries fill it exactly, with one local APIC for each vcpu: ids are 0 to 2 and 4 to 6. */
	read_guest(madt + 4, &length, 4);
	for (at = 44; at < length;) {
		uint8_t entry[8];

		read_guest(madt + at, entry, sizeof(entry));
		assert_true(entry[1] >= 2);
		if (entry[0] == 0) {
			assert_int_equal(entry[2], processors);
			assert_int_equal(entry[3], processors + (processors > 2));
			processors++;
		}
		at += entry[1];
	}
	assert_int_equal(at, length);
	assert_int_equal(processors, 6);
	/* The SSDT has as many devices, numbered as there: the last one's _UID ends the table. */
	read_guest(ssdt + 4, &length, 4);
	read_guest(ssdt + length - 2, signature, 2);
	assert_memory_equal(signature, "\x0a\x05", 2);
	end_pgm(pgm);
}

/* Random bytes changed in good images: any answer, but one with a text, and a sound machine afterwards. */
static void test_random_damage(void **state)
{
	uint64_t seed = 4711;
	unsigned taken = 0;

	for (unsigned i = 0; i < 900; i++) {
		static uint8_t damaged[BZIMAGE_BYTES];
		size_t size = i % 3 ? ELF_BYTES : BZIMAGE_BYTES, area = i % 3 ? 0x180 : 0x280;

		if (i % 3 == 0)
			make_bzimage(damaged);
		else
			i % 3 == 1 ? make_elf32(damaged) : make_elf64(damaged);
		for (unsigned n = 1 + random_of(&seed) % 6; n; n--)
			damaged[random_of(&seed) % area] = (uint8_t)random_of(&seed);
		open_machine(PROTOCOL_AUTO);
		taken += load_copy(damaged, size) == OK;
		end_pgm(pgm);
	}
	assert_true(taken > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linux),         cmocka_unit_test(test_boot_tables),
		cmocka_unit_test(test_linux_refused), cmocka_unit_test(test_files),
		cmocka_unit_test(test_cut_off),       cmocka_unit_test(test_elf),
		cmocka_unit_test(test_elf_refused),   cmocka_unit_test(test_entry_too_high),
		cmocka_unit_test(test_many_segments), cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_flat),          cmocka_unit_test(test_acpi),
		cmocka_unit_test(test_random_damage), cmocka_unit_test(test_sizes_told),
		cmocka_unit_test(test_bios_area),     cmocka_unit_test(test_elf_virtual_entry),
	};

	pgm_world_start(WORLD);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
