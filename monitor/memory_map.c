/* SPDX-License-Identifier: Apache-2.0 */
/* The map of a machine's blocks: neighbours of one kind in one row. */
#include "monitor/memory_map.h"

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
	static const char *const names[] = { "untouched", "large", "detailed" };

	return names[kind];
}

static void end_run(struct map *map)
{
	if (map->first == map->next || map->rows == MAP_ROWS)
		return;
	map->rows++;
	output_cell_text(map->out, "%s", map->machine->name);
	output_cell_hex(map->out, map->first);
	output_cell_hex(map->out, map->next - 1);
	output_cell_number(map->out, (map->next - map->first) / KIB);
	output_cell_text(map->out, "%s", memory_block_name(map->kind));
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
	static const struct output_column columns[] = {
		{ "machine", 12, false }, { "first", 16, true }, { "last", 16, true },
		{ "kib", 12, true },      { "block", 0, false },
	};
	struct map map = { .out = out };

	output_table_begin(out, "blocks", columns, ARRAY_SIZE(columns));
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
