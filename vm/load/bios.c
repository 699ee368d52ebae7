/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What PC software finds of a BIOS that has come and gone: its data area at 400h, the extended one at the end of base
 * memory, interrupt vectors that lead somewhere, and the last bytes below 1 MiB. Kernels take their base memory and the
 * place of the extended area from there (Xen puts its trampoline by it, Linux reserves what lies above), and some still
 * ask the BIOS itself from real mode: all that answers here says "not supported", as on a PC without that function.
 *
 * Written before the protocols' own things: an image that wants these addresses may have them.
 * Manual: IBM PS/2 and PC BIOS Interface Technical Reference, "ROM BIOS data area", "interrupt interfaces".
 */
#include <string.h>

#include "vm/load/internal.h"

#define DATA_AREA 0x400u
#define BIOS_SEGMENT 0xf000u
#define CODE 0xff40u      /* offset of bios_code in that segment */
#define END 0xfff0u       /* and of the reset vector */
#define EQUIPMENT 0x0202u /* one serial port, a floating-point unit, no display */
#define KEYS 0x1eu        /* the keyboard's ring, empty: offsets from 400h */
#define KEYS_END 0x3eu

struct data_area {
	uint16_t com[4], lpt[3], extended; /* ports; the extended area's segment */
	uint16_t equipment;
	uint8_t test;
	uint16_t base_kib;
	uint8_t to_key_head[5];
	uint16_t key_head, key_tail;
	uint8_t to_key_start[0x62];
	uint16_t key_start, key_end;
} __attribute__((packed));
_Static_assert(offsetof(struct data_area, extended) == 0x0e && offsetof(struct data_area, base_kib) == 0x13 &&
		       offsetof(struct data_area, key_head) == 0x1a && offsetof(struct data_area, key_start) == 0x80,
	       "BIOS data area");

/* The services' code, one after another. */
#define REFUSE CODE
#define TELL_EQUIPMENT (CODE + 11)
#define TELL_MEMORY (CODE + 15)
#define IGNORE (CODE + 19)
#define RESET (CODE + 20)
#define LOW(word) ((word)&0xff)
#define HIGH(word) ((word) >> 8)

static const uint8_t bios_code[] = {
	/* Carry in the caller's flags, AH = 86h. */
	0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06, 0x01, 0x5d, 0xb4, 0x86, 0xcf,
	/* The two words; IRET; out cf9h, 6; hlt. */
	0xb8, LOW(EQUIPMENT), HIGH(EQUIPMENT), 0xcf, 0xb8, LOW(LOAD_EBDA / KIB), HIGH(LOAD_EBDA / KIB), 0xcf, 0xcf,
	0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd
};
_Static_assert(sizeof(bios_code) == RESET - CODE + 9, "the services lie where the vectors point");

/* Behind a reset vector: the date and the model (an AT). */
static const uint8_t bios_end[] = { 0xea, RESET & 0xff, RESET >> 8, 0x00, BIOS_SEGMENT >> 8,
				    '0',  '1',          '/',        '0',  '1',
				    '/',  '2',          '6',        0,    0xfc };

static uint16_t service(unsigned vector)
{
	switch (vector) {
	case 0x11: return TELL_EQUIPMENT;
	case 0x12: return TELL_MEMORY;
	case 0x10:
	case 0x13 ... 0x17:
	case 0x1a: return REFUSE;
	case 0x18:
	case 0x19: return RESET; /* nothing to boot from */
	default: return IGNORE;
	}
}

static enum status load_rom(struct pgm *pgm)
{
	TRY(pgm_rom_load(pgm, gpa((BIOS_SEGMENT << 4) + CODE), bios_code, sizeof(bios_code)));
	return pgm_rom_load(pgm, gpa((BIOS_SEGMENT << 4) + END), bios_end, sizeof(bios_end));
}

enum status bios_build(struct loader *l)
{
	static const struct data_area data = { .com = { 0x3f8 },
					       .extended = LOAD_EBDA >> 4,
					       .equipment = EQUIPMENT,
					       .base_kib = LOAD_EBDA / KIB,
					       .key_head = KEYS,
					       .key_tail = KEYS,
					       .key_start = KEYS,
					       .key_end = KEYS_END };
	static const uint8_t extended_kib = 1;
	uint16_t vectors[256][2];
	enum status status;

	for (unsigned i = 0; i < 256; i++) {
		vectors[i][0] = service(i);
		vectors[i][1] = BIOS_SEGMENT;
	}
	status = load_rom(l->plan->pgm);
	if (status != OK)
		return loader_fail(l, status, "BIOS area: %s", status_text(status));
	TRY(loader_write(l, 0, vectors, sizeof(vectors), "interrupt vectors"));
	TRY(loader_write(l, DATA_AREA, &data, sizeof(data), "BIOS data area"));
	return loader_write(l, LOAD_EBDA, &extended_kib, 1, "extended BIOS data area");
}
