/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The framebuffer as a terminal of 8x16 cells. What stands on the screen is kept as text as well, and only a
 * cell whose letter changes is drawn: reading video memory back is slow everywhere, and most of a
 * scrolled screen is blank. Scrolling moves by several lines at once for the same reason.
 */
#include <string.h>

#include "arch/x86_64/console.h"
#include "boot/boot_info.h"
#include "lib/bits.h"

#define CELL_WIDTH 8u
#define CELL_HEIGHT 16u
#define COLUMNS_MAX 256u
#define ROWS_MAX 128u
#define SCROLL_LINES 4u
#define TAB 8u
#define INK 0x00d0d0d0u
#define PAPER 0x00000000u /* grey on black: the same in RGB and BGR */

_Static_assert(CELL_HEIGHT == 2 * FONT_ROWS, "each row of a glyph is drawn twice");

static struct {
	volatile uint32_t *pixels; /* NULL: none */
	uint32_t pitch;            /* in pixels */
	unsigned columns, rows, column, row;
} screen;

static char text[ROWS_MAX][COLUMNS_MAX];

static void draw(unsigned row, unsigned column, char c)
{
	uint8_t letter = (uint8_t)c >= FONT_FIRST && (uint8_t)c <= FONT_LAST ? (uint8_t)c : '?';
	uint64_t glyph = font[letter - FONT_FIRST];
	volatile uint32_t *corner = screen.pixels + (size_t)row * CELL_HEIGHT * screen.pitch + column * CELL_WIDTH;

	for (unsigned y = 0; y < CELL_HEIGHT; y++, corner += screen.pitch)
		for (unsigned x = 0; x < CELL_WIDTH; x++)
			corner[x] = glyph >> (63 - 8 * (y / 2) - x) & 1 ? INK : PAPER;
}

static void put(unsigned row, unsigned column, char c)
{
	if (text[row][column] == c)
		return;
	text[row][column] = c;
	draw(row, column, c);
}

static void scroll(void)
{
	unsigned by = screen.rows > 2 * SCROLL_LINES ? SCROLL_LINES : 1;

	for (unsigned row = 0; row < screen.rows; row++)
		for (unsigned column = 0; column < screen.columns; column++)
			put(row, column, row + by < screen.rows ? text[row + by][column] : ' ');
	screen.row -= by;
}

static void new_line(void)
{
	screen.row++;
	if (screen.row == screen.rows)
		scroll();
}

static void put_byte(char c)
{
	switch (c) {
	case '\n': new_line(); return;
	case '\r': screen.column = 0; return;
	case '\b': screen.column -= screen.column > 0; return;
	case '\t': screen.column = (unsigned)min_u64((screen.column / TAB + 1) * TAB, screen.columns - 1); return;
	}
	if ((uint8_t)c < ' ')
		return;
	if (screen.column == screen.columns) {
		screen.column = 0;
		new_line();
	}
	put(screen.row, screen.column++, c);
}

void framebuffer_write(const char *bytes, size_t length)
{
	for (size_t i = 0; i < length && screen.pixels; i++)
		put_byte(bytes[i]);
}

bool framebuffer_present(void)
{
	return screen.pixels != NULL;
}

/* What firmware left on the screen is wiped, once. */
static void clear(const struct boot_framebuffer *f)
{
	for (uint32_t y = 0; y < f->height; y++)
		for (uint32_t x = 0; x < f->width; x++)
			screen.pixels[(size_t)y * f->pixels_per_line + x] = PAPER;
	memset(text, ' ', sizeof(text));
	screen.row = screen.column = 0;
}

static bool usable(const struct boot_framebuffer *f)
{
	return f->address && f->width >= CELL_WIDTH && f->height >= CELL_HEIGHT && f->pixels_per_line >= f->width &&
	       f->pixels_per_line <= UINT16_MAX && f->height <= UINT16_MAX &&
	       (uint64_t)f->pixels_per_line * f->height * 4 <= f->size;
}

void framebuffer_init(const struct boot_framebuffer *f, volatile void *pixels)
{
	static bool cleared;

	screen.pixels = NULL;
	if (!f || !pixels || !usable(f))
		return;
	screen.pixels = pixels;
	screen.pitch = f->pixels_per_line;
	screen.columns = (unsigned)min_u64(f->width / CELL_WIDTH, COLUMNS_MAX);
	screen.rows = (unsigned)min_u64(f->height / CELL_HEIGHT, ROWS_MAX);
	if (!cleared)
		clear(f);
	cleared = true;
}
