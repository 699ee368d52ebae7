/* SPDX-License-Identifier: Apache-2.0 */
/* All counters there are: names after memory.md section 9, as far as something counts them. */
#include "lib/bits.h"
#include "mm/chunk_map.h"
#include "mm/counters.h"
#include "mm/frame.h"
#include "monitor/command/stats.h"
#include "vm/machine.h"

#define ROW(source, type, member, path, unit, description)                                                             \
	{                                                                                                              \
		source, offsetof(type, member), path, unit, description                                                \
	}
#define TOTALS(member, ...) ROW(STATS_TOTALS, struct frame_totals, member, __VA_ARGS__)
#define MM(member, ...) ROW(STATS_MM, struct mm_counters, member, __VA_ARGS__)
#define MAP(member, ...) ROW(STATS_MAP, struct chunk_map_totals, member, __VA_ARGS__)
#define USAGE(member, ...) ROW(STATS_USAGE, struct pgm_usage, member, __VA_ARGS__)
#define PGM(member, ...) ROW(STATS_PGM, struct pgm_counters, member, __VA_ARGS__)
#define ACCOUNT(member, ...) ROW(STATS_ACCOUNT, struct account, member, __VA_ARGS__)
#define MACHINE(member, ...) ROW(STATS_MACHINE, struct machine, member, __VA_ARGS__)
#define VCPU(member, ...) ROW(STATS_VCPU, struct vcpu, member, __VA_ARGS__)
#define CAUSE(cause_of, path, description)                                                                             \
	VCPU(counters.cause[cause_of], "Fault/Time/" path, "count", description),                                      \
		VCPU(counters.cause_ticks[cause_of], "Fault/Time/" path "/Cycles", "ticks", "spent on them")
#define ERROR(kind, path, description) VCPU(counters.error[kind], "Fault/Err/User/" path, "count", description)
#define EXIT(kind, path, description)                                                                                  \
	{                                                                                                              \
		STATS_EXIT, (kind) * sizeof(uint64_t), path, "count", description                                      \
	}

_Static_assert(sizeof(((struct vcpu *)0)->exits[0]) == sizeof(uint64_t), "rows of exits are found by number");
_Static_assert(sizeof(((struct account *)0)->reserved[0]) == sizeof(uint64_t), "counters are 64 bits wide");
_Static_assert(sizeof(struct mm_counters) % sizeof(uint64_t) == 0, "counters are 64 bits wide");
_Static_assert(sizeof(struct pgm_counters) % sizeof(uint64_t) == 0, "counters are 64 bits wide");
_Static_assert(sizeof(struct frame_totals) % sizeof(uint64_t) == 0, "counters are 64 bits wide");

