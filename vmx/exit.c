/* SPDX-License-Identifier: Apache-2.0 */
/* See exit.h. Formats of the qualification: Intel SDM vol. 3 section 28.2.1, tables 28-3 to 28-7. */
#include "vmx/exit.h"

#include "vmx/convert.h"

#define DEBUG_CONDITIONS (DR6_BREAKPOINTS | DR6_GENERAL_DETECT | DR6_SINGLE_STEP)

static void decode_event(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	struct hv_event event = vmx_event_from_word(raw->event, raw->event_error, 0);

	if (event.kind == EVENT_NMI) {
		exit->kind = EXIT_HOST_INTERRUPT;
		return;
	}
	exit->length = event.soft ? (uint8_t)raw->length : 0;
	exit->exception.vector = event.vector;
	exit->exception.has_error_code = event.has_error_code;
	exit->exception.error_code = event.error_code;
	/* Of a #DB: bits of DR6 as they are there, but for those that DR6 has inverted (table 28-4). */
	exit->exception.detail = event.vector == VECTOR_DB ? raw->qualification & DEBUG_CONDITIONS : raw->qualification;
}

static void decode_sipi(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	exit->sipi_vector = (uint8_t)raw->qualification;
}

static void decode_io(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	uint64_t q = raw->qualification;

	exit->io.port = (uint16_t)(q >> 16);
	exit->io.size = (uint8_t)((q & IO_SIZE) + 1);
	exit->io.in = q & IO_IN;
	exit->io.string = q & IO_STRING;
	exit->io.rep = q & IO_REP;
}

static void decode_task(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	exit->task.selector = (uint16_t)raw->qualification;
	exit->task.source = (uint8_t)(raw->qualification >> 30 & 3);
}

enum cr_access { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };

static void decode_cr(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	uint64_t q = raw->qualification;
	enum cr_access access = (q >> 4) & 3;

	exit->cr.number = q & 0xf;
	exit->cr.gpr = (q >> 8) & 0xf;
	exit->cr.write = access != CR_MOV_FROM;
	exit->cr.clts = access == CR_CLTS;
	exit->cr.lmsw = access == CR_LMSW;
	exit->cr.lmsw_source = access == CR_LMSW ? (uint16_t)(q >> 16) : 0;
	exit->cr.decoded = true;
}

static void decode_dr(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	uint64_t q = raw->qualification;

	exit->dr.number = q & 7;
	exit->dr.gpr = (q >> 8) & 0xf;
	exit->dr.write = !(q & BIT(4));
	exit->dr.decoded = true;
}

static void decode_violation(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	vmx_exit_violation(exit, raw->qualification, raw->gpa, raw->gva);
}

static void decode_misconfig(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	vmx_exit_misconfig(exit, raw->gpa);
}

static void decode_other(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	exit->failure.code = raw->qualification;
	exit->failure.text = NULL;
	if (!(raw->reason & REASON_ENTRY_FAILED))
		return;
	if ((raw->reason & 0xffff) == REASON_MACHINE_CHECK) {
		exit->kind = EXIT_EXCEPTION; /* section 27.9: it is not delivered; the entry can be tried again */
		exit->exception.vector = VECTOR_MC;
		return;
	}
	exit->kind = EXIT_INVALID_STATE;
	exit->failure.text = vmx_entry_failure_text(raw->reason, raw->qualification);
}

/* Most that a guest must not have: it hasn't been told of them by CPUID, so each is #UD. */
#define RULE(kind, needs, decode)                                                                                      \
	{                                                                                                              \
		kind, needs, decode                                                                                    \
	}
#define UNDEFINED RULE(EXIT_UNDEFINED, NEED_LENGTH, NULL)
#define NESTED RULE(EXIT_NESTED, NEED_LENGTH, NULL)
#define UNKNOWN RULE(EXIT_UNKNOWN, NEED_QUALIFICATION | NEED_VECTORING, decode_other)

const struct vmx_exit_rule vmx_exit_rule_other = UNKNOWN;

