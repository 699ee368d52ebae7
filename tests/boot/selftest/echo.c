/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for the hypervisor, to test the test harness itself: an EFI program that answers on the
 * first serial port as Quire's monitor does. It stays inside UEFI (no boot services are left),
 * and talks to the UART directly. Commands: `say TEXT`, `lines N`, `mode json|text`, `size FILE`,
 * `cpu`, `poweroff`, `hang`.
 */
#include <efi.h>
#include <efilib.h>

#define PORT 0x3f8

static inline void out8(UINT16 port, UINT8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline UINT8 in8(UINT16 port)
{
	UINT8 value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void put(const char *text)
{
	for (; *text; text++) {
		while (!(in8(PORT + 5) & 0x20))
			;
		out8(PORT, (UINT8)*text);
	}
}

static void put_number(UINT64 value)
{
	char digits[24];
	int at = 23;

	digits[at] = 0;
	do
		digits[--at] = (char)('0' + value % 10);
	while ((value /= 10) != 0);
	put(digits + at);
}

static void read_line(char *line, int size)
{
	int length = 0;

	for (;;) {
		while (!(in8(PORT + 5) & 1))
			;
		char c = (char)in8(PORT);

		if (c == '\r')
			break;
		if (length < size - 1) {
			line[length++] = c;
			char echo[2] = { c, 0 };

			put(echo);
		}
	}
	line[length] = 0;
	put("\r\n");
}

static int starts(const char *line, const char *word)
{
	while (*word)
		if (*line++ != *word++)
			return 0;
	return 1;
}

static UINT64 file_size(EFI_FILE_HANDLE root, const char *name)
{
	static UINT8 space[1024];
	EFI_GUID guid = EFI_FILE_INFO_ID;
	EFI_FILE_HANDLE file;
	UINTN size = sizeof(space);
	CHAR16 wide[64];
	int i;

	/* Files can be read only at the lowest priority. */
	uefi_call_wrapper(BS->RestoreTPL, 1, TPL_APPLICATION);
	for (i = 0; name[i] && i < 63; i++)
		wide[i] = (CHAR16)name[i];
	wide[i] = 0;
	EFI_STATUS status = uefi_call_wrapper(root->Open, 5, root, &file, wide, EFI_FILE_MODE_READ, 0);

	if (!EFI_ERROR(status))
		status = uefi_call_wrapper(file->GetInfo, 4, file, &guid, &size, space);
	uefi_call_wrapper(BS->RaiseTPL, 1, TPL_NOTIFY);
	return EFI_ERROR(status) ? 0 : ((EFI_FILE_INFO *)space)->FileSize;
}

static void show_cpu(void)
{
	UINT32 leaf = 0, eax, ebx, ecx, edx;

	__asm__ volatile("cpuid" : "+a"(leaf), "=b"(ebx), "=c"(ecx), "=d"(edx));
	(void)ebx;
	(void)edx;
	eax = 1;
	UINT32 features = 0;

	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(features), "=d"(edx));
	eax = 0x80000001u;
	__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
	put((features >> 5) & 1 ? "vmx=1 " : "vmx=0 ");
	put((ecx >> 2) & 1 ? "svm=1\r\n" : "svm=0\r\n");
}

/* One command; 0 ends the program. */
static int command(const char *line, int *json, EFI_FILE_HANDLE root)
{
	if (starts(line, "mode json"))
		*json = 1;
	else if (starts(line, "mode text"))
		*json = 0;
	else if (starts(line, "poweroff"))
		return 0;
	else if (starts(line, "hang"))
		for (;;)
			__asm__ volatile("pause");
	if (*json) {
		put("{\"ok\": true, \"bytes\": ");
		put_number(starts(line, "size ") ? file_size(root, line + 5) : 0);
		put("}\r\n");
	} else if (starts(line, "say ")) {
		put(line + 4);
		put("\r\n");
	} else if (starts(line, "lines ")) {
		for (int i = 0; i < line[6] - '0'; i++)
			put("guest| tick\r\nline\r\n");
	} else if (starts(line, "size ")) {
		put_number(file_size(root, line + 5));
		put("\r\n");
	} else if (starts(line, "cpu")) {
		show_cpu();
	}
	return 1;
}

static void power_off(void)
{
	put("vm guest: stopped (poweroff)\r\n");
	for (const char *c = "Shutdown"; *c; c++)
		out8(0x8900, (UINT8)*c); /* Bochs */
	uefi_call_wrapper(RT->ResetSystem, 4, EfiResetShutdown, EFI_SUCCESS, 0, NULL);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table)
{
	EFI_FILE_HANDLE root;
	EFI_LOADED_IMAGE *loaded;
	EFI_GUID guid = LOADED_IMAGE_PROTOCOL;
	char line[80];
	int json = 0;

	InitializeLib(image, table);
	uefi_call_wrapper(BS->SetWatchdogTimer, 4, 0, 0, 0, NULL);
	uefi_call_wrapper(BS->HandleProtocol, 3, image, &guid, (void **)&loaded);
	root = LibOpenRoot(loaded->DeviceHandle);
	uefi_call_wrapper(BS->RaiseTPL, 1, TPL_NOTIFY); /* keeps OVMF's console off the UART */
	out8(PORT + 1, 0);
	out8(PORT + 2, 7);
	put("echo: ready\r\n");
	do {
		put("quire> ");
		read_line(line, sizeof(line));
	} while (command(line, &json, root));
	power_off();
	return EFI_SUCCESS;
}
