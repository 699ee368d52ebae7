/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The physical consoles: a 16550 serial port and the framebuffer, both at once. Boot CPU only, but
 * in a panic. Neither interrupts; both bound every wait.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct boot_framebuffer;

/* COM1, and the framebuffer through the loader's identity map. */
void console_early(const struct boot_framebuffer *framebuffer);
/*
 * After paging_switch() and acpi_init(): SPCR's port instead of COM1, the framebuffer through a write-combining
 * mapping.
 */
void console_late(const struct boot_framebuffer *framebuffer);
/* Before paging_switch(): the framebuffer's identity mapping is about to go. */
void console_forget_identity(void);

/*
 * What console_write() reaches from now on; at first both. False: none of those chosen is there, so it stays both. Typed bytes
 * come from the serial port in any case.
 */
bool console_choose(bool serial, bool framebuffer);

/* ---- serial.c ---- */
void serial_init_port(uint16_t port);
/* As the ACPI table SPCR says, if there is one and it names a 16550. */
void serial_init_acpi(void);
bool serial_present(void);
void serial_write(const char *bytes, size_t length);
void serial_listen(void); /* puts what has come aside */
int serial_read(void);
/* Waits, bounded, until the last byte has left the wire: before the machine goes off. */
void serial_flush(void);

/* ---- framebuffer.c ---- */
/* pixels: mapped, write-combining preferably. NULL: off. */
void framebuffer_init(const struct boot_framebuffer *framebuffer, volatile void *pixels);
void framebuffer_write(const char *bytes, size_t length);
bool framebuffer_present(void);

/* ---- font.c: 8x8 glyphs of ASCII 0x20-0x7e, one byte a row, leftmost pixel in bit 7; drawn twice as tall ---- */
#define FONT_FIRST 0x20u
#define FONT_LAST 0x7eu
#define FONT_ROWS 8u
extern const uint64_t font[FONT_LAST - FONT_FIRST + 1];
