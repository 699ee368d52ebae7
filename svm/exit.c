/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the VMCB's exit code and information to the neutral exit. Pure: reads the VMCB, writes struct hv_exit.
 *
 * The kind comes out of a table; only the few that carry more have code. Every field is read as the processor
 * gives it and nothing is trusted to be there without its feature: without next-RIP saving length stays 0, without
 * decode assists CR and DR accesses say so. AMD APM vol. 2 section 15.9 ff., 15.25.6, 15.33, appendix C.
 */
#include "svm/svm.h"

#include "arch/x86_64/registers.h"
#include "svm/codes.h"

/* How the rest of the exit is filled. */
enum detail { UNWANTED, PLAIN, FAULT, INSTRUCTION, CR_ACCESS, DR_ACCESS, EXCEPTION, IO, MSR, TASK };

struct meaning {
	uint8_t kind;   /* enum hv_exit_kind */
	uint8_t detail; /* enum detail */
};

/* The dense part of the code space. What has no row is UNWANTED: it was never asked for. */
static const struct meaning meanings[SVM_EXIT_LOW_END] = {
	[SVM_EXIT_CR_READ... SVM_EXIT_CR_WRITE + 15] = { EXIT_CR_ACCESS, CR_ACCESS },
	[SVM_EXIT_DR_READ... SVM_EXIT_DR_WRITE + 15] = { EXIT_DR_ACCESS, DR_ACCESS },
	[SVM_EXIT_EXCEPTION... SVM_EXIT_EXCEPTION + 31] = { EXIT_EXCEPTION, EXCEPTION },
	[SVM_EXIT_INTR] = { EXIT_HOST_INTERRUPT, PLAIN },
	[SVM_EXIT_NMI] = { EXIT_HOST_INTERRUPT, PLAIN },
	[SVM_EXIT_SMI] = { EXIT_HOST_INTERRUPT, PLAIN },
	[SVM_EXIT_INIT] = { EXIT_HOST_INTERRUPT, PLAIN }, /* the physical one: it stays pending for the host */
	[SVM_EXIT_VINTR] = { EXIT_INTERRUPT_WINDOW, PLAIN },
	[SVM_EXIT_CR0_SELECTIVE] = { EXIT_CR_ACCESS, CR_ACCESS },
	[SVM_EXIT_RDTSC] = { EXIT_RDTSC, INSTRUCTION },
	[SVM_EXIT_RDPMC] = { EXIT_EXCEPTION, FAULT }, /* a guest has no counters: every number is wrong */
	[SVM_EXIT_CPUID] = { EXIT_CPUID, INSTRUCTION },
	[SVM_EXIT_RSM] = { EXIT_UNDEFINED, INSTRUCTION },
	[SVM_EXIT_IRET] = { EXIT_NOTHING, PLAIN },
	[SVM_EXIT_INVD] = { EXIT_CACHE, INSTRUCTION },
	[SVM_EXIT_PAUSE] = { EXIT_PAUSE, INSTRUCTION },
	[SVM_EXIT_HLT] = { EXIT_HLT, INSTRUCTION },
	[SVM_EXIT_INVLPG] = { EXIT_INVLPG, INSTRUCTION },
	[SVM_EXIT_INVLPGA] = { EXIT_NESTED, INSTRUCTION },
	[SVM_EXIT_IOIO] = { EXIT_IO, IO },
	[SVM_EXIT_MSR] = { EXIT_MSR_READ, MSR },
	[SVM_EXIT_TASK_SWITCH] = { EXIT_TASK_SWITCH, TASK },
	[SVM_EXIT_SHUTDOWN] = { EXIT_TRIPLE_FAULT, PLAIN },
	[SVM_EXIT_VMRUN] = { EXIT_NESTED, INSTRUCTION },
	[SVM_EXIT_VMMCALL] = { EXIT_HYPERCALL, INSTRUCTION },
	[SVM_EXIT_VMLOAD... SVM_EXIT_SKINIT] = { EXIT_NESTED, INSTRUCTION },
	[SVM_EXIT_RDTSCP] = { EXIT_RDTSCP, INSTRUCTION },
	[SVM_EXIT_WBINVD] = { EXIT_CACHE, INSTRUCTION },
	[SVM_EXIT_MONITOR... SVM_EXIT_MWAIT_ARMED] = { EXIT_UNDEFINED, INSTRUCTION },
	[SVM_EXIT_XSETBV] = { EXIT_XSETBV, INSTRUCTION },
	[SVM_EXIT_RDPRU] = { EXIT_UNDEFINED, INSTRUCTION },
	[SVM_EXIT_INVLPGB] = { EXIT_UNDEFINED, INSTRUCTION },
	[SVM_EXIT_MCOMMIT... SVM_EXIT_TLBSYNC] = { EXIT_UNDEFINED, INSTRUCTION },
};

/* Exceptions that push an error code: APM vol. 2 table 8-1. */
#define WITH_ERROR_CODE                                                                                                \
	(BIT(VECTOR_DF) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) | BIT(VECTOR_GP) | BIT(VECTOR_PF) |         \
	 BIT(VECTOR_AC) | BIT(VECTOR_CP))

static void decode_cr(const struct vmcb_control *control, const struct svm_features *features, struct hv_exit *exit)
{
	uint64_t info = control->exit_info1;

	exit->cr.number = control->exit_code == SVM_EXIT_CR0_SELECTIVE ? 0 : control->exit_code & 15u;
	exit->cr.write = control->exit_code >= SVM_EXIT_CR_WRITE;
	exit->cr.clts = exit->cr.lmsw = false;
	exit->cr.lmsw_source = 0;
	/* CLTS, LMSW and SMSW come without help. */
	exit->cr.decoded = features->decode_assists && (info & CR_INFO_MOV);
	exit->cr.gpr = exit->cr.decoded ? (uint8_t)(info & CR_INFO_GPR) : 0;
}

