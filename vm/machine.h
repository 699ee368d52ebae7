/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine: memory (PGM), devices on a bus, virtual CPUs, and its life: what the rooms of vm/ share, and the monitor sees.
 *
 *   OFF → (machine_start) → RUNNING ⇄ PAUSED → ENDED → (reaped on the boot CPU) → OFF
 *
 * The boot CPU creates and reaps; each vcpu is run by one host CPU at a time. Whoever
 * wants something of a vcpu sets a request bit and kicks its CPU, or wakes it; the run loop looks at the
 * requests before each entry. An end is decided once (machine_end), the vcpus leave, and the boot CPU
 * frees everything and prints the one line that says why.
 */
#pragma once

#include "dev/virtio/balloon.h"
#include "dev/virtio/mem.h"
#include "lib/memory.h"
#include "pgm/fetch.h"
#include "vm/config/config.h"
#include "vm/emulate/decode_cache.h"

#define MACHINE_END_TEXT 200u

struct board;
struct lapic;
struct machine;
struct vcpu_nested;

enum machine_state { MACHINE_OFF, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_ENDED };

enum machine_end { END_POWEROFF, END_RESET, END_TRIPLE_FAULT, END_EXIT_PORT, END_ERROR, END_OPERATOR };

/* Requests to a vcpu; bits of vcpu->requests. */
#define REQUEST_LEAVE BIT(0)   /* the machine has ended or pauses: leave the run loop */
#define REQUEST_EVENT BIT(1)   /* something to deliver: interrupt, NMI, INIT, SIPI */
#define REQUEST_FLUSH BIT(2)   /* the flush domain's generation moved on */
#define REQUEST_A20 BIT(4)     /* its A20 gate has moved: another root of second-level tables */
#define REQUEST_WINDOWS BIT(5) /* a BAR was moved */
#define REQUEST_YIELD BIT(6)   /* another one's turn is earlier */
#define REQUEST_TIMER BIT(3)   /* a device timer was armed earlier than the vcpu's deadline */

/* What is done at each exit beyond its handling; bits of vcpu->watch. */
#define WATCH_CYCLES BIT(0) /* its time is measured */
#define WATCH_SYNC BIT(1)   /* after it the second-level tables are dropped, but for second-level faults */

/* Where the scheduler has a vcpu; its own view is its activity. */
enum vcpu_place { PLACE_NONE, PLACE_ASLEEP, PLACE_READY, PLACE_RUNNING, PLACE_MOVING };

enum vcpu_activity { VCPU_RUNNABLE, VCPU_HALTED, VCPU_WAIT_SIPI, VCPU_PARKED };

struct vcpu_msrs {
	uint64_t tsc_aux, misc_enable, mtrr_def, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	uint64_t tsc_adjust, mcg_status;
};

/* What the guest has named by Linux' interface for guests of KVM, as its MSRs hold it; vm/vcpu/pv.h. */
struct vcpu_pv {
	uint64_t wall, clock, steal, eoi;
	uint64_t told;    /* of waited_ticks */
	uint64_t stolen;  /* nanoseconds, as the guest has them */
	uint32_t version; /* of all that is written with one; even */
	bool preempted;   /* the guest has been told that it doesn't run */
	bool kicked;      /* atomic: the next HLT is over at once */
};

struct vcpu {
	/* Looked at before each entry. */
	uint32_t requests;   /* atomic */
	uint32_t in_guest;   /* atomic: 1 between the check of requests and the exit */
	uint64_t flush_seen; /* atomic: generation flushed up to */
	uint64_t wakeup;     /* host TSC of the next device timer; UINT64_MAX: none */
	uint64_t wakeup_ns;  /* the same moment by the machine's clock */
	uint64_t a20_mask;   /* address bits that a closed A20 gate takes out; atomic, see pgm/shadow/a20.h */
	struct hv_vcpu *hv;  /* the level that runs: l1, or its guest */
	struct machine *machine;
	struct lapic *lapic;
	uint8_t activity; /* enum vcpu_activity */
	bool eoi_offered; /* vm/vcpu/pv_eoi.c; only from before an entry to the exit */
	bool nmi_pending, init_pending;
	bool loaded;    /* its FPU and XCR0 are in its CPU; a movable one's, that CPU holds something of it; atomic */
	uint8_t watch;  /* WATCH_*; atomic */
	uint8_t action; /* enum exit_action of the last exit */
	bool yields;    /* its slice ends before its time */

