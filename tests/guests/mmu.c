/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hypervisor's page walker against the processor's. In each paging mode random tables, registers and accesses:
 * the hypervisor says beforehand what will happen (vm/vcpu/test_call.h), then the access is made, and everything
 * must be as it said: the value, or the fault with its error code and address, and each entry afterwards.
 *
 * A walk has tables of its own for each case of a batch; linear addresses from 0 on are the guest's own
 * 4 MiB in each of them. Cases go on by one seed: "seed=" and "cases=" on the command line repeat them.
 *
 * Where an emulator differs from the manual it is named here, and passed over as narrowly as can be:
 *   qemu   A fault by a reserved bit has P clear in its error code, unless the entry lies outside of RAM: then it is the
 *          hypervisor that raises it. Of a PDPTE only the high bits count as reserved, and it is marked accessed. A
 *          1 GiB page's entry is marked accessed even when the access is refused.
 *   bochs  PKRU's access-disable bits count for a user's accesses only, and all its bits for supervisor pages, too. It never
 *          refuses writes with key 0, since the guest's own pages have that.
 *   EFLAGS.AC counts in the processor's own accesses, too: on QEMU at CPL 0, on Bochs always. There it stays clear.
 *   AMD's reserved bit 8 of table pointers above 2 MiB is unknown to both: it stays clear.
 *   Both mark upper entries accessed in walks that end in a fault, which the manual allows (SDM vol. 3 section 4.8).
 */
#include "mmu_make.h"
#include "mmu_own.h"

#define ERROR_KEY 32u
#define MISMATCHES 5u /* after so many a mode is given up */

void mmu_trip(struct mmu_trip *trip);

static struct mmu_case cases[BATCH];

enum outcome { SUCCESS, ABSENT, PROTECTED, RESERVED, NO_KEY, NOT_CANONICAL, BAD_CR3, ODD_KEY, SKIPPED, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = { "done",          "absent",  "forbidden", "reserved", "key",
						     "not canonical", "bad CR3", "odd key",   "skipped" };
static uint32_t outcomes[OUTCOMES];

static uint32_t target_word(uint32_t address)
{
	return 0xcc | (address & 0x7ffc) << 8; /* INT3, and where it is */
}

/* ---- judging one ---- */

static bool entries_as_told(const struct mmu_case *c, const struct mode *m, uint32_t *wrong)
{
	for (uint32_t level = 0; level < c->levels; level++) {
		uint64_t want = c->before[level], now, allowed = 0;

		now = m->entry_bytes == 4 ? read32(c->entry[level]) : *(volatile uint64_t *)c->entry[level];
		for (uint32_t i = 0; i < c->walk.steps && c->loaded && !c->skipped; i++) {
			if (c->walk.step[i].where != c->entry[level])
				continue;
			want |= c->walk.step[i].marks;
			if (m->levels == 3 && level == 2)
				allowed = qemu ? A : 0;
			else if (c->walk.verdict != TEST_WALK_OK)
				allowed = i + 1 < c->walk.steps || (qemu && level == 2 && (want & LARGE)) ? A : 0;
		}
		*wrong = level;
		if ((now ^ want) & ~allowed)
			return false;
	}
	return true;
}

static bool in_ram(uint64_t where)
{
	return where < memory_end && (where < ROM || where >= MIB);
}

static bool value_as_told(const struct mmu_case *c)
{
	uint32_t where = (uint32_t)c->walk.gpa, found;
	bool inside = !(c->walk.gpa >> 32);

	if (c->walk.access == READ)
		return c->result == (inside ? read32(where) : 0xffffffffu);
	if (c->walk.access != WRITE || !inside)
		return true;
	found = read32(where);
	write32(where, where >= NEVER_TOUCHED ? 0 : target_word(where));
	return found == c->value;
}

/* Where Bochs takes PKRU otherwise: see above. */
static bool odd_key(const struct mmu_trip *t, const struct mmu_case *c)
{
	bool as_user = c->walk.cpl && c->walk.access != SYSTEM;
	uint32_t code = P | (c->walk.access == WRITE ? W : 0) | (as_user ? U : 0), rights;
	bool fault = c->vector == VECTOR_PF && c->cr2 == c->walk.gva;
	uint64_t leaf = 0, user = U;

	if (!bochs || !(t->cr4 & CR4_PKE) || !c->walk.steps || c->walk.access == EXECUTE)
		return false;
	for (uint32_t level = c->levels - 1; level + 1 > c->levels - c->walk.steps; level--) {
		leaf = c->before[level];
		user &= leaf;
	}
	rights = c->pkru >> (2 * (leaf >> 59 & 15)) & 3;
	if (!user)
		return rights && fault && c->error == (code | ERROR_KEY);
	if (!(rights & 1) || as_user || c->walk.verdict != TEST_WALK_PAGE_FAULT || !(c->walk.error_code & ERROR_KEY))
		return false;
	if (fault) /* outside of RAM the hypervisor raises it, after Bochs has marked the entries */
		return c->error == code || (c->error == c->walk.error_code && !in_ram(c->walk.gpa));
	return c->vector == VECTOR_BP && value_as_told(c);
}

/*
 * QEMU's processor tells a reserved bit without P. An entry outside of RAM the hypervisor reads, and then raises the fault
 * itself, as it does where the accessed bit of one in ROM is to be set on the way: then either is right.
 */
static uint32_t code_of_qemu(const struct mmu_case *c)
{
	uint32_t code = c->walk.error_code;
	bool ram = true;

	if (!(code & ERROR_RESERVED) || !in_ram(c->walk.step[c->walk.steps - 1].where))
		return code;
	for (uint32_t i = 0; i < c->walk.steps; i++)
		ram = ram && in_ram(c->walk.step[i].where);
	return ram || c->error == (code & ~P) ? code & ~P : code;
}

static bool outcome_as_told(const struct mmu_case *c)
{
	uint32_t code = qemu ? code_of_qemu(c) : c->walk.error_code;

	switch (c->walk.verdict) {
	case TEST_WALK_OK: return c->loaded && c->vector == VECTOR_BP && value_as_told(c);
	case TEST_WALK_PAGE_FAULT:
		return c->loaded && c->vector == VECTOR_PF && c->error == code && c->cr2 == c->walk.gva;
	case TEST_WALK_PROTECTION: return c->loaded && c->vector == VECTOR_GP && !c->error;
	case TEST_WALK_BAD_CR3: return !c->loaded && c->vector == VECTOR_GP && !c->error;
	default: return false;
	}
}

static enum outcome outcome_of(const struct mmu_case *c)
{
	uint32_t code = c->walk.error_code;