const struct vmx_exit_rule vmx_exit_rules[REASON_COUNT] = {
	[REASON_EXCEPTION_OR_NMI] = { EXIT_EXCEPTION, NEED_EVENT | NEED_LENGTH | NEED_QUALIFICATION | NEED_VECTORING,
				      decode_event },
	[REASON_EXTERNAL_INTERRUPT] = { EXIT_HOST_INTERRUPT, NEED_VECTORING, NULL },
	[REASON_TRIPLE_FAULT] = { EXIT_TRIPLE_FAULT, NEED_VECTORING, NULL },
	[REASON_INIT] = { EXIT_INIT, NEED_VECTORING, NULL },
	[REASON_SIPI] = { EXIT_SIPI, NEED_QUALIFICATION | NEED_VECTORING, decode_sipi },
	[5 ... 6] = UNKNOWN,
	[REASON_INTERRUPT_WINDOW] = { EXIT_INTERRUPT_WINDOW, NEED_VECTORING, NULL },
	[REASON_NMI_WINDOW] = { EXIT_NMI_WINDOW, NEED_VECTORING, NULL },
	[REASON_TASK_SWITCH] = { EXIT_TASK_SWITCH, NEED_LENGTH | NEED_QUALIFICATION | NEED_VECTORING, decode_task },
	[REASON_CPUID] = { EXIT_CPUID, NEED_LENGTH, NULL },
	[REASON_GETSEC] = UNDEFINED,
	[REASON_HLT] = { EXIT_HLT, NEED_LENGTH, NULL },
	[REASON_INVD] = { EXIT_CACHE, NEED_LENGTH, NULL },
	[REASON_INVLPG] = { EXIT_INVLPG, NEED_LENGTH, NULL },
	[REASON_RDPMC] = { EXIT_NOTHING, NEED_LENGTH | NEED_VECTORING, NULL },
	[REASON_RDTSC] = { EXIT_RDTSC, NEED_LENGTH, NULL },
	[REASON_RSM] = UNDEFINED,
	[REASON_VMCALL] = { EXIT_HYPERCALL, NEED_LENGTH, NULL },
	[REASON_VMCLEAR... REASON_VMXON] = NESTED,
	[REASON_CR_ACCESS] = { EXIT_CR_ACCESS, NEED_LENGTH | NEED_QUALIFICATION, decode_cr },
	[REASON_DR_ACCESS] = { EXIT_DR_ACCESS, NEED_LENGTH | NEED_QUALIFICATION, decode_dr },
	[REASON_IO] = { EXIT_IO, NEED_LENGTH | NEED_QUALIFICATION, decode_io },
	[REASON_RDMSR] = { EXIT_MSR_READ, NEED_LENGTH, NULL },
	[REASON_WRMSR] = { EXIT_MSR_WRITE, NEED_LENGTH, NULL },
	[REASON_INVALID_GUEST_STATE... 35] = UNKNOWN,
	[REASON_MWAIT] = UNDEFINED,
	[37 ... 38] = UNKNOWN,
	[REASON_MONITOR] = UNDEFINED,
	[REASON_PAUSE] = { EXIT_PAUSE, NEED_LENGTH, NULL },
	[REASON_MACHINE_CHECK... 45] = UNKNOWN,
	[REASON_DESCRIPTOR_TABLE... REASON_LOCAL_TABLE] =
		UNDEFINED, /* these and RDRAND, RDSEED: asked for by an L1 alone */
	[REASON_EPT_VIOLATION] = { EXIT_SLAT_FAULT, NEED_QUALIFICATION | NEED_VECTORING | NEED_GPA, decode_violation },
	[REASON_EPT_MISCONFIG] = { EXIT_SLAT_MISCONFIG, NEED_VECTORING | NEED_GPA, decode_misconfig },
	[REASON_INVEPT] = NESTED,
	[REASON_RDTSCP] = { EXIT_RDTSCP, NEED_LENGTH, NULL },
	[REASON_PREEMPTION_TIMER] = { EXIT_SLICE, NEED_VECTORING, NULL },
	[REASON_INVVPID] = NESTED,
	[REASON_WBINVD] = { EXIT_CACHE, NEED_LENGTH, NULL },
	[REASON_XSETBV] = { EXIT_XSETBV, NEED_LENGTH, NULL },
	[56] = UNKNOWN,
	[REASON_RDRAND... REASON_RDSEED] = UNDEFINED,
	[REASON_PML_FULL] = { EXIT_DIRTY_FULL, NEED_QUALIFICATION | NEED_VECTORING, NULL },
	[REASON_XSAVES... REASON_XRSTORS] = UNDEFINED,
};

void vmx_exit_decode(const struct vmx_raw_exit *raw, struct hv_exit *exit)
{
	const struct vmx_exit_rule *rule = vmx_exit_rule(raw->reason);

	exit->kind = rule->kind;
	exit->raw_reason = raw->reason & 0xffff;
	exit->length = rule->needs & NEED_LENGTH ? (uint8_t)raw->length : 0;
	exit->interrupted.kind = EVENT_NONE;
	if ((rule->needs & NEED_VECTORING) && (raw->vectoring & EVENT_VALID))
		exit->interrupted = vmx_event_from_word(raw->vectoring, raw->vectoring_error, raw->length);
	if (rule->decode)
		rule->decode(raw, exit);
}

bool vmx_exit_undoes_iret(const struct vmx_raw_exit *raw, const struct hv_exit *exit)
{
	if (exit->interrupted.kind != EVENT_NONE)
		return false; /* the bit isn't defined then */
	if (raw->reason == REASON_EPT_VIOLATION || raw->reason == REASON_PML_FULL)
		return raw->qualification & VIOLATION_NMI_UNBLOCKED;
	return raw->reason == REASON_EXCEPTION_OR_NMI && EVENT_TYPE(raw->event) == EVENT_TYPE_HARDWARE_EXCEPTION &&
	       EVENT_VECTOR(raw->event) != VECTOR_DF && (raw->event & EVENT_NMI_UNBLOCKED);
}

bool vmx_exit_reflects(const struct vmx_raw_exit *raw, struct hv_event *event)
{
	if (raw->reason == REASON_RDPMC) {
		*event = hv_exception(VECTOR_GP, true, 0);
		return true;
	}
	if (raw->reason != REASON_EXCEPTION_OR_NMI || EVENT_TYPE(raw->event) != EVENT_TYPE_PRIVILEGED_SOFT_EXCEPTION)
		return false;
	*event = vmx_event_from_word(raw->event, raw->event_error, raw->length);
	return true;
}
