/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test hypervisor: a guest that runs guests of its own (L2), on VMX or SVM, in 64-bit mode. Its cases are functions in case_*.c;
 * each says what the manual demands (check) and prints what came out, so that a run in Quire can be compared with one on the processor.
 *
 * An L2 is a few instructions of l2.asm in 64-bit mode with L1's memory one to one, and a window of pages whose tables the case
 * makes: WINDOW in its linear addresses is TARGET in its physical ones. Each piece ends with HLT, which always exits.
 */
#pragma once

#include "guest.h"

#define EFER 0xc0000080u
#define EFER_SVME 0x1000ull
#define CR4_VMXE 0x2000ull

#define WINDOW 0x8000000000ull /* linear, of 512 pages */
#define TARGET (hyper.target)  /* physical */
#define WINDOW_PAGES 512u

#define HYPER_CPUS 4u /* that an extension may be on at */

#define ACCESS_READ 1u
#define ACCESS_WRITE 2u
#define ACCESS_EXECUTE 4u
#define ACCESS_ALL 7u

/* The order is run.asm's. RSP is in the control structure. */
struct l2_regs {
	uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

enum exit_kind {
	GOT_HLT,
	GOT_CPUID,
	GOT_CALL, /* VMCALL, VMMCALL */
	GOT_IO,
	GOT_RDMSR,
	GOT_WRMSR,
	GOT_EXCEPTION, /* vector in exit.vector */
	GOT_INTERRUPT,
	GOT_NMI,
	GOT_WINDOW,
	GOT_CR,
	GOT_DR,
	GOT_RDTSC,
	GOT_INVLPG,
	GOT_PAUSE,
	GOT_SHUTDOWN,
	GOT_VIOLATION, /* of L1's second-level tables */
	GOT_MISCONFIG,
	GOT_INVALID, /* the entry failed */
	GOT_TIMER,
	GOT_OTHER,
};

struct l2_exit {
	enum exit_kind kind;
	uint64_t reason, info1, info2, linear; /* VMX: qualification, guest-physical address; SVM: EXITINFO1, 2 */
	uint64_t event;                        /* broken off: type and vector in VMX' form; bit 31: valid */
	uint64_t event_error;
	uint32_t vector, length; /* length: 0 where the processor doesn't tell */
	uint64_t error;
	uint32_t failed; /* VMX: 1 VMfailInvalid, 2 VMfailValid */
};

enum l2_field {
	L2_RIP,
	L2_RSP,
	L2_RFLAGS,
	L2_CR0,
	L2_CR3,
	L2_CR4,
	L2_EFER,
	L2_DR7,
	L2_CS_SELECTOR,
	L2_CS_BASE,
	L2_IDT_BASE,
	L2_IDT_LIMIT,
	L2_FIELDS
};

enum l2_intercept {
	ON_INTERRUPT,
	ON_NMI,
	ON_WINDOW,
	ON_RDTSC,
	ON_INVLPG,
	ON_CR3_WRITE,
	ON_CR3_READ,
	ON_DR,
	ON_PAUSE,
	ON_HLT,
	INTERCEPTS
};

/* Events to inject; VMX' types, which SVM's are but for the software ones. */
#define EVENT_INTERRUPT 0u
#define EVENT_NMI 2u
#define EVENT_EXCEPTION 3u
#define EVENT_SOFTWARE 4u

struct l2 {
	struct l2_regs regs;
	struct l2_exit exit;
	void *control; /* VMCS or VMCB */
	uint64_t root; /* of the second-level tables; 0: none */
	bool launched;
	uint32_t tag; /* VPID or ASID; 0 on VMX: none */
};

struct table_register {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

/* What differs between VMX and SVM. */
struct vendor {
	const char *name;
	bool svm;
	/* Turns the extension on; false, and says why. */
	bool (*start)(void);
	void (*stop)(void);
	/* Fields at their defaults; control, root and tag are given. Without root: no nested paging. */
	void (*make)(struct l2 *l2);
	void (*run)(struct l2 *l2);
	uint64_t (*get)(struct l2 *l2, enum l2_field field);
	void (*set)(struct l2 *l2, enum l2_field field, uint64_t value);
	void (*intercept)(struct l2 *l2, enum l2_intercept what, bool on);
	void (*exceptions)(struct l2 *l2, uint32_t mask);
	void (*inject)(struct l2 *l2, uint32_t type, uint32_t vector, bool has_error, uint32_t error);
	void (*tsc_offset)(struct l2 *l2, uint64_t offset);
	/* Its counter goes at half speed, or at full; false: this processor can't. */
	bool (*tsc_half)(struct l2 *l2, bool half);
	/* Drops what is cached of root, or (all) of every root. */
	void (*flush)(struct l2 *l2, bool all);
	/* Another root; 0 isn't allowed. */
	void (*set_root)(struct l2 *l2, uint64_t root);
};
extern const struct vendor vmx_vendor, svm_vendor;

struct hyper {
	const struct vendor *vendor;
	uint64_t target;
	unsigned physical_bits, top_level; /* the highest whose entry belongs to the window alone */
	bool bochs, qemu, large_1g, execute_only, accessed_dirty;
};
extern struct hyper hyper;

/* run.asm */
uint32_t vmx_enter(struct l2_regs *regs, uint32_t launched);
void svm_enter(struct l2_regs *regs, uint64_t vmcb);
extern char vmx_exit[];
extern uint64_t page_root;

/* l2.asm: pieces of L2. RDI: address or number, RAX: value in and out. */
extern char l2_halt[], l2_read[], l2_read32[], l2_write32[], l2_write[], l2_execute[], l2_add[], l2_cpuid[], l2_call[],
	l2_out[], l2_in[], l2_rdmsr[], l2_wrmsr[], l2_invalid[], l2_int3[], l2_int[], l2_rdtsc[], l2_invlpg[],
	l2_write_cr3[], l2_read_cr3[], l2_write_dr[], l2_pause[], l2_spin[], l2_sti_spin[], l2_registers[], l2_triple[],
	l2_cpuid_after[], l2_sti_hlt[], l2_gates[], l2_gates_closed[], l2_fpu[], l2_read_cr0[], l2_write_cr0[],
	l2_read_cr4[], l2_write_cr4[], l2_clts[], l2_cr8[], l2_touch[], l2_sweep[], l2_survey[], l2_count[], l2_wait[];
extern char l2_stubs[], l2_returns[];
extern volatile uint64_t l2_seen[4]; /* vector + 1, error, CR2, RIP of the last exception in L2 */
extern volatile uint64_t l2_interrupts, l2_flag;

/* world.c: memory, L2's own tables, L2s. */
void *page_take(void); /* zeroed; the test ends if none is left */
void pages_give_back(void);
uint64_t random64(void);
/* A new L2 with new second-level tables that map L1's memory one to one; the window's pages go to absent entries. */
struct l2 *l2_new(bool paged);
/* Runs a piece from its beginning, with these in RDI and RAX. Returns the kind of exit. */
enum exit_kind l2_do(struct l2 *l2, const void *piece, uint64_t rdi, uint64_t rax);
enum exit_kind l2_resume(struct l2 *l2);
const char *exit_name(enum exit_kind kind);
/* Prints an exit whole, and that L2 had an exception of its own if it had. */
void say_exit(const char *what, const struct l2 *l2);
/* The kind must be this; says so otherwise. */
bool expect_exit(const char *what, const struct l2 *l2, enum exit_kind kind);
void reload_l2_tables(struct l2 *l2);
extern uint64_t *window_table; /* L2's own level-0 table for the window */

/* slat.c: L1's second-level tables. Levels count from the leaf, 0 is 4 KiB. */
uint64_t slat_new(void);                                           /* root: all of RAM, by 2 MiB */
uint64_t *slat_entry(uint64_t root, uint64_t gpa, unsigned level); /* made if need be, splitting nothing */
uint64_t slat_leaf(uint64_t to, unsigned level, unsigned rights);  /* ACCESS_*; write-back */
uint64_t slat_table(const void *table, unsigned rights);
uint64_t slat_rights(unsigned rights);
void slat_clear(uint64_t root, uint64_t gpa); /* the window's path is empty again */

/* What the manual says of an access through L1's tables. */
enum model_verdict { MODEL_FINE, MODEL_VIOLATION, MODEL_MISCONFIG };
struct model {
	enum model_verdict verdict;
	uint64_t to;     /* FINE */
	unsigned rights; /* of all levels that were passed */
	bool present;    /* NPT's P */
	unsigned level;
};
struct model model_walk(uint64_t root, uint64_t gpa, unsigned access);
/* Whether the exit is what the model says; says what differs otherwise. */
bool model_agrees(const struct l2 *l2, const struct model *m, uint64_t gpa, unsigned access);

/* The cases. */
void case_instructions(void);
void case_events(void);
void case_interrupts(void);
void case_matrix(void);
void case_stale(void);
void case_chaos(void);
void case_soak(void);
void case_vmcs(void);
void case_marks(void);
void case_controls(void);
void case_smp(void);
void case_crowd(void);
void case_bench(void);
void case_checks(void);

/* Bochs' SVM stops at a triple fault of a guest. */
static inline bool triple_faults(void)
{
	return !(hyper.bochs && hyper.vendor->svm);
}

static inline uint64_t address_of(const void *p)
{
	return (uintptr_t)p;
}
