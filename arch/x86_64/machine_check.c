/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each bank with an error is told and weighed; the gravest decides. An error that the hardware has contained goes on: in a
 * guest's own access it is that guest's end (the caller's work), anywhere else in the host it is the host's.
 *
 * Where a processor tells all CPUs of an error, each weighs it by itself, and nobody waits for the others: one that is not
 * concerned leaves the error's bank to the one that is. Runs on the machine check's stack, or after a guest's exit with
 * interrupts off; takes no lock.
 *
 * Corrected errors, and those that nobody has consumed yet, raise nothing on many machines: who looks for failing memory asks the banks of
 * its own CPU, which has those of its package's memory. Where a frame fails, is told by Intel's only: AMD's newer controllers give an
 * address of their own (PPR, UMC's MCA_ADDR), whose way back to ours is each family's.
 *
 * Not done: the interrupt for corrected errors (CMCI), AMD's scalable banks beyond the 32 old addresses.
 */
#include "arch/x86_64/machine_check.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/traps.h"

#define MSR_MCG_STATUS 0x17au
#define MSR_MCG_CTL 0x17bu
#define MSR_MC_CTL(bank) (0x400u + 4 * (bank))
#define MSR_MC_STATUS(bank) (0x401u + 4 * (bank))
#define MSR_MC_ADDR(bank) (0x402u + 4 * (bank))
#define MSR_MC_MISC(bank) (0x403u + 4 * (bank))
#define BANKS_MOST 32u /* behind them other registers follow, VMX's at 480h */

#define CAP_BANKS 0xffu
#define CAP_CTL BIT(8)
#define CAP_RECOVERY BIT(24) /* Intel: S and AR mean something */
#define MCG_RESTART_VALID BIT(0)
#define MCG_ERROR_HERE BIT(1) /* the error belongs to the instruction that was interrupted */

#define STATUS_VALID BIT(63)
#define STATUS_OVERFLOW BIT(62)
#define STATUS_UNCORRECTED BIT(61)
#define STATUS_ENABLED BIT(60)
#define STATUS_HAS_MISC BIT(59)
#define STATUS_HAS_ADDRESS BIT(58)
#define STATUS_CONTEXT_LOST BIT(57)
#define STATUS_SIGNALLED BIT(56) /* Intel: S */
#define STATUS_ACT BIT(55)       /* Intel: AR. AMD: the task's context is lost */
#define STATUS_POISON BIT(43)    /* AMD: consumed data known to be bad */
#define MISC_LOWEST_BIT 0x3fu    /* of the address that is valid */
#define MISC_MODE_SHIFT 6
#define MISC_MODE_PHYSICAL 2u

/* What an error asks for; the gravest comes last. */
enum verdict { NOTHING, GO_ON, GUEST_ENDS, FATAL };

struct bank {
	uint64_t status, address, misc;
};

/* Intel SDM vol. 3 section 16.6.3: which uncorrected errors software can recover from. */
static enum verdict weigh_intel(const struct bank *b, uint64_t cap)
{
	if (!(cap & CAP_RECOVERY))
		return FATAL;
	if (!(b->status & STATUS_ACT))
		return GO_ON; /* nothing has been consumed yet */
	if (!(b->status & STATUS_SIGNALLED) || b->status & STATUS_OVERFLOW || !(b->status & STATUS_HAS_ADDRESS) ||
	    !(b->status & STATUS_HAS_MISC) || (b->misc >> MISC_MODE_SHIFT & 7) != MISC_MODE_PHYSICAL)
		return FATAL;
	return GUEST_ENDS;
}

/* AMD APM vol. 2 section 9.3.2: only poison, met by a processor that can recover from it, with the task's context whole. */
static enum verdict weigh_amd(const struct bank *b)
{
	if (!features.mca_recovery || b->status & (STATUS_ACT | STATUS_OVERFLOW) || !(b->status & STATUS_POISON) ||
	    !(b->status & STATUS_HAS_ADDRESS))
		return FATAL;
	return GUEST_ENDS;
}

/* Memory that failed and isn't anybody's end yet: addresses of frames, with READABLE; 0: none. Atomic. */
#define NOTES 8u
#define READABLE BIT(0)
static uint64_t notes[NOTES], last; /* the last corrected one */

/* Errors of memory controllers, patrol scrubs included: Intel SDM vol. 3 section 16.9.2, compound codes; bit 12 is a filter's.
 * One corrected error may be chance; a second one in the same frame is not. */
static void note(const struct bank *b)
{
	uint64_t value = b->address & BITS(features.physical_bits - 1, PAGE_SHIFT);

	if (features.amd || (b->status & 0xef80) != 0x80 || !(b->status & STATUS_HAS_ADDRESS) ||
	    (b->status & STATUS_HAS_MISC && (b->misc >> MISC_MODE_SHIFT & 7) != MISC_MODE_PHYSICAL))
		return;
	value |= b->status & STATUS_UNCORRECTED ? 0 : READABLE;
	if (value & READABLE && __atomic_exchange_n(&last, value, __ATOMIC_RELAXED) != value)
		return;
	for (unsigned i = 0; i < NOTES; i++) {
		uint64_t none = 0;

		if (__atomic_compare_exchange_n(&notes[i], &none, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return;
	}
}

static enum verdict weigh(const struct bank *b, uint64_t cap)
{
	if (!(b->status & STATUS_VALID))
		return NOTHING;
	if (!(b->status & STATUS_UNCORRECTED) || !(b->status & STATUS_ENABLED))
		return GO_ON;
	if (b->status & STATUS_CONTEXT_LOST)
		return FATAL;
	return features.amd ? weigh_amd(b) : weigh_intel(b, cap);
}

static unsigned bank_count(uint64_t cap)
{
	return (unsigned)min_u64(cap & CAP_BANKS, BANKS_MOST);
}

static struct bank read_bank(unsigned i)
{
	struct bank b = { .status = rdmsr(MSR_MC_STATUS(i)) };

	if (b.status & STATUS_VALID && b.status & STATUS_HAS_MISC)
		b.misc = rdmsr(MSR_MC_MISC(i));
	if (b.status & STATUS_VALID && b.status & STATUS_HAS_ADDRESS)
		b.address = rdmsr(MSR_MC_ADDR(i));
	return b;
}

#define BANK_TEXT "machine check: CPU %u bank %u: status %016lx, address %016lx, misc %016lx"

/* The panic page; the banks keep what they hold, for the firmware to tell after a restart. */
static _Noreturn void die(uint64_t cap, uint64_t status)
{
	panic_begin();
	panic_line("machine check on CPU %u: the hardware reports an error of its own (MCG_STATUS %lx)", cpu_index(),
		   status);
	for (unsigned i = 0; i < bank_count(cap); i++) {
		const struct bank b = read_bank(i);

		if (b.status & STATUS_VALID)
			panic_line("  " BANK_TEXT, cpu_index(), i, b.status, b.address, b.misc);
	}
	panic_end();
}

/* Section 16.9.3.2: on Intel all CPUs are told; those that can restart and have no error of their own leave it to the one. */
static bool is_others(enum verdict verdict, uint64_t status)
{
	return verdict == GUEST_ENDS && !features.amd && status & MCG_RESTART_VALID && !(status & MCG_ERROR_HERE);
}

static void tell(unsigned i, const struct bank *b)
{
	log_line(LOG_WARNING BANK_TEXT, cpu_index(), i, b->status, b->address, b->misc);
	wrmsr(MSR_MC_STATUS(i), 0);
}

static enum verdict gravest(uint64_t cap, uint64_t status)
{
	enum verdict all = NOTHING;

	for (unsigned i = 0; i < bank_count(cap); i++) {
		const struct bank b = read_bank(i);
		enum verdict verdict = weigh(&b, cap);

		if (verdict > all && !is_others(verdict, status))
			all = verdict;
	}
	return all;
}

/*
 * Weighs all banks, then tells and clears those that are dealt with. True: a guest is to end, for what it met at *where.
 * where NULL: no guest was running.
 */
static bool handle(hpa_t *where)
{
	uint64_t cap = rdmsr(MSR_MCG_CAP), status = rdmsr(MSR_MCG_STATUS);
	enum verdict all = gravest(cap, status);

	if (all == FATAL || (all == GUEST_ENDS && !where) || (all != GUEST_ENDS && !(status & MCG_RESTART_VALID)))
		die(cap, status);
	for (unsigned i = 0; i < bank_count(cap); i++) {
		const struct bank b = read_bank(i);
		enum verdict verdict = weigh(&b, cap);

		if (verdict == NOTHING || is_others(verdict, status))
			continue;
		if (verdict == GUEST_ENDS)
			*where = hpa(align_down(b.address & BITS(features.physical_bits - 1, 0),
						BIT(features.amd ? 0 : b.misc & MISC_LOWEST_BIT)));
		else
			note(&b);
		tell(i, &b);
	}
	wrmsr(MSR_MCG_STATUS, 0); /* the next one is no shutdown */
	return all == GUEST_ENDS;
}

void machine_check_in_host(void)
{
	panic_unless(!handle(NULL));
}

bool host_machine_check(hpa_t *where)
{
	return handle(where);
}

/* What raised nothing. An error with a machine check of its own is left to that. */
static void ask_banks(void)
{
	uint64_t cap = features.machine_check_banks ? rdmsr(MSR_MCG_CAP) : 0;

	for (unsigned i = 0; i < bank_count(cap); i++) {
		const struct bank b = read_bank(i);

		if (weigh(&b, cap) != GO_ON || (b.status & STATUS_UNCORRECTED && b.status & STATUS_SIGNALLED))
			continue;
		note(&b);
		tell(i, &b);
	}
}

bool host_failing_memory(hpa_t *frame, bool *readable)
{
	ask_banks();
	for (unsigned i = 0; i < NOTES; i++) {
		uint64_t value = __atomic_exchange_n(&notes[i], 0, __ATOMIC_RELAXED);

		*frame = hpa(value & ~READABLE);
		*readable = value & READABLE;
		if (value)
			return true;
	}
	return false;
}

/*
 * Bank 4 of AMD's families before 17h counts errors of the graphics' address table that are none; firmware masks them, but
 * writing all ones would undo that. Their BIOS guides (MC4_CTL, GartTblWkEn).
 */
#define GART_ERRORS BIT(10)

void machine_check_open(void)
{
	uint64_t cap;

	if (!features.machine_check || !features.machine_check_banks)
		return;
	cap = rdmsr(MSR_MCG_CAP);
	if (cap & CAP_CTL)
		wrmsr(MSR_MCG_CTL, UINT64_MAX);
	for (unsigned i = 0; i < bank_count(cap); i++) {
		const struct bank b = read_bank(i);

		if (b.status & STATUS_VALID)
			log_line(LOG_WARNING "left from before the start: " BANK_TEXT, cpu_index(), i, b.status,
				 b.address, b.misc);
		/* A bank that can't be written is the firmware's; its errors come all the same. */
		(void)wrmsr_safe(MSR_MC_CTL(i), features.amd && i == 4 ? ~GART_ERRORS : UINT64_MAX);
		(void)wrmsr_safe(MSR_MC_STATUS(i), 0);
	}
	wrmsr(MSR_MCG_STATUS, 0);
}
