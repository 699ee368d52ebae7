/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts a Linux kernel by its EFI stub with a command line: \vmlinuz, \cmdline (text) and whatever
 * `initrd=` in it names, from the volume this program was started from. For the benchmark's Linux on Bochs.
 */
#include <efi.h>
#include <efilib.h>

#define LINE_MAX 1000

static CHAR16 options[LINE_MAX + 1];

static EFI_STATUS read_line(EFI_FILE_PROTOCOL *root, UINTN *length)
{
	static CHAR8 text[LINE_MAX];
	UINTN size = sizeof(text);
	EFI_FILE_PROTOCOL *file;
	EFI_STATUS status = root->Open(root, &file, L"\\cmdline", EFI_FILE_MODE_READ, 0);

	if (!EFI_ERROR(status))
		status = file->Read(file, &size, text);
	for (*length = 0; !EFI_ERROR(status) && *length < size && text[*length] != '\n'; ++*length)
		options[*length] = text[*length];
	return status;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system)
{
	EFI_LOADED_IMAGE *self, *kernel;
	EFI_FILE_IO_INTERFACE *volume;
	EFI_FILE_PROTOCOL *root;
	EFI_HANDLE handle;
	UINTN length;
	EFI_STATUS status;

	InitializeLib(image, system);
	status = BS->HandleProtocol(image, &gEfiLoadedImageProtocolGuid, (void **)&self);
	if (!EFI_ERROR(status))
		status = BS->HandleProtocol(self->DeviceHandle, &gEfiSimpleFileSystemProtocolGuid, (void **)&volume);
	if (!EFI_ERROR(status))
		status = volume->OpenVolume(volume, &root);
	if (!EFI_ERROR(status))
		status = read_line(root, &length);
	if (!EFI_ERROR(status))
		status =
			BS->LoadImage(FALSE, image, FileDevicePath(self->DeviceHandle, L"\\vmlinuz"), NULL, 0, &handle);
	if (!EFI_ERROR(status))
		status = BS->HandleProtocol(handle, &gEfiLoadedImageProtocolGuid, (void **)&kernel);
	if (!EFI_ERROR(status)) {
		kernel->LoadOptions = options;
		kernel->LoadOptionsSize = (UINT32)((length + 1) * sizeof(options[0]));
		status = BS->StartImage(handle, NULL, NULL);
	}
	Print(L"linux_loader: %r\n", status);
	return status;
}
