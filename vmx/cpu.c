/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMX of one CPU: can it, on, off. Intel SDM vol. 3 sections 24.6 to 24.8 and appendix A. The first CPU probed
 * settles the capability; every other must come to the same one, since a vcpu may run on any.
 */
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "lib/format.h"
#include "mm/map.h"
#include "vmx/instructions.h"
#include "vmx/quirks.h"
#include "vmx/vmx.h"

#define CPUID_1_ECX_VMX BIT(5)

struct vmx_capability vmx_capability;
struct vmx_cpu vmx_cpus[MAX_CPUS];

static struct spinlock probe_lock = SPINLOCK(RANK_LEAF, "vmx probe");
static bool probed;

const struct hv_ops vmx_ops = {
	.name = "VMX",
	.probe = vmx_probe,
	.enable_cpu = vmx_enable_cpu,
	.disable_cpu = vmx_disable_cpu,
	.create = vmx_create,
	.destroy = vmx_destroy,
	.reset = vmx_reset,
	.run = vmx_run,
	.unload = vmx_unload,
	.load = vmx_load,
	.code = vmx_code,
	.set_slat = vmx_set_slat,
	.pass_msr = vmx_pass_msr,
	.collect_written = vmx_collect_written,
	.nested = &vmx_nested_ops,
};

/* All fields are compile-time constants; no guest value chooses one. Told once a vcpu. */
void vmx_field_failed(enum vmcs_field field, const char *what)
{
	struct vmx_vcpu *v = vmx_cpus[cpu_index()].current;

	if (!v)
		panic("%s of VMCS field %#x failed: no VMCS is current", what, (unsigned)field);
	if (!v->missing)
		log_line(LOG_ERROR "%s of VMCS field %#x failed: this processor, or a hypervisor below, lacks it", what,
			 (unsigned)field);
	v->missing = VMX_MISSING | field;
	vmx_not_ready(v);
}

/* The high half of a control MSR: bits that may be 1. */
static bool may_be_1(uint64_t msr, uint64_t bit)
{
	return (msr >> 32) & bit;
}

/* An MSR is read only where those before it say that it exists. */
static void read_msrs(struct vmx_msrs *msrs)
{
	bool true_controls;

	*msrs = (struct vmx_msrs){ .cpuid_vmx = cpuid(1, 0).ecx & CPUID_1_ECX_VMX,
				   .signature = cpuid(1, 0).eax,
				   .arch_capabilities = features.capabilities_value };
	if (!msrs->cpuid_vmx)
		return;
	msrs->feature_control = rdmsr(MSR_FEATURE_CONTROL);
	msrs->basic = rdmsr(MSR_VMX_BASIC);
	true_controls = msrs->basic & BASIC_TRUE_CONTROLS;
	msrs->pin = rdmsr(true_controls ? MSR_VMX_TRUE_PIN : MSR_VMX_PIN);
	msrs->primary = rdmsr(true_controls ? MSR_VMX_TRUE_PRIMARY : MSR_VMX_PRIMARY);
	msrs->exit = rdmsr(true_controls ? MSR_VMX_TRUE_EXIT : MSR_VMX_EXIT);
	msrs->entry = rdmsr(true_controls ? MSR_VMX_TRUE_ENTRY : MSR_VMX_ENTRY);
	msrs->misc = rdmsr(MSR_VMX_MISC);
	msrs->cr0_fixed0 = rdmsr(MSR_VMX_CR0_FIXED0);
	msrs->cr0_fixed1 = rdmsr(MSR_VMX_CR0_FIXED1);
	msrs->cr4_fixed0 = rdmsr(MSR_VMX_CR4_FIXED0);
	msrs->cr4_fixed1 = rdmsr(MSR_VMX_CR4_FIXED1);
	if (may_be_1(msrs->primary, PRIMARY_SECONDARY))
		msrs->secondary = rdmsr(MSR_VMX_SECONDARY);
	if (may_be_1(msrs->secondary, SECONDARY_EPT) || may_be_1(msrs->secondary, SECONDARY_VPID))
		msrs->ept_vpid = rdmsr(MSR_VMX_EPT_VPID);
}

enum status vmx_probe(struct hv_caps *caps, struct hv_refusal *why)
{
	struct vmx_msrs msrs;
	struct vmx_capability found;

	read_msrs(&msrs);
	TRY(vmx_capability_parse(&msrs, &found, caps, why));
	HOLD(&probe_lock);
	if (!probed) {
		vmx_capability = found;
		nmi_detours = vmx_detours;
		probed = true;
	} else if (!vmx_capability_equal(&vmx_capability, &found)) {
		(void)format_string(why->text, sizeof(why->text),
				    "CPU %u offers other VMX features than the first one; a firmware update may help",
				    cpu_index());
		return CONFLICT;
	}
	return OK;
}

/* CR0 and CR4 must have certain bits in VMX operation, section 24.8. */
static enum status fix_control_registers(struct hv_refusal *why)
{
	uint64_t cr0 = read_cr0() | vmx_capability.cr0_fixed0;
	uint64_t cr4 = read_cr4() | vmx_capability.cr4_fixed0 | CR4_VMXE;

	if ((cr0 & ~vmx_capability.cr0_fixed1) || (cr4 & ~vmx_capability.cr4_fixed1))
		return EXPLAIN(NOT_SUPPORTED, why->text, sizeof(why->text),
			       "VMX forbids bits of CR0 or CR4 that the host uses: %lx, %lx",
			       (cr0 & ~vmx_capability.cr0_fixed1), (cr4 & ~vmx_capability.cr4_fixed1));
	write_cr0(cr0);
	write_cr4(cr4);
	if ((vmx_capability.cr4_fixed1 & CR4_PKE) && !quirk_kernel_keys(rdmsr(MSR_VMX_BASIC)))
		host_use_protection_keys();
	return OK;
}

enum status vmx_enable_cpu(struct hv_refusal *why)
{
	uint64_t feature_control = rdmsr(MSR_FEATURE_CONTROL);
	hpa_t region = host_vendor_page(cpu_index());

	if (!(feature_control & FEATURE_CONTROL_LOCK))
		wrmsr(MSR_FEATURE_CONTROL, feature_control | FEATURE_CONTROL_VMX | FEATURE_CONTROL_LOCK);
	TRY(fix_control_registers(why));
	*(uint32_t *)direct_pointer(region) = vmx_capability.revision;
	if (!vmxon(region)) {
		write_cr4(read_cr4() & ~CR4_VMXE);
		return EXPLAIN(BAD_STATE, why->text, sizeof(why->text), "VMXON failed on CPU %u", cpu_index());
	}
	vmx_cpus[cpu_index()] = (struct vmx_cpu){ .on = true };
	vmx_flush_everything();
	return OK;
}

/* In any context, even amid VMX instructions: nothing of this CPU's state is used again. */
void vmx_disable_cpu(void)
{
	struct vmx_cpu *cpu = &vmx_cpus[cpu_index()];

	if (!cpu->on)
		return;
	vmxoff();
	write_cr4(read_cr4() & ~CR4_VMXE);
	cpu->on = false;
}
