/* SPDX-License-Identifier: Apache-2.0 */
/* See offer.h. What isn't in the words below isn't offered: no APIC-register virtualization, no PML, no VMFUNC, no monitor-trap flag ... */
#include "vmx/nested/offer.h"

#include "vmx/nested/vmcs12.h"

/* Controls that are 1 on a processor without the true MSRs; and those which the true ones let be 0 (section A.2). */
#define PIN_DEFAULT UINT64_C(0x16)
#define PRIMARY_DEFAULT UINT64_C(0x0401e172)
#define EXIT_DEFAULT UINT64_C(0x00036dff)
#define ENTRY_DEFAULT UINT64_C(0x000011ff)
#define PRIMARY_LOOSE (PRIMARY_CR3_LOAD | PRIMARY_CR3_STORE)
#define EXIT_LOOSE EXITC_SAVE_DEBUG
#define ENTRY_LOOSE ENTRYC_LOAD_DEBUG

#define PIN_OFFERED (PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER)
/* What Quire carries out, whatever the host has: its own exits serve for these. */
#define PRIMARY_OWN                                                                                                    \
	(PRIMARY_INTERRUPT_WINDOW | PRIMARY_TSC_OFFSET | PRIMARY_CR8_LOAD | PRIMARY_CR8_STORE | PRIMARY_TPR_SHADOW |   \
	 PRIMARY_NMI_WINDOW | PRIMARY_UNCONDITIONAL_IO | PRIMARY_IO_BITMAPS | PRIMARY_MSR_BITMAP | PRIMARY_SECONDARY)
#define SECONDARY_OWN (SECONDARY_APIC_ACCESSES | SECONDARY_EPT | SECONDARY_VPID | SECONDARY_UNRESTRICTED)
#define SECONDARY_HOST                                                                                                 \
	(SECONDARY_DESCRIPTOR_TABLES | SECONDARY_RDTSCP | SECONDARY_WBINVD | SECONDARY_RDRAND | SECONDARY_INVPCID |    \
	 SECONDARY_RDSEED | SECONDARY_TSC_SCALING)
#define EXIT_OFFERED                                                                                                   \
	(EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_ACKNOWLEDGE | EXITC_SAVE_EFER | EXITC_LOAD_EFER | EXITC_SAVE_TIMER)
#define ENTRY_OFFERED (ENTRYC_LOAD_DEBUG | ENTRYC_IA32E | ENTRYC_LOAD_EFER)
#define EPT_OWN                                                                                                        \
	(EPT_4_LEVELS | EPT_UC | EPT_WB | EPT_2M | EPT_INVEPT | EPT_INVEPT_SINGLE | EPT_INVEPT_ALL | EPT_INVVPID |     \
	 EPT_INVVPID_ADDRESS | EPT_INVVPID_SINGLE | EPT_INVVPID_ALL | EPT_INVVPID_NOT_GLOBAL)
#define EPT_HOST (EPT_EXECUTE_ONLY | EPT_1G | EPT_ACCESSED_DIRTY)

static uint64_t limits(uint64_t must, uint64_t may)
{
	return (must | may) << 32 | must;
}

void vmx_offer_make(struct vmx_offer *offer, const struct vmx_capability *host, uint64_t cr4_valid)
{
	uint64_t primary = PRIMARY_OWN | host->may_primary;
	uint64_t exit = EXIT_OFFERED | (host->pat ? EXITC_SAVE_PAT | EXITC_LOAD_PAT : 0);
	uint64_t entry = ENTRY_OFFERED | (host->pat ? ENTRYC_LOAD_PAT : 0);
	const struct {
		uint32_t msr;
		uint64_t value;
	} list[] = {
		{ MSR_VMX_BASIC, VMCS12_REVISION | BASIC_SIZE(sizeof(union vmcs12)) | BASIC_WB |
					 (host->string_info ? BASIC_STRING_INFO : 0) | BASIC_TRUE_CONTROLS },
		{ MSR_VMX_PIN, limits(PIN_DEFAULT, PIN_OFFERED) },
		{ MSR_VMX_TRUE_PIN, limits(PIN_DEFAULT, PIN_OFFERED) },
		{ MSR_VMX_PRIMARY, limits(PRIMARY_DEFAULT, primary) },
		{ MSR_VMX_TRUE_PRIMARY, limits(PRIMARY_DEFAULT & ~PRIMARY_LOOSE, primary) },
		{ MSR_VMX_SECONDARY, limits(0, SECONDARY_OWN | (host->may_secondary & SECONDARY_HOST)) },
		{ MSR_VMX_EXIT, limits(EXIT_DEFAULT, exit) },
		{ MSR_VMX_TRUE_EXIT, limits(EXIT_DEFAULT & ~EXIT_LOOSE, exit) },
		{ MSR_VMX_ENTRY, limits(ENTRY_DEFAULT, entry) },
		{ MSR_VMX_TRUE_ENTRY, limits(ENTRY_DEFAULT & ~ENTRY_LOOSE, entry) },
		{ MSR_VMX_MISC, host->misc | MISC_STORES_LMA | MISC_HLT | MISC_WAIT_SIPI | MISC_CR3_TARGETS(4) },
		{ MSR_VMX_CR0_FIXED0, CR0_PE | CR0_NE | CR0_PG },
		{ MSR_VMX_CR0_FIXED1, BITS(31, 0) },
		{ MSR_VMX_CR4_FIXED0, CR4_VMXE },
		{ MSR_VMX_CR4_FIXED1, cr4_valid | CR4_VMXE },
		{ MSR_VMX_VMCS_ENUM, (VMCS12_HIGHEST_INDEX - (host->may_secondary & SECONDARY_TSC_SCALING ? 0 : 2))
					     << 1 },
		{ MSR_VMX_EPT_VPID, EPT_OWN | (host->ept_vpid & EPT_HOST) },
	};

	*offer = (struct vmx_offer){ { 0 } };
	for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
		offer->msr[list[i].msr - OFFER_FIRST] = list[i].value;
}
