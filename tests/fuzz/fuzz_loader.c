/* SPDX-License-Identifier: Apache-2.0 */
// sources: mm/*.c pgm/*.c pgm/*/*.c vm/load/load.c vm/load/flat.c vm/load/linux.c vm/load/multiboot.c vm/load/acpi.c vm/load/bios.c vm/config/topology.c arch/x86_64/pt_format.c lib/format.c lib/hash.c lib/status.c tests/unit/common/host.c tests/unit/common/host_memory.c
/*
 * libFuzzer: a kernel's image as raw bytes, loaded by each protocol. Whatever comes: loaded or refused with a text,
 * the machine's memory sound, and all of it comes back. First byte: protocol; second: how the image is made (0: the bytes as
 * they are; else a good image of one kind, over which the bytes are laid from the place that the next two say).
 */
#include "fuzz_world.h"

#include "common/load_world.h"
#include "common/whole.h"

#define IMAGE_MAX 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_finding(void *context, const char *line)
{
	abort();
}

static size_t make_image(uint8_t *image, unsigned kind, size_t at, const uint8_t *data, size_t size)
{
	size_t length = 0;

	switch (kind % 4) {
	case 1:
		make_bzimage(image);
		length = BZIMAGE_BYTES;
		break;
	case 2:
		make_elf32(image);
		length = ELF_BYTES;
		break;
	case 3:
		make_elf64(image);
		length = ELF_BYTES;
		break;
	default: at = 0;
	}
	if (at > length)
		at = length;
	memcpy(image + at, data, size);
	return at + size > length ? at + size : length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t scratch[2 * IMAGE_MAX];
	enum config_protocol protocol;
	enum status status;
	struct pgm *pgm;
	uint8_t *image;
	size_t length;

	if (size < 4 || size > IMAGE_MAX)
		return 0;
	length = make_image(scratch, data[1], (size_t)(data[2] | data[3] << 8) % 0x2000, data + 4, size - 4);
	image = malloc(length ? length : 1);
	memcpy(image, scratch, length);
	pgm = fuzz_pgm(16 * MIB + (data[0] >> 4) * MIB);
	protocol = (enum config_protocol)(data[0] % 4);
	load_world(pgm, protocol);
	load_config.flat_mode = data[1] >> 7;
	if (size >= 20) {
		memcpy(&load_config.load_address, data + 4, 8);
		memcpy(&load_config.entry, data + 12, 8);
	}
	load_config.initrd = data[1] & 0x40 ? "second" : "";
	load_files[1].data = image;
	load_files[1].size = length;
	status = load_run(image, length);
	must(status == OK || load_why[0]);
	must(!pgm_check(pgm, on_finding, NULL));
	free(image);
	fuzz_end(pgm);
	return 0;
}
