/* SPDX-License-Identifier: Apache-2.0 */
// sources: vm/emulate/decode*.c
/*
 * The decoder against Zydis: a million random byte strings that Zydis accepts, and more than a million instructions that
 * compilers made. Zydis is loaded at run time (libzydis4.0), so the build needs only its headers. QUIRE_DECODE_CASES sets
 * the number of valid random strings, QUIRE_SEED the seed.
 */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

#include "vm/emulate/decode.h"

static __typeof__(&ZydisDecoderInit) zydis_init;
static __typeof__(&ZydisDecoderDecodeInstruction) zydis_decode;
static ZydisDecoder decoders[4];

static int load_zydis(void **state)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth width;
	} modes[4] = {
		[DECODE_REAL] = { ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16 },
		[DECODE_16] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		[DECODE_32] = { ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		[DECODE_64] = { ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};
	void *library = dlopen("libZydis.so.4.0", RTLD_NOW);

	if (!library)
		library = dlopen("libZydis.so", RTLD_NOW);
	if (!library) {
		print_error("%s (install libzydis-dev)\n", dlerror());
		return -1;
	}
	zydis_init = (__typeof__(zydis_init))dlsym(library, "ZydisDecoderInit");
	zydis_decode = (__typeof__(zydis_decode))dlsym(library, "ZydisDecoderDecodeInstruction");
	for (unsigned m = 0; m < 4; m++)
		if (!ZYAN_SUCCESS(zydis_init(&decoders[m], modes[m].mode, modes[m].width)))
			return -1;
	return 0;
}

static uint64_t seed;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static void show(const char *what, const uint8_t *bytes, unsigned mode, const ZydisDecodedInstruction *z, enum status s,
		 const struct instruction *i)
{
	print_error("%s: mode %u, Zydis length %u mnemonic %u, ours %u (status %d), bytes", what, mode, z->length,
		    z->mnemonic, s == OK ? i->length : 0, s);
	for (unsigned n = 0; n < 15; n++)
		print_error(" %02x", bytes[n]);
	print_error("\n");
}

/* Knights Corner's: no processor with VMX or SVM has them. */
static bool left_out(const ZydisDecodedInstruction *z)
{
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX || z->mnemonic == ZYDIS_MNEMONIC_JKZD ||
	       z->mnemonic == ZYDIS_MNEMONIC_JKNZD;
}

static bool fields_agree(const ZydisDecodedInstruction *z, const struct instruction *i)
{
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
		return i->opcode == 0x0f;
	if (i->encoding != ENCODING_LEGACY || z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return (i->encoding == ENCODING_LEGACY) == (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY);
	if (i->opcode != z->opcode || i->has_modrm != !!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM))
		return false;
	/* MPX ignores 67 in 64-bit mode; no one reads that field of it. */
	if (i->memory && i->address_size * 8 != z->address_width && (i->map != MAP_0F || (i->opcode & 0xfe) != 0x1a))
		return false;
	if (z->raw.modrm.offset && i->memory &&
	    (z->raw.disp.size ? i->displacement != z->raw.disp.value : i->displacement != 0))
		return false;
	return !z->raw.imm[0].size || !z->raw.imm[0].is_signed || i->immediate == (uint64_t)z->raw.imm[0].value.s;
}

/* False when they disagree. *valid tells whether Zydis accepts the bytes. */
static bool compare(const uint8_t *bytes, unsigned mode, unsigned *length, bool *valid)
{
	ZydisDecodedInstruction z;
	struct instruction i;
	enum status s;

	*valid = ZYAN_SUCCESS(zydis_decode(&decoders[mode], NULL, bytes, INSTRUCTION_MAX, &z));
	*length = *valid ? z.length : 1;
	s = decode(bytes, INSTRUCTION_MAX, mode, &i);
	if (s == OK && (i.length == 0 || i.length > INSTRUCTION_MAX))
		return false;
	if (!*valid || left_out(&z))
		return true;
	if (s != OK || i.length != z.length || !fields_agree(&z, &i)) {
		show("disagreement", bytes, mode, &z, s, &i);
		return false;
	}
	/* One byte less must be reported as such. */
	if (z.length > 1 && decode(bytes, z.length - 1, mode, &i) != TRUNCATED) {
		show("not reported as truncated", bytes, mode, &z, s, &i);
		return false;
	}
	return true;
}

/* Random bytes, bent towards prefixes, escapes and the vector encodings. */
static void random_bytes(uint8_t bytes[16])
{
	static const uint8_t prefix[] = { 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e,
					  0x36, 0x3e, 0x64, 0x65, 0x48, 0x41, 0x4f };
	static const uint8_t escape[] = { 0x0f, 0x0f, 0x0f, 0xc4, 0xc5, 0x62, 0x8f };
	uint64_t words[2] = { next_random(), next_random() };
	uint64_t shape = next_random();
	unsigned at = 0;

	memcpy(bytes, words, 16);
	while ((shape & 3) == 0 && at < 6) {
		bytes[at++] = prefix[(shape >> 8) % sizeof(prefix)];
		shape = next_random();
	}
	if (shape & 4)
		bytes[at++] = escape[(shape >> 16) % sizeof(escape)];
	if ((shape & 0x38) == 0)
		bytes[at] = shape & 0x40 ? 0x38 : 0x3a;
	if (at && bytes[at - 1] == 0x62) {
		/* EVEX: few random payloads are legal; take the fixed bits right and vvvv mostly unused. */
		bytes[at] = (bytes[at] & 0xf0) | (1 + (shape >> 24) % 6);
		bytes[at + 1] |= 0x04;
		if (shape & 0x80) {
			bytes[at + 1] |= 0x78;
			bytes[at + 2] = 0x08 | (bytes[at + 2] & 0x60);
		}
	}
}

static void test_random(void **state)
{
	const char *wanted = getenv("QUIRE_DECODE_CASES"), *given = getenv("QUIRE_SEED");
	unsigned long cases = wanted ? strtoul(wanted, NULL, 0) : 1000000, valid_count = 0, wrong = 0, vector = 0;
	uint64_t start = given ? strtoull(given, NULL, 0) : UINT64_C(0x51c0ffee);

	seed = start;
	while (valid_count < cases && wrong < 20) {
		uint8_t bytes[16];
		unsigned length, mode = next_random() & 3;
		bool valid;

		random_bytes(bytes);
		if (!compare(bytes, mode, &length, &valid))
			wrong++;
		valid_count += valid;
		vector += valid && (bytes[0] == 0x62 || bytes[0] == 0xc4 || bytes[0] == 0xc5);
	}
	print_message("%lu valid strings, %lu of them VEX or EVEX; seed %#lx\n", valid_count, vector, start);
	assert_int_equal(wrong, 0);
	assert_true(vector > cases / 100);
}

struct sweep {
	unsigned long count[4], regions, wrong; /* instructions in each mode */
};

/* All instructions of a piece of code, one behind the other. */
static void sweep(struct sweep *s, const uint8_t *code, size_t size, unsigned mode)
{
	for (size_t at = 0; at + INSTRUCTION_MAX <= size && s->wrong < 20;) {
		unsigned length;
		bool valid;

		s->wrong += !compare(code + at, mode, &length, &valid);
		s->count[mode] += valid;
		at += length;
	}
	s->regions++;
}

static void sweep_file(struct sweep *s, const char *path)
{
	int file = open(path, O_RDONLY);
	struct stat info;
	const uint8_t *map;

	if (file < 0 || fstat(file, &info)) {
		print_message("%s is not there\n", path);
		return;
	}
	map = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	if (map[EI_CLASS] == ELFCLASS64) {
		const Elf64_Ehdr *header = (const void *)map;
		const Elf64_Phdr *part = (const void *)(map + header->e_phoff);

		for (unsigned i = 0; i < header->e_phnum; i++)
			if (part[i].p_type == PT_LOAD && (part[i].p_flags & PF_X))
				sweep(s, map + part[i].p_offset, part[i].p_filesz, DECODE_64);
	} else {
		const Elf32_Ehdr *header = (const void *)map;
		const Elf32_Phdr *part = (const void *)(map + header->e_phoff);

		for (unsigned i = 0; i < header->e_phnum; i++)
			if (part[i].p_type == PT_LOAD && (part[i].p_flags & PF_X))
				sweep(s, map + part[i].p_offset, part[i].p_filesz, DECODE_32);
	}
	munmap((void *)map, info.st_size);
	close(file);
}

static int sweep_loaded(struct dl_phdr_info *info, size_t size, void *context)
{
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const Elf64_Phdr *part = &info->dlpi_phdr[i];

		if (part->p_type == PT_LOAD && (part->p_flags & PF_X))
			sweep(context, (const uint8_t *)(info->dlpi_addr + part->p_vaddr), part->p_memsz, DECODE_64);
	}
	return 0;
}