	uint32_t signals;           /* atomic: what other processors sent, vm/vcpu/signal.c */
	struct hv_vcpu *l1;         /* its own registers */
	struct vcpu_nested *nested; /* NULL: its CPUID tells of no virtualisation; vm/vcpu/nested.h */
	unsigned id;                /* in the machine; its APIC id: vm/config/topology.h */
	unsigned weight;
	/* The scheduler's: vm/machine/queues.c. */
	unsigned cpu;  /* atomic: the host CPU whose queue it is on; the next one's as soon as it is taken there */
	uint8_t place; /* enum vcpu_place; atomic */
	bool movable;  /* it may run on several CPUs */
	const struct cpu_set *allowed; /* those */
	uint64_t vtime;                /* its queue's virtual time; nowhere: the host's */
	struct vcpu *next;             /* on a list of its queue's */
	uint64_t moves;
	int64_t tsc_ahead; /* host_tsc_ahead() of the CPU that its tsc_offset is for */
	void *fpu;
	struct vcpu_msrs msr;
	struct vcpu_pv pv;
	uint64_t guest_mode_changes, a20_changes;
	uint64_t sync_cursor; /* WATCH_SYNC: where the tables are dropped next */
	uint64_t exits[EXIT_KIND_COUNT];
	struct hv_answers answers;
	struct decode_cache decoded;
	struct pgm_fetch fetch;
	uint64_t quick_accesses;              /* to devices, without the emulator */
	uint64_t exit_ticks[EXIT_KIND_COUNT]; /* host TSC from exit to entry, while WATCH_CYCLES is on */
	struct pgm_vcpu_counters counters;
	uint64_t longest_fault;   /* host TSC, of second-level faults */
	uint64_t run_ticks, runs; /* host TSC spent running */
	uint64_t waited_ticks,
		waits_since;   /* host TSC it could have run and didn't; since when it does so now, 0: it doesn't */
	uint8_t preempted;     /* atomic: its slice has ended, and it isn't on again */
	char park_text[80];    /* why it waits for memory; empty: it got on since */
	uint64_t parked_until; /* host TSC at which to try again */
	uint32_t parks;        /* how often it had to wait */
	bool park_told;        /* the log tells of this time */
	unsigned empty_looks;  /* in a row that found it at zeros; vm/vcpu/empty.c */
};

struct cpuid_policy;

struct machine {
	char name[CONFIG_MAX_NAME + 1];
	unsigned index;
	const struct config_machine *config;
	uint32_t state;       /* enum machine_state; atomic */
	struct spinlock lock; /* RANK_MACHINE: the devices' lock */
	struct pgm *pgm;
	struct pgm *leaving; /* its memory while it is given back, piece by piece; boot CPU only */
	struct bus bus;
	struct board *board; /* the devices; vm/machine/board.c */
	struct cpuid_policy *cpuid;
	unsigned vcpu_count;
	struct vcpu *vcpu[MACHINE_MAX_VCPUS];
	uint32_t vcpus_inside; /* atomic: vcpus that a host CPU still holds */
	uint32_t vcpus_active; /* atomic: of those, the ones that could run */

	uint64_t clock_base; /* host ns at clock 0; moves on by the length of each pause */
	uint64_t left_ns,
		left_tsc;  /* host clock and TSC when the last vcpu left: the guest's clocks stand still since */
	uint64_t tsc_base; /* host TSC at guest TSC 0 */

	uint32_t end_decided; /* atomic */
	uint32_t stop_asked;  /* atomic: by the operator; wins over a reset */
	uint8_t end;          /* enum machine_end */
	uint32_t end_value;
	char end_text[MACHINE_END_TEXT];