	if (c->skipped)
		return SKIPPED;
	if (c->walk.verdict != TEST_WALK_PAGE_FAULT)
		return c->walk.verdict == TEST_WALK_OK           ? SUCCESS
		       : c->walk.verdict == TEST_WALK_PROTECTION ? NOT_CANONICAL
								 : BAD_CR3;
	return !(code & P) ? ABSENT : code & ERROR_RESERVED ? RESERVED : code & ERROR_KEY ? NO_KEY : PROTECTED;
}

static void show(const struct mmu_trip *t, const struct mmu_case *c, const struct mode *m, const char *what,
		 uint32_t level)
{
	failures++;
	print("FAILED %s: %s %u: seed %u cr0 0x%x cr4 0x%x efer 0x%x pkru 0x%x\n", m->name, what, level, c->seed,
	      t->cr0, t->cr4, t->efer, c->pkru);
	print("  cr3 0x%llx gva 0x%llx access %u cpl %u eflags 0x%x\n", c->walk.cr3, c->walk.gva, c->walk.access,
	      c->walk.cpl, c->walk.rflags);
	for (uint32_t i = c->levels - 1; i + 1 > 0; i--)
		print("  level %u at 0x%x: 0x%llx, then 0x%llx\n", i, c->entry[i], c->before[i],
		      m->entry_bytes == 4 ? read32(c->entry[i]) : *(uint64_t *)c->entry[i]);
	print("  told: verdict %u error 0x%x gpa 0x%llx after %u steps\n", c->walk.verdict, c->walk.error_code,
	      c->walk.gpa, c->walk.steps);
	for (uint32_t i = 0; i < c->walk.steps; i++)
		print("    at 0x%llx sets 0x%llx\n", c->walk.step[i].where, c->walk.step[i].marks);
	print("  seen: cr3 loaded %u, vector %u error 0x%x cr2 0x%llx value 0x%x (0x%x)%s\n", c->loaded, c->vector,
	      c->error, c->cr2, c->result, c->value, c->skipped ? " skipped" : "");
}

/* False: something was otherwise than told. */
static bool judge(const struct mmu_trip *t, const struct mmu_case *c, const struct mode *m)
{
	uint32_t level = 0;
	bool entries, good;

	if (!c->skipped && odd_key(t, c)) {
		outcomes[ODD_KEY]++;
		return true;
	}
	entries = entries_as_told(c, m, &level);
	good = c->skipped || outcome_as_told(c);

	outcomes[outcome_of(c)]++;
	if (!good)
		show(t, c, m, "outcome", 0);
	else if (!entries)
		show(t, c, m, "entry of level", level);
	return good && entries;
}

/* ---- batches ---- */

static void clear_tables(const struct mmu_case *c, const struct mode *m)
{
	for (uint32_t i = 0; i < c->levels; i++)
		memset((void *)c->entry[i], 0, m->entry_bytes);
	memset((void *)((uint32_t)c->walk.cr3 & ~0x1fu), 0, 8);
}

static void random_registers(struct mmu_trip *t, const struct mode *m)
{
	struct cpuid_result seven = cpuid(7, 0);

	t->cr0 = READ_CR(0) | CR0_PG | (one_in(2) ? CR0_WP : 0);
	t->cr4 = m->cr4 | (one_in(2) ? CR4_PGE : 0);
	t->cr4 |= (seven.ebx >> 7 & 1) && one_in(2) ? CR4_SMEP : 0;
	t->cr4 |= (seven.ebx >> 20 & 1) && one_in(2) ? CR4_SMAP : 0;
	t->cr4 |= keys && one_in(2) ? CR4_PKE : 0;
	t->efer = (uint32_t)rdmsr(0xc0000080) | m->efer;
	t->flags = (m->efer & EFER_LME ? TRIP_LONG : 0) | (t->cr4 & CR4_PKE ? TRIP_KEYS : 0) | (amd ? TRIP_AMD : 0);
}

static bool batch(const struct mode *m)
{
	struct mmu_trip t = { .count = BATCH, .cases = cases };
	bool good = true;

	random_registers(&t, m);
	own_root[0] = own_entry(m);
	t.root = (uint32_t)own_root;
	for (uint32_t i = 0; i < BATCH; i++)
		make_case(&cases[i], m, i, own_root[0]);
	mmu_trip(&t);
	for (uint32_t i = 0; i < BATCH; i++) {
		good &= judge(&t, &cases[i], m);
		clear_tables(&cases[i], m);
	}
	return good;
}

/*
 * Whether `found` of `done` cases can be the outcome of something that is to happen in at least one of n: less than five
 * standard deviations below that, however few cases there are. A batch shares its registers, so its cases aren't
 * independent, and n is twice what many of them show.
 */
static bool enough(uint32_t found, uint32_t done, uint32_t n)
{
	uint32_t mean = done / n;

	return found >= mean || (mean - found) * (mean - found) < 25 * mean;
}

static void run_mode(const struct mode *m, uint32_t count)
{
	uint32_t bad = 0, done = 0;

	memset(outcomes, 0, sizeof(outcomes));
	for (; done < count && bad < MISMATCHES; done += BATCH)
		bad += !batch(m);
	print("%s: %u cases", m->name, done);
	for (uint32_t i = 0; i < OUTCOMES; i++)
		print(", %u %s", outcomes[i], outcome_names[i]);
	print("\n");
	/* They reach every end that the mode has. */
	check(bad || enough(outcomes[SUCCESS], done, 16));
	check(bad || enough(outcomes[ABSENT], done, 32));
	check(bad || enough(outcomes[PROTECTED], done, 16));
	check(bad || (!outcomes[RESERVED]) == (!m->large && m->entry_bytes == 4));
	check(bad || (!outcomes[NOT_CANONICAL]) == (m->levels < 4));
	check(bad || (!outcomes[NO_KEY]) == (m->levels < 4 || !keys));
}

void guest_main(void)
{
	uint32_t count = option_number("cases=", 1000);
	bool la57 = cpuid(7, 0).ecx >> 16 & 1;

	state = option_number("seed=", 1) * 2654435761u | 1;
	qemu = option("qemu");
	bochs = option("bochs");
	amd = cpuid(0, 0).ecx == 0x444d4163; /* AuthenticAMD */
	large_1g = cpuid(0x80000001, 0).edx >> 26 & 1;
	keys = cpuid(7, 0).ecx >> 3 & 1;
	print("seed %u, %s, 1 GiB pages %u, keys %u, 5 levels %u\n", option_number("seed=", 1), amd ? "AMD" : "Intel",
	      large_1g, keys, la57);
	fill_descriptors();
	fill_own_tables();
	for (uint32_t i = 0; i < TARGET_PAGES * PAGE; i += 4)
		write32(TARGET + i, target_word(TARGET + i));
	for (uint32_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!(modes[i].cr4 & CR4_LA57) || la57)
			run_mode(&modes[i], count);
}
