/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SVM on one CPU: is it there, may it be used, on and off. AMD APM vol. 2 section 15.4; CPUID 8000_000A.
 *
 * The processor saves the host's state of VMRUN in the page of host_vendor_page(); what VMLOAD brings back is taken
 * once, here, so the calling CPU's descriptor tables, GS base and system-call MSRs must be final when it is enabled.
 */
#include "svm/svm.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/errata.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/traps.h"
#include "lib/format.h"
#include "lib/memory.h"
#include "mm/map.h"
#include "svm/codes.h"
#include "svm/quirks.h"

struct svm_features svm_features;
struct svm_cpu svm_cpus[MAX_CPUS];
bool svm_read_xcr0;

static enum status refuse(struct hv_refusal *why, const char *text)
{
	return EXPLAIN(NOT_SUPPORTED, why->text, sizeof(why->text), "%s", text);
}

static enum status check_present(struct hv_refusal *why)
{
	if (cpuid(CPUID_EXTENDED_MAX, 0).eax < CPUID_SVM || !(cpuid(CPUID_EXTENDED_FEATURES, 0).ecx & CPUID_ECX_SVM))
		return refuse(why, "this processor does not offer AMD-V (SVM). In a virtual machine: give it a "
				   "processor model that does, and switch nesting on");
	return OK;
}

/* Bochs has no VM_CR: what isn't there has nothing switched off. */
static uint64_t read_vm_cr(void)
{
	uint64_t value;

	return rdmsr_safe(MSR_VM_CR, &value) ? value : 0;
}

/* VM_CR says whether firmware has switched SVM off; the lock, whether that can be undone without it. 15.4, 15.30.1. */
static enum status check_allowed(struct hv_refusal *why)
{
	uint64_t vm_cr = read_vm_cr();

	if (!(vm_cr & VM_CR_SVMDIS) || !(vm_cr & VM_CR_LOCK))
		return OK;
	if (cpuid(CPUID_SVM, 0).edx & CPUID_SVM_LOCK)
		return refuse(why, "the firmware has switched AMD-V off and locked it with a key. Enable "
				   "\"SVM Mode\" (\"AMD-V\", \"Virtualization\") in the firmware "
				   "setup, then switch off and on");
	return refuse(why, "the firmware has switched AMD-V off and locked it. Enable \"SVM Mode\" (\"AMD-V\", "
			   "\"Virtualization\") in the firmware setup, then switch off and on");
}

static enum status check_sufficient(struct hv_refusal *why)
{
	struct cpuid_result svm = cpuid(CPUID_SVM, 0);

	if (!(svm.edx & CPUID_SVM_NPT))
		return refuse(why, "this processor has AMD-V but no nested paging (NPT); Quire needs it. In a virtual "
				   "machine: switch nested paging on");
	if (svm.ebx < 2)
		return refuse(why, "this processor has AMD-V but no address space identifier for a guest");
	return OK;
}

static enum status check(struct hv_refusal *why)
{
	TRY(check_present(why));
	TRY(check_allowed(why));
	return check_sufficient(why);
}

static void read_features(struct svm_features *features)
{
	struct cpuid_result svm = cpuid(CPUID_SVM, 0);
	uint32_t instructions = 0;

	if (cpuid(CPUID_EXTENDED_MAX, 0).eax >= CPUID_ADDRESS_SIZES)
		instructions = cpuid(CPUID_ADDRESS_SIZES, 0).ebx;
	*features = (struct svm_features){
		.huge_pages = cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_1G_PAGES,
		.next_rip = svm.edx & CPUID_SVM_NEXT_RIP,
		.decode_assists = svm.edx & CPUID_SVM_DECODE,
		.flush_asid = svm.edx & CPUID_SVM_FLUSH_ASID,
		.pause_filter = svm.edx & CPUID_SVM_PAUSE_FILTER,
		.pause_threshold = svm.edx & CPUID_SVM_PAUSE_THRESHOLD,
		.virtual_load_save = (svm.edx & CPUID_SVM_VIRTUAL_LOAD_SAVE) && !errata_virtual_load_save(),
		.virtual_gif = svm.edx & CPUID_SVM_VIRTUAL_GIF,
		.invlpgb = instructions & CPUID_EBX_INVLPGB,
		.mcommit = instructions & CPUID_EBX_MCOMMIT,
		.rdpru = instructions & CPUID_EBX_RDPRU,
		.spec_ctrl = svm.edx & CPUID_SVM_SPEC_CTRL,
		.asid_count = svm.ebx,
		.clean_mask = svm.edx & CPUID_SVM_CLEAN ? CLEAN_ALL : 0,
	};
}

static void fill_caps(struct hv_caps *caps)
{
	struct svm_features features;

	read_features(&features);
	if (cpu_index() == 0)
		svm_quirks_detect();
	trap_leftover_at = (uint64_t)svm_left;
	*caps = (struct hv_caps){
		.slat = SLAT_NPT,
		.slat_levels = read_cr4() & CR4_LA57 ? 5 : 4, /* nested tables have the host's own form: 15.25.3 */
		.slat_2m = true,
		.slat_1g = features.huge_pages,
		.slat_large_execute = true,
		.slat_accessed_dirty = true,
		.tsc_scaling = cpuid(CPUID_SVM, 0).edx & CPUID_SVM_TSC_RATE,
		.next_rip = features.next_rip,
		.decode_assists = features.decode_assists,
		.rdtscp = true,
		.invpcid = true,
		.vpid = true,
		.flush_by_asid = features.flush_asid,
		.pdpte_marked = svm_quirks.marks_pdptes,
		.asid_count = features.asid_count,
	};
}

enum status svm_probe(struct hv_caps *caps, struct hv_refusal *why)
{
	TRY(check(why));
	fill_caps(caps);
	return OK;
}

enum status svm_enable_cpu(struct hv_refusal *why)
{
	unsigned index = cpu_index();
	struct svm_cpu *cpu = &svm_cpus[index];
	struct svm_features features;

	TRY(check(why));
	read_features(&features);
	if (index == 0) {
		svm_features = features;
		svm_read_xcr0 = svm_quirks.xsetbv_silent && (read_cr4() & CR4_OSXSAVE);
	} else if (memcmp(&svm_features, &features, offsetof(struct svm_features, asid_count)) != 0) {
		(void)refuse(why, "this CPU offers other SVM features than the first one; a firmware update may help");
		return CONFLICT;
	}
	if (!cpu->host_vmcb)
		cpu->host_vmcb = heap_alloc(sizeof(struct vmcb));
	if (!cpu->host_vmcb) {
		(void)refuse(why, "no memory for this CPU's host state area");
		return NO_MEMORY;
	}
	host_use_protection_keys();
	if (read_vm_cr() & VM_CR_SVMDIS)
		wrmsr(MSR_VM_CR, read_vm_cr() & ~VM_CR_SVMDIS);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
	wrmsr(MSR_VM_HSAVE_PA, host_vendor_page(index).v);
	cpu->host_vmcb_address = direct_address(cpu->host_vmcb);
	cpu->loaded = NULL;
	asid_open(&cpu->asids, index, features.asid_count);
	svm_vmsave(cpu->host_vmcb_address.v);
	return OK;
}

/* In any context, even amid a guest's exit: nothing of this CPU's state is used again. */
void svm_disable_cpu(void)
{
	if (svm_cpus[cpu_index()].host_vmcb)
		wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SVME);
}