	struct console_ring *console; /* output towards the monitor; vm/machine/console.c */
	bool restart;                 /* it ended to be reset: memory, devices and vcpus stay */
	uint64_t starts, resets;
	unsigned msr_complaints, timer_complaints, window_complaints;
	/* Boot CPU: an operator has said how much is to be in the balloon; what it held at the last look, and looks since that moved. */
	bool balloon_fixed;
	uint32_t balloon_held, balloon_looks;
	/* Boot CPU: starts (or resets) that found no memory, though promised; when it is tried again, by host_now_ns(). */
	unsigned postponed;
	uint64_t again_at;
	unsigned pages_of_ones; /* atomic; vm/vcpu/nobody.c */
};

static inline enum machine_state machine_state_of(const struct machine *m)
{
	return (enum machine_state)__atomic_load_n(&m->state, __ATOMIC_ACQUIRE);
}

/* Boot CPU only. All machines of the configuration become known, OFF; bad ones too (they refuse to start with their error). */
enum status machines_create(struct quire_config *config) must_check;
unsigned machine_count(void);
struct machine *machine_get(unsigned index);
struct machine *machine_find(const char *name);

/*
 * Boot CPU only. why (size bytes) gets one line for a person on failure. BAD_STATE when it is not OFF. BUSY: what it was promised isn't free
 * just now: machines_start_again() tries again for some seconds, and tells how that went (refused: NULL, or why), unless it is stopped.
 */
enum status machine_start(struct machine *machine, char *why, size_t size) must_check;
bool machines_start_again(void (*told)(struct machine *machine, const char *refused));
/* Any CPU. BAD_STATE when it isn't running. Its vcpus may still be leaving: see machine_stands_still(). */
enum status machine_pause(struct machine *machine) must_check;
/* It is paused, and no host CPU holds a vcpu of it. Any CPU. */
bool machine_stands_still(const struct machine *machine);
/* Any CPU. BAD_STATE when it isn't paused, BUSY while it doesn't stand still. */
enum status machine_resume(struct machine *machine) must_check;
/* Ends it as by the operator, also one that is just being reset. Any CPU. BAD_STATE when it is off. */
enum status machine_stop(struct machine *machine) must_check;
/*
 * Any CPU. The vcpus leave; then the boot CPU resets memory (by zero_ram_on_reset), devices and vcpus, loads the guest's
 * files again, and the machine goes on, a paused one too. machines_reap() tells of it with the line `vm NAME: reset`.
 * BAD_STATE when it is neither running nor paused, BUSY when its end is decided already.
 */
enum status machine_reset(struct machine *machine) must_check;
/* Any CPU, any number of times: the first one counts. text may be NULL. */
void machine_end(struct machine *machine, enum machine_end end, uint32_t value, const char *text, ...)
	__attribute__((format(printf, 4, 5)));
/* Boot CPU's loop: reaps what has ended, and does a piece of what is being reset. Calls ended() with the line's text for each; returns true if it did something. */
bool machines_reap(void (*ended)(struct machine *machine, const char *text));
/* Boot CPU only. Switches a WATCH_* on or off: for one machine until its end, or for all (NULL), those to come included. */
void machine_watch(struct machine *machine, uint8_t what, bool on);
/* WATCH_* that hold for every machine. */
uint8_t machines_watched(void);
/* Does no machine run (or pause, or wait to be reaped)? */
bool machines_idle(void);
/* One bounded step of background work for one of the machines; false: nothing to do for now. Any CPU, from its idle loop. */
bool machines_idle_step(void);
/* fuse.c: the idle CPUs' search for pages to share, on or off; or a bounded step of it at once, by the boot CPU: true at the end of a round. */
void machines_fuse(bool on);
bool machines_fuse_now(unsigned *looked);
/* compact.c: a bounded step of emptying chunks of which at most so many frames are used; true at the end of a round. */
bool machines_compact_now(unsigned most, unsigned *moved, unsigned *freed);
/* No such step is inside a machine from enter to leave. Not from within one. */
void machines_worker_enter(void);
void machines_worker_leave(void);
const char *machine_state_name(const struct machine *machine);

/* A vcpu has left its host CPU; there, just before vcpus_inside goes down. */
void machine_vcpu_left(struct machine *machine);
/* Nanoseconds of the machine's clock; never less than before. */
uint64_t machine_now(const struct machine *machine);

