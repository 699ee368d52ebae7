/* SPDX-License-Identifier: Apache-2.0 */
/* The room's opening, step by step; start.h tells the order and what holds after each step. */
#include "arch/x86_64/start.h"

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/apic.h"
#include "arch/x86_64/console.h"
#include "arch/x86_64/cpu_local.h"
#include "arch/x86_64/features.h"
#include "arch/x86_64/host.h"
#include "arch/x86_64/log.h"
#include "arch/x86_64/mtrr.h"
#include "arch/x86_64/panic.h"
#include "arch/x86_64/time.h"
#include "arch/x86_64/traps.h"
#include "boot/boot_info.h"

enum status arch_early(const struct boot_info *info)
{
	const char *missing;

	traps_init();
	cpu_load_tables(&boot_cpu, boot_stacks);
	boot_cpu.vendor_page = HPA_NONE;
	missing = features_init();
	if (info->magic != BOOT_INFO_MAGIC || info->version != BOOT_INFO_VERSION || info->size != sizeof(*info)) {
		console_early(&(struct boot_framebuffer){ 0 });
		log_line(LOG_ERROR "boot: the loader and the kernel are of different versions");
		return BAD_FORMAT;
	}
	console_early(&info->framebuffer);
	log_line("host: %s, %s, %u physical address bits%s", features.vendor, features.brand, features.physical_bits,
		 features.hypervisor ? ", itself a virtual machine" : "");
	if (missing) {
		log_line(LOG_ERROR "host: %s", missing);
		return NOT_SUPPORTED;
	}
	mtrr_init();
	return OK;
}

enum status arch_paging(const struct boot_info *info, hpa_t trampoline, page_source source, void *context)
{
	enum status status;

	smp_set_trampoline(trampoline);
	paging_set_source(source, context);
	processor_before_paging();
	status = paging_build(info);
	if (status != OK) {
		log_line(LOG_ERROR "paging: the kernel's tables can't be built: %s", status_text(status));
		return status;
	}
	boot_cpu.vendor_page = paging_take_page();
	if (hpa_is_none(boot_cpu.vendor_page))
		return NO_MEMORY;
	log_drain();
	console_forget_identity();
	paging_switch();
	processor_control_registers();
	features.xsavec = host_compacts_rightly();
	return OK;
}

enum status arch_platform(const struct boot_info *info)
{
	enum status status;

	acpi_init(hpa(info->rsdp));
	acpi_stop_watchdog();
	console_late(&info->framebuffer);
	pic_silence();
	status = apic_init();
	if (status != OK) {
		log_line(LOG_ERROR "apic: no local APIC that can be used: %s", status_text(status));
		return status;
	}
	apic_enable();
	ioapic_silence();
	time_init();
	apic_timer_calibrate();
	apic_timer_disarm();
	log_line("host: boot CPU has APIC id %u, %s%s; FPU state is %lu bytes", boot_cpu.apic_id,
		 apic_is_x2() ? "x2APIC" : "xAPIC", features.tsc_deadline ? ", TSC deadline timer" : "",
		 host_fpu_size());
	log_drain();
	return OK;
}

void arch_refuse(void)
{
	log_line(LOG_ERROR "stopped; it is safe to turn the machine off");
	log_drain();
	panic_stop_here();
}
