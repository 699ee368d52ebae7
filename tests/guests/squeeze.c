/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills mib=N MiB of memory from 16 MiB on, waits for a key, and finds everything as it was. Of kinds=N kinds are the pages, which others can
 * have as well; kinds=0: each has a content of its own, by name=N no other guest's; apart=N: each N-th, too. module=N: the first N pages it names
 * to the hypervisor, by what their content is. After the key each 16th page is written once more, and all
 * is looked at again.
 */
#include "../../vm/vcpu/module_call.h"
#include "hypercall.h"

#define FIRST (16 * MIB)
#define UART_DATA 0x3f8
#define UART_STATUS 0x3fd
#define TICK 11932u /* 10 ms */
#define LOOKS 8u    /* at each page */

static uint32_t pages, kinds, name, apart;

static void on_tick(struct trap_frame *frame)
{
	pic_eoi(0);
}

static void wait_key(void)
{
	while (!(in8(UART_STATUS) & 1))
		wait_interrupt();
	in8(UART_DATA);
}

static uint32_t content(uint32_t page)
{
	bool own = !kinds || (apart && page % apart == 0);

	return own ? name << 24 | (page + 1) : page % kinds + 1;
}

static volatile uint32_t *page_at(uint32_t page)
{
	return (volatile uint32_t *)(FIRST + page * PAGE);
}

static void look(bool rewritten)
{
	for (uint32_t page = 0; page < pages; page++)
		for (uint32_t i = 0; i < LOOKS; i++)
			check_equal(page_at(page)[i * (PAGE / 4 / LOOKS)],
				    !i && rewritten && !(page % 16) ? ~page : content(page));
}

static void name_module(uint32_t count)
{
	check_equal(hypercall(QUIRE_CALL_MODULE, name, FIRST + 1, count, 0), (uint32_t)-22);
	check_equal(hypercall(QUIRE_CALL_MODULE, name, FIRST, memory_end / PAGE, 0), (uint32_t)-22);
	check_equal(hypercall(QUIRE_CALL_MODULE, name, 0, 0, 0), (uint32_t)-2);
	for (unsigned i = 0; i < 2; i++) {
		check_equal(hypercall(QUIRE_CALL_MODULE, name + i, FIRST, count, 0), 0);
	}
	check_equal(hypercall(QUIRE_CALL_MODULE, name + 1, 0, 0, 0), 0);
	print("named %u pages\n", count);
}

void guest_main(void)
{
	uint32_t module = option_number("module=", 0);

	pages = option_number("mib=", 1) * (MIB / PAGE);
	kinds = option_number("kinds=", 0);
	name = option_number("name=", 1);
	apart = option_number("apart=", 0);
	set_handler(IRQ_BASE, on_tick);
	pic_init();
	pic_unmask(0);
	pit_start(2, TICK);
	for (uint32_t page = 0; page < pages; page++) {
		uint32_t *to = (uint32_t *)page_at(page), count = PAGE / 4;

		__asm__ volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(content(page)) : "memory");
	}
	print("filled %u pages\n", pages);
	if (module)
		name_module(module);
	wait_key();
	look(false);
	for (uint32_t page = 0; page < pages; page += 16)
		*page_at(page) = ~page;
	look(true);
	print("all of %u pages %s\n", pages, failures ? "are not as they were" : "are as they were");
}