static void decode_dr(const struct vmcb_control *control, const struct svm_features *features, struct hv_exit *exit)
{
	exit->dr.number = control->exit_code & 15u;
	exit->dr.write = control->exit_code >= SVM_EXIT_DR_WRITE;
	exit->dr.decoded = features->decode_assists;
	exit->dr.gpr = exit->dr.decoded ? (uint8_t)(control->exit_info1 & CR_INFO_GPR) : 0;
}

/* The length of the instruction that asks for it, if one does, isn't told. */
static void decode_task(const struct vmcb_control *control, struct hv_exit *exit)
{
	exit->length = 0;
	exit->task.selector = (uint16_t)control->exit_info1;
	exit->task.source = control->exit_info2 & TASK_INFO_IRET          ? TASK_IRET
			    : control->exit_info2 & TASK_INFO_JUMP        ? TASK_JMP
			    : control->exit_interrupt_info & INJECT_VALID ? TASK_GATE
									  : TASK_CALL;
}

static void decode_exception(const struct vmcb *vmcb, struct hv_exit *exit)
{
	unsigned vector = vmcb->control.exit_code & 31u;

	exit->exception.vector = (uint8_t)vector;
	exit->exception.has_error_code = WITH_ERROR_CODE & BIT(vector);
	exit->exception.error_code = exit->exception.has_error_code ? (uint32_t)vmcb->control.exit_info1 : 0;
	exit->exception.detail = 0;
	if (vector == VECTOR_PF)
		exit->exception.detail = vmcb->control.exit_info2;
	else if (vector == VECTOR_DB)
		exit->exception.detail = vmcb->save.dr6; /* as the handler would see it: 15.12.2 */
}

static void decode_io(const struct vmcb *vmcb, struct hv_exit *exit)
{
	uint64_t info = vmcb->control.exit_info1;

	exit->io.port = (uint16_t)(info >> IOIO_PORT_SHIFT);
	exit->io.size = info >> IOIO_SIZE_SHIFT & 7u;
	exit->io.in = info & IOIO_IN;
	exit->io.string = info & IOIO_STRING;
	exit->io.rep = info & IOIO_REP;
	exit->length = instruction_length(vmcb->save.rip, vmcb->control.exit_info2);
}

static void decode_npf(const struct vmcb *vmcb, const struct svm_features *features, struct hv_exit *exit)
{
	const struct vmcb_control *control = &vmcb->control;
	uint64_t info = control->exit_info1;
	unsigned access = info & NPF_FETCH ? ACCESS_EXECUTE : info & NPF_WRITE ? ACCESS_WRITE : ACCESS_READ;

	exit->kind = info & NPF_RESERVED ? EXIT_SLAT_MISCONFIG : EXIT_SLAT_FAULT;
	exit->slat.gpa = gpa(control->exit_info2);
	exit->slat.gva = gva(0);
	exit->slat.gva_valid = false;
	exit->slat.guest_table = info & NPF_GUEST_TABLE;
	exit->slat.access = (uint8_t)access;
	/* Only "present" is told; that the tried access isn't among the rights follows from the fault. */
	exit->slat.rights = info & NPF_PRESENT ? (uint8_t)((ACCESS_READ | ACCESS_WRITE | ACCESS_EXECUTE) & ~access) : 0;
	if (features->decode_assists && control->fetched_count <= sizeof(control->fetched)) {
		exit->byte_count = control->fetched_count;
		for (unsigned i = 0; i < sizeof(control->fetched); i++)
			exit->bytes[i] = control->fetched[i];
	}
}

void svm_decode_exit(const struct vmcb *vmcb, const struct svm_features *features, struct hv_exit *exit)
{
	const struct vmcb_control *control = &vmcb->control;
	uint64_t code = control->exit_code;

	exit->raw_reason = code;
	exit->byte_count = 0;
	exit->length = 0;
	if (code == SVM_EXIT_NPF) {
		decode_npf(vmcb, features, exit);
		return;
	}

	struct meaning meaning = code < SVM_EXIT_LOW_END ? meanings[code] : (struct meaning){ EXIT_UNKNOWN, UNWANTED };

	exit->kind = meaning.kind;
	if (meaning.detail >= INSTRUCTION && meaning.detail != EXCEPTION && features->next_rip)
		exit->length = instruction_length(vmcb->save.rip, control->next_rip);
	switch ((enum detail)meaning.detail) {
	case PLAIN:
	case INSTRUCTION: break;
	case FAULT:
		exit->exception.vector = VECTOR_GP;
		exit->exception.has_error_code = true;
		exit->exception.error_code = 0;
		exit->exception.detail = 0;
		break;
	case UNWANTED: exit->kind = EXIT_UNKNOWN; break;
	case CR_ACCESS: decode_cr(control, features, exit); break;
	case DR_ACCESS: decode_dr(control, features, exit); break;
	case EXCEPTION: decode_exception(vmcb, exit); break;
	case TASK: decode_task(control, exit); break;
	case IO: decode_io(vmcb, exit); break;
	case MSR: exit->kind = control->exit_info1 & 1u ? EXIT_MSR_WRITE : EXIT_MSR_READ; break;
	}
}