/* What compilers made: busybox, this program with all its libraries, the kernel; the small guests in 32-bit mode. */
static void test_real_code(void **state)
{
	struct sweep s = { 0 };
	glob_t guests = { 0 };

	sweep_file(&s, "/bin/busybox");
	sweep_file(&s, "build/kernel.elf");
	dl_iterate_phdr(sweep_loaded, &s);
	if (!glob("build/guests/*.elf", 0, NULL, &guests))
		for (size_t i = 0; i < guests.gl_pathc; i++)
			sweep_file(&s, guests.gl_pathv[i]);
	globfree(&guests);
	print_message("%lu compiler-made instructions in 64-bit mode, %lu in 32-bit mode, of %lu pieces of code\n",
		      s.count[DECODE_64], s.count[DECODE_32], s.regions);
	assert_int_equal(s.wrong, 0);
	assert_true(s.count[DECODE_64] >= 1000000);
}

/* The same bytes mean something else in the other modes; they are likelier to mean something than random ones. */
static void test_real_code_in_other_modes(void **state)
{
	static const unsigned modes[] = { DECODE_32, DECODE_16, DECODE_REAL };
	int file = open("/bin/busybox", O_RDONLY);
	struct sweep s = { 0 };
	struct stat info;
	const uint8_t *map;

	assert_true(file >= 0 && !fstat(file, &info));
	map = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	for (unsigned i = 0; i < 3; i++)
		sweep(&s, map, info.st_size, modes[i]);
	munmap((void *)map, info.st_size);
	close(file);
	print_message("%lu instructions in 32-bit, %lu in 16-bit, %lu in real mode\n", s.count[DECODE_32],
		      s.count[DECODE_16], s.count[DECODE_REAL]);
	assert_int_equal(s.wrong, 0);
	assert_true(s.count[DECODE_32] > 300000 && s.count[DECODE_16] > 300000 && s.count[DECODE_REAL] > 300000);
}