/* Its power button is pressed. BAD_STATE when it doesn't run. Any CPU. */
enum status machine_button(struct machine *machine) must_check;
/*
 * pressure.c: gets memory back from machines that were promised more than there is, when little is left; balloons go down again with plenty. One
 * short step; true: there is more to do at once. Boot CPU only, from its loop.
 */
bool machines_relieve(void);
struct pressure_info {
	const char *relief; /* what is being done about it */
	uint64_t spare;     /* pages: that guests can do without, by their own word */
};
/* Boot CPU only. Asks the guests for fresh figures, which the next call has. */
void pressure_describe(struct pressure_info *info);
struct pressure_counters {
	uint64_t times, shadows, collects, fusions, asked, returned;
};
extern struct pressure_counters pressure_counters;
/*
 * The balloon: so many bytes are to be in it (BAD_VALUE: more than the machine has), or as many as the guests' figures and the
 * host's memory make it (BALLOON_AUTO, as at first); the guest is to tell of what it doesn't
 * use; how it stands, by the guest's word. NOT_SUPPORTED: the machine has none, or is off. Boot CPU only.
 */
#define BALLOON_AUTO UINT64_MAX
enum status machine_balloon_ask(struct machine *machine, uint64_t bytes) must_check;
enum status machine_balloon_collect(struct machine *machine) must_check;
enum status machine_balloon_describe(struct machine *machine, struct balloon_info *info) must_check;
/*
 * So many bytes of memory the machine is to have, its RAM included (0: only tell how it stands): whole blocks up to memory_max, BAD_VALUE.
 * NOT_SUPPORTED: it can't grow, or is off. Boot CPU only.
 */
enum status machine_memory(struct machine *machine, uint64_t bytes, struct vmem_info *info) must_check;
/* Console input from the monitor: bytes taken. Any CPU. */
size_t machine_console_input(struct machine *machine, const uint8_t *bytes, size_t length);
/* Takes up to size bytes of what the guest wrote; boot CPU only. */
size_t machine_console_output(struct machine *machine, uint8_t *bytes, size_t size);

/* ---- what a vcpu asks of the rooms above it, on its CPU; machine->lock not held ---- */

/* Acknowledges the interrupt that lapic_pending() tells of: its vector, -1 when it has gone. */
int board_take_interrupt(struct board *board, struct lapic *lapic);
/* What its clock shows, in nanoseconds since 1970, UTC. */
uint64_t board_wall_clock(struct board *board);
/*
 * The page of the boot vcpu's local APIC is where its IA32_APIC_BASE says, from now on. CONFLICT: memory or another device
 * is there; BAD_VALUE: beyond all memory. On the vcpu's CPU or with the vcpus stopped, without any lock, machine->lock neither.
 */
enum status board_place_apic(struct machine *machine) must_check;
/* BARs are where their devices want them, from now on. On a vcpu's CPU or with the vcpus stopped, without any lock. */
void board_place_windows(struct machine *machine);
/*
 * What the host does with interrupts off for longer than a moment; between two of these they get through, in a guest or in the
 * loop's window.
 */
enum stretch { STRETCH_FAULT, STRETCH_WORK, STRETCH_HOUSEKEEPING, STRETCHES };

/* A stretch of this CPU that began at `since` ends now. */
void schedule_note(enum stretch what, uint64_t since);

/*
 * A request was set of a vcpu that isn't in its guest: one asleep is ready to run, here or on an idle CPU; one that leaves comes
 * before all others. Any CPU, any lock held but one of RANK_LEAF.
 */
void schedule_woken(struct vcpu *vcpu, bool leaves);
/* This CPU holds no state any more of a vcpu with this set of CPUs: if it waits, an idle one may take it. */
void schedule_freed(const struct cpu_set *allowed);
/* It runs and waits for another vcpu, by PAUSE. True: one of its machine's that is ready should go on here in its place. */
bool schedule_spins(struct vcpu *vcpu);
/* The same for this one of its machine's: true: it is ready, and comes before it here; the two change virtual times if need be. */
bool schedule_yield_to(struct vcpu *vcpu, struct vcpu *other);
