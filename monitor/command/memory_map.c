/* SPDX-License-Identifier: Apache-2.0 */
/* The map of a machine's blocks, neighbours of one kind in one row; and all that is known of one page. */
#include "monitor/command/memory_map.h"

#include "pgm/handlers.h"
#include "vm/machine.h"

#define MAP_ROWS 512u
#define MAP_BLOCKS (1u << 18) /* 512 GiB: the time that one command may take */

struct map {
	struct output *out;
	const struct machine *machine;
	unsigned rows, blocks;
	uint64_t first, next; /* of the run; first == next: none yet */
	enum block_kind kind;
};

const char *memory_block_name(enum block_kind kind)
{
	static const char *const names[] = { "untouched", "ballooned", "large", "detailed" };

	return names[kind];
}

static void end_run(struct map *map)
{
	if (map->first == map->next || map->rows == MAP_ROWS)
		return;
	map->rows++;
	output_row(map->out, TEXT("machine", map->machine->name, 12), HEX_OF(*map, first, 16),
		   HEX("last", map->next - 1, 16), NUMBER("kib", (map->next - map->first) / KIB, 12),
		   TEXT("block", memory_block_name(map->kind)));
	map->first = map->next;
}

static void add_range(struct map *map, const struct pgm_range *range)
{
	uint64_t end = range->base + range->size;

	map->first = map->next = range->base;
	while (map->next < end && map->blocks < MAP_BLOCKS) {
		struct pgm_page_info info;

		map->blocks++;
		pgm_page_describe(map->machine->pgm, gpa(map->next), &info);
		if (info.block != map->kind)
			end_run(map);
		map->kind = info.block;
		map->next = min_u64(end, align_down(map->next, BLOCK_SIZE) + BLOCK_SIZE);
	}
	end_run(map);
}

void memory_map_show(struct output *out, struct machine *const *machines, unsigned count)
{
	struct map map = { .out = out };

	output_table_begin(out, "blocks");
	for (unsigned m = 0; m < count; m++) {
		struct pgm_range range;

		map.machine = machines[m];
		for (unsigned i = 0; i < PGM_MAX_RANGES && pgm_range_get(machines[m]->pgm, i, &range); i++)
			if (range.type == PAGE_RAM || range.type == PAGE_ROM)
				add_range(&map, &range);
	}
	output_table_end(out);
	if (map.rows == MAP_ROWS || map.blocks == MAP_BLOCKS)
		output_note(out, "(more than %u rows or %u blocks: the rest is not shown)", MAP_ROWS, MAP_BLOCKS);
}

/* ---- one page ---- */
static void show_frame(struct output *out, hpa_t frame)
{
	static const char *const states[] = { "free", "private", "shared", "table", "kernel", "absent", "", "retired" };
	struct frame_info info;

	if (hpa_is_none(frame)) {
		output_text(out, "frame", "none");
		return;
	}
	frame_describe(frame, &info);
	output_fields(out, HEX("frame", frame.v), TEXT("frame_state", states[info.state]),
		      NUMBER("frame_owner", info.owner),
		      info.state == FRAME_SHARED ? NUMBER("frame_references", info.references)
						 : HEX("frame_page", info.page.v),
		      BOOL("frame_large", info.large));
}

/* Who watches the page, and who holds it in its place. */
static void show_watchers(struct output *out, struct pgm *pgm, gpa_t where)
{
	uint64_t page = where.v & ~(PAGE_SIZE - 1);
	struct pgm_handler_info h;
	struct pgm_pin_info pin;

	if (pgm_handler_next(pgm, gpa(page), &h) && h.first < page + PAGE_SIZE)
		output_text(out, "watched_by", "%s (%s) 0x%lx-0x%lx", h.type_description, h.description, h.first,
			    h.last);
	if (!pgm_pin_find(pgm, where, &pin))
		return;
	output_text(out, "pinned_by", "%s%s", pin.owner, pin.owners > 1 ? " and others" : "");
	output_fields(out, NUMBER("read_pins", pin.reads), NUMBER("write_pins", pin.writes));
}

void memory_page_show(struct output *out, struct machine *m, gpa_t where)
{
	struct pgm_page_info info;
	struct pgm_range range;

	pgm_page_describe(m->pgm, where, &info);
	if (pgm_range_find(m->pgm, where, &range))
		output_text(out, "range", "%s 0x%lx-0x%lx", range.name, range.base, range.base + range.size - 1);
	else
		output_text(out, "range", "none");
	output_fields(out, TEXT("type", page_type_name(info.type)), TEXT("block", memory_block_name(info.block)),
		      TEXT("state", page_state_name(page_get_state(info.record))),
		      TEXT("handler", page_handler_name(page_get_handler(info.record))),
		      BOOL("written", info.record.bits & PAGE_WRITTEN), BOOL("pinned", info.record.bits & PAGE_PINNED));
	show_watchers(out, m->pgm, where);
	show_frame(out, info.frame);
	output_fields(out, BOOL("slat_present", info.slat_present), NUMBER_OF(info, slat_level),
		      HEX_OF(info, slat_entry));
}