const struct stats_row stats_rows[] = {
	TOTALS(pages, "/GMM/cPages", "pages", "host memory that mm owns"),
	TOTALS(free_pages, "/GMM/cFreePages", "pages", "of these, free"),
	TOTALS(private_pages, "/GMM/cPrivatePages", "pages", "held by one machine"),
	TOTALS(shared_pages, "/GMM/cSharedPages", "pages", "shared, copy on write"),
	TOTALS(table_pages, "/GMM/cTablePages", "pages", "second-level tables and page records"),
	TOTALS(kernel_pages, "/GMM/cKernelPages", "pages", "the hypervisor's own"),
	TOTALS(reserved_pages, "/GMM/cReservedPages", "pages", "promised to machines"),
	TOTALS(chunks, "/GMM/cChunks", "chunks", "2 MiB chunks in all"),
	TOTALS(free_chunks, "/GMM/cFreeChunks", "chunks", "wholly free"),
	TOTALS(zero_chunks, "/GMM/cZeroChunks", "chunks", "of the free ones, cleared already"),
	TOTALS(large_chunks, "/GMM/cLargeChunks", "chunks", "behind large pages"),
	TOTALS(split_chunks, "/GMM/cSplitChunks", "chunks", "cut into frames"),
	TOTALS(kernel_chunks, "/GMM/cKernelChunks", "chunks", "of the hypervisor's own"),
	TOTALS(partial_chunks, "/GMM/cPartialChunks", "chunks", "with frames missing"),
	TOTALS(record_bytes, "/GMM/cbRecords", "bytes", "chunk and frame records"),
	MM(chunks_split, "/GMM/ChunksSplit", "count", "free chunks cut into frames"),
	MM(chunks_returned, "/GMM/ChunksReturned", "count", "chunks that came whole again"),
	MM(blocks_given, "/GMM/BlocksGiven", "count", "whole chunks given to large pages"),
	MM(blocks_split, "/GMM/BlocksSplit", "count", "of these, cut into pages later"),
	MM(blocks_refused, "/GMM/BlocksRefused", "count", "no whole chunk was free"),
	MM(frames_refused, "/GMM/FramesRefused", "count", "no frame was free"),
	MM(frames_mixed, "/GMM/FramesMixed", "count", "frames taken out of another machine's chunk"),
	MM(frames_cleared, "/GMM/FramesCleared", "count", "frames cleared when handed out"),
	MM(frames_prezeroed, "/GMM/FramesPrezeroed", "count", "frames cleared by idle CPUs"),
	MM(gather_flushes, "/GMM/GatherFlushes", "count", "flushes before memory was given back"),
	MM(gather_late, "/GMM/GatherLate", "count", "flushes that had to be asked for again"),
	MM(gather_frees, "/GMM/GatherFrees", "count", "frames and chunks given back after a flush"),
	MM(direct_entered, "/GMM/DirectEntered", "count", "mapping = secret-free: chunks that became the kernel's"),
	MM(direct_left, "/GMM/DirectLeft", "count", "chunks that ceased to be: each is flushed from all CPUs"),
	MM(admissions, "/GMM/Admissions", "count", "machines admitted"),
	MM(refusals, "/GMM/Refusals", "count", "machines refused for want of memory"),

	MAP(mapped, "/PGM/ChunkMap/c", "chunks", "guests' chunks mapped in the hypervisor now (mapping = secret-free)"),
	MAP(most, "/PGM/ChunkMap/cMax", "chunks", "the most that may be"),
	MAP(maps, "/PGM/ChunkMap/Mapped", "count", "chunks mapped so far"),
	MAP(unmaps, "/PGM/ChunkMap/Unmapped", "count", "chunks unmapped so far"),
	MAP(hits, "/PGM/ChunkMap/TlbHits", "count", "found in the chunk's own slot"),
	MAP(misses, "/PGM/ChunkMap/TlbMisses", "count", "not found there"),
	MAP(finds, "/PGM/ChunkMap/Find", "count", "of these, mapped already"),
	MAP(aging, "/PGM/ChunkMap/Aging", "count", "chunks in use that were spared when room was made"),
	MAP(map_ticks, "/PGM/ChunkMap/Map", "ticks", "time stamp counter, spent on mapping"),
	MAP(unmap_ticks, "/PGM/ChunkMap/Unmap", "ticks", "time stamp counter, spent on unmapping"),

	USAGE(ram_pages, "/PGM/Page/cAllPages", "pages", "RAM of the machine"),
	USAGE(private_pages, "/PGM/Page/cPrivatePages", "pages", "RAM with a frame of its own"),
	USAGE(zero_pages, "/PGM/Page/cZeroPages", "pages", "RAM that reads as zero and holds nothing"),
	USAGE(shared_pages, "/PGM/Page/cSharedPages", "pages", "RAM shared with other pages"),
	USAGE(ballooned_pages, "/PGM/Page/cBalloonedPages", "pages", "RAM given back by the guest"),
	USAGE(handy_pages, "/PGM/Page/cHandyPages", "pages", "frames kept ready for faults"),
	USAGE(large_blocks, "/PGM/Page/cLargePages", "blocks", "2 MiB large pages"),
	USAGE(detailed_blocks, "/PGM/Page/cDetailedBlocks", "blocks", "2 MiB blocks with page records"),
	USAGE(rom_pages, "/PGM/Page/cRomPages", "pages", "ROM"),
	USAGE(mmio_pages, "/PGM/Page/cPureMmioPages", "pages", "answered by a device, no memory behind"),
	USAGE(monitored_pages, "/PGM/Page/cMonitoredPages", "pages", "write-protected until the next write"),
	USAGE(written_pages, "/PGM/Page/cWrittenToPages", "pages", "marked as written to in their record"),
	USAGE(write_locked_pages, "/PGM/Page/cWriteLockedPages", "pages", "pinned for writing, once per owner"),
	USAGE(read_locked_pages, "/PGM/Page/cReadLockedPages", "pages", "pinned for reading, once per owner"),
	USAGE(large_disabled, "/PGM/Page/cLargePagesDisabled", "blocks",
	      "full, but kept in pages by a handler or a pin"),
	USAGE(table_pages, "/PGM/Page/cTablePages", "pages", "second-level tables"),
	USAGE(record_bytes, "/PGM/Page/cbRecords", "bytes", "page records and block descriptors"),
	PGM(handy_allocs, "/PGM/Page/HandyAllocs", "count", "pages allocated out of the reserve"),
	PGM(handy_refills, "/PGM/Page/HandyRefills", "count", "refills of the reserve"),
	PGM(zero_mapped, "/PGM/Page/ZeroMapped", "count", "mappings of the zero page"),
	PGM(allocated, "/PGM/Page/ReplacedZero", "count", "zero pages that got a frame of their own"),
	PGM(large_alloc, "/PGM/LargePage/Alloc", "count", "large pages allocated"),
	PGM(large_collapsed, "/PGM/LargePage/Alloc2", "count", "blocks copied into a large page in the background"),
	PGM(large_reused, "/PGM/LargePage/Reused", "count", "split blocks joined again without copying"),
	PGM(large_setup, "/PGM/LargePage/Setup", "count", "2 MiB leaves written for large pages"),
	PGM(large_valid, "/PGM/LargePage/IsValid", "count", "faults that found the large page's leaf there already"),
	PGM(large_overflow, "/PGM/LargePage/Overflow", "count", "collapses given up: the guest kept writing"),
	PGM(large_flush, "/PGM/LargePage/TlbFlush", "count", "flushes on behalf of a collapse"),
	PGM(large_zero_evict, "/PGM/LargePage/ZeroEvict", "count", "read-only leaves of zeros replaced"),
	PGM(large_refused, "/PGM/LargePage/Refused", "count", "full blocks not fit: handler, monitor, share, pin"),
	PGM(large_recheck, "/PGM/LargePage/Recheck", "count", "full blocks looked at by the worker"),
	PGM(huge_mapped, "/PGM/LargePage/Huge", "count", "1 GiB leaves written"),
	PGM(large_alloc_failed, "/PGM/LargePage/AllocFailed", "count", "no whole chunk was free"),
	PGM(split, "/PGM/LargePage/Split", "count", "large pages split into pages"),
	PGM(detailed, "/PGM/LargePage/Detailed", "count", "blocks that got page records"),
	PGM(reads, "/PGM/Phys/Read", "count", "physical reads by devices and emulation"),
	PGM(read_bytes, "/PGM/Phys/Read/Bytes", "bytes", "read by them"),
	PGM(writes, "/PGM/Phys/Write", "count", "physical writes by devices and emulation"),
	PGM(write_bytes, "/PGM/Phys/Write/Bytes", "bytes", "written by them"),
	PGM(simple_reads, "/PGM/Phys/Simple/Read", "count", "physical reads past all handlers"),
	PGM(simple_read_bytes, "/PGM/Phys/Simple/Read/Bytes", "bytes", "read by them"),
	PGM(simple_writes, "/PGM/Phys/Simple/Write", "count", "physical writes past all handlers"),
	PGM(simple_write_bytes, "/PGM/Phys/Simple/Write/Bytes", "bytes", "written by them"),
	PGM(mmio2_queries, "/PGM/Mmio2QueryAndResetDirtyBitmap", "count", "dirty bitmaps of device memory read"),
	PGM(handler_hits, "/PGM/PhysHandler/LookupHits", "count", "handlers found at the first try"),
	PGM(handler_misses, "/PGM/PhysHandler/LookupMisses", "count", "handlers looked up in the table"),
	PGM(handler_resets, "/PGM/PhysHandler/Reset", "count", "handlers armed again"),
	PGM(handler_inserts, "/PGM/PhysHandlerTree/Inserts", "count", "handlers put into the table"),
	PGM(handler_removals, "/PGM/PhysHandlerTree/Removals", "count", "handlers taken out"),
	PGM(handler_max, "/PGM/PhysHandlerTree/MaxHandlers", "count", "most handlers at a time"),
	PGM(handler_rebalances, "/PGM/PhysHandlerTree/RebalancingOperations", "count",
	    "words of the table's order moved"),
	PGM(handler_alloc_errors, "/PGM/PhysHandlerTree/ErrorsAllocator", "count", "no room was left for one"),
	PGM(misconfig_marks, "/PGM/MmioMarks", "count", "entries made that stand for MMIO"),
	PGM(tables_dropped, "/PGM/Tables/Dropped", "count", "times that all translations were thrown away"),
	ACCOUNT(reserved[ACCOUNT_BASE], "/GMM/Base/cReserved", "pages", "reserved for RAM and ROM"),
	ACCOUNT(allocated[ACCOUNT_BASE], "/GMM/Base/cAllocated", "pages", "of these, allocated"),
	ACCOUNT(reserved[ACCOUNT_TABLE], "/GMM/Table/cReserved", "pages", "reserved for tables and records"),
	ACCOUNT(allocated[ACCOUNT_TABLE], "/GMM/Table/cAllocated", "pages", "of these, allocated"),
	ACCOUNT(reserved[ACCOUNT_FIXED], "/GMM/Fixed/cReserved", "pages", "reserved for device memory"),
	ACCOUNT(allocated[ACCOUNT_FIXED], "/GMM/Fixed/cAllocated", "pages", "of these, allocated"),
	ACCOUNT(ballooned, "/GMM/cBallooned", "pages", "given back through the balloon"),
	MACHINE(starts, "/VM/Starts", "count", "starts of this machine"),
	MACHINE(bus.ticks_made_up, "/TM/Ticks/MadeUp", "count",
		"periodic interrupts that came late, one after the other"),
	MACHINE(bus.ticks_lost, "/TM/Ticks/Lost", "count", "of those too many to be made up for"),

	VCPU(guest_mode_changes, "cGuestModeChanges", "count", "changes of the paging mode"),
	VCPU(a20_changes, "cA20Changes", "count", "openings and closings of the A20 gate"),
	VCPU(counters.misconfig, "NpMiscfg", "count", "exits by entries that stand for MMIO"),
	VCPU(counters.rom_write_handled, "RomWriteHandled", "count", "writes to ROM that went to its RAM copy"),
	VCPU(counters.rom_write_unhandled, "RomWriteUnhandled", "count", "writes to ROM that were ignored"),
	VCPU(counters.faults, "Fault", "count", "second-level faults"),
	VCPU(counters.resumed, "Fault/Resumed", "count", "settled in the tables"),
	VCPU(counters.emulated, "Fault/Emulated", "count", "handed to the emulator"),
	VCPU(counters.spurious, "Fault/Spurious", "count", "the entry was right already"),
	VCPU(counters.no_memory, "Fault/NoMemory", "count", "no frame or table to be had"),
	VCPU(counters.around, "Fault/Around", "pages", "neighbours mapped along"),
	CAUSE(FAULT_BALLOONED, "Ballooned", "a page given back was touched"),
	CAUSE(FAULT_PAGE_ZEROING, "PageZeroing", "first writes: a frame or chunk of zeros"),
	CAUSE(FAULT_MAKE_WRITABLE, "MakeWritable", "writes that a log's protection caught"),
	CAUSE(FAULT_HANDLER, "HandlerPhysical", "on devices and pages that a handler watches"),
	CAUSE(FAULT_UNHANDLED, "HandlerUnhandled", "writes to ROM"),
	CAUSE(FAULT_SYNC, "SyncPT", "entries made after the record"),
	CAUSE(FAULT_MISC, "Misc", "found right already, or out of memory"),
	VCPU(counters.invalid_phys, "Fault/Time/InvalidPhys", "count", "emulated accesses to where nothing is"),
	VCPU(counters.handlers_all, "Fault/Handlers/PhysAll", "count", "on pages watched for every access"),
	VCPU(counters.handlers_write, "Fault/Handlers/PhysWrite", "count", "writes on pages watched for writes"),
	VCPU(counters.handlers_unhandled, "Fault/Handlers/Unhandled", "count", "emulated accesses without a handler"),
	ERROR(FAULT_ABSENT_READ, "NPRead", "reads and fetches without an entry"),
	ERROR(FAULT_ABSENT_WRITE, "NPWrite", "writes without an entry"),
	ERROR(FAULT_WRITE, "Write", "writes by a read-only entry"),
	ERROR(FAULT_EXECUTE, "NXE", "fetches by an entry without execution"),
	ERROR(FAULT_READ, "Read", "reads by an entry without reading"),
	VCPU(counters.misconfig, "Fault/Err/User/Reserved", "count", "entries with reserved bits: marks of MMIO"),
	VCPU(run_ticks, "RunTicks", "ticks", "time-stamp ticks that it ran"),
	VCPU(runs, "Runs", "count", "slices that it ran"),
	VCPU(quick_accesses, "QuickAccesses", "count", "accesses to devices finished without the emulator"),
	VCPU(decoded.hits, "Decode/Hits", "count", "instructions that had been decoded before"),
	VCPU(decoded.misses, "Decode/Misses", "count", "instructions decoded"),

	EXIT(EXIT_NOTHING, "nothing", "settled in the backend"),
	EXIT(EXIT_HOST_INTERRUPT, "host-interrupt", "interrupt or NMI of the host"),
	EXIT(EXIT_SLICE, "slice", "time slice over"),
	EXIT(EXIT_HLT, "hlt", "HLT"),
	EXIT(EXIT_PAUSE, "pause", "PAUSE in a loop"),
	EXIT(EXIT_CPUID, "cpuid", "CPUID"),
	EXIT(EXIT_IO, "io", "port access"),
	EXIT(EXIT_MSR_READ, "msr-read", "RDMSR"),
	EXIT(EXIT_MSR_WRITE, "msr-write", "WRMSR"),
	EXIT(EXIT_CR_ACCESS, "cr-access", "control register"),
	EXIT(EXIT_DR_ACCESS, "dr-access", "debug register"),
	EXIT(EXIT_XSETBV, "xsetbv", "XSETBV"),
	EXIT(EXIT_CACHE, "cache", "INVD, WBINVD"),
	EXIT(EXIT_INVLPG, "invlpg", "INVLPG"),
	EXIT(EXIT_RDTSC, "rdtsc", "RDTSC"),
	EXIT(EXIT_RDTSCP, "rdtscp", "RDTSCP"),
	EXIT(EXIT_HYPERCALL, "hypercall", "VMCALL, VMMCALL"),
	EXIT(EXIT_UNDEFINED, "undefined", "instruction that this guest must not have"),
	EXIT(EXIT_NESTED, "nested", "instruction of the virtualisation extension"),
	EXIT(EXIT_SLAT_FAULT, "slat-fault", "second-level fault"),
	EXIT(EXIT_SLAT_MISCONFIG, "slat-misconfig", "second-level entry marked for emulation"),
	EXIT(EXIT_DIRTY_FULL, "dirty-full", "full list of written pages"),
	EXIT(EXIT_EXCEPTION, "exception", "intercepted exception"),
	EXIT(EXIT_INTERRUPT_WINDOW, "interrupt-window", "guest can take an interrupt"),
	EXIT(EXIT_NMI_WINDOW, "nmi-window", "guest can take an NMI"),
	EXIT(EXIT_TRIPLE_FAULT, "triple-fault", "triple fault"),
	EXIT(EXIT_INIT, "init", "INIT"),
	EXIT(EXIT_SIPI, "sipi", "start-up IPI"),
	EXIT(EXIT_TASK_SWITCH, "task-switch", "hardware task switch"),
	EXIT(EXIT_INVALID_STATE, "invalid-state", "state that the processor refused"),
	EXIT(EXIT_UNKNOWN, "unknown", "reason that nobody asked for"),
};

const unsigned stats_row_count = ARRAY_SIZE(stats_rows);