static void test_limit(void **state)
{
	uint8_t bytes[15];
	struct instruction i;

	memset(bytes, 0x66, sizeof(bytes));
	assert_int_equal(decode(bytes, 15, DECODE_64, &i), LIMIT);
	assert_int_equal(decode(bytes, 14, DECODE_64, &i), TRUNCATED);
	bytes[14] = 0x90;
	assert_int_equal(decode(bytes, 15, DECODE_64, &i), OK);
	assert_int_equal(i.length, 15);
	memset(bytes, 0x2e, sizeof(bytes)); /* 11 prefixes, mov eax, moffs32: 16 bytes */
	bytes[11] = 0xa1;
	assert_int_equal(decode(bytes, 15, DECODE_32, &i), LIMIT);
}

static void test_fields(void **state)
{
	static const uint8_t store[] = {
		0x65, 0x4c, 0x89, 0x94, 0xcb, 0x80, 0xff, 0xff, 0xff
	};                                                         /* mov gs:[rbx+rcx*8-128], r10 */
	static const uint8_t to_cr[] = { 0x44, 0x0f, 0x22, 0x05 }; /* mov cr8, rbp; mod ignored */
	static const uint8_t undefined[] = { 0x06 };
	uint64_t gpr[GPR_COUNT] = { [GPR_RBX] = 0x1000, [GPR_RCX] = 2 };
	struct instruction i;

	assert_int_equal(decode(store, sizeof(store), DECODE_64, &i), OK);
	assert_int_equal(i.segment, SEG_GS);
	assert_int_equal(i.reg, GPR_R10);
	assert_int_equal(i.operand_size, 8);
	assert_int_equal(effective_address(&i, gpr, 0), 0x1000 + 16 - 128);
	assert_int_equal(decode(to_cr, sizeof(to_cr), DECODE_64, &i), OK);
	assert_false(i.memory);
	assert_int_equal(i.reg, 8);
	assert_int_equal(i.rm, GPR_RBP);
	assert_int_equal(i.operand_size, 8);
	assert_int_equal(decode(undefined, 1, DECODE_64, &i), BAD_FORMAT);
	assert_int_equal(decode(undefined, 1, DECODE_32, &i), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_real_code),
		cmocka_unit_test(test_real_code_in_other_modes),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests_name("decode", tests, load_zydis, NULL);
}
