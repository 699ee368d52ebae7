/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the start volume, by EFI_SIMPLE_FILE_SYSTEM_PROTOCOL (UEFI 2.10 sections 13.4, 13.5), read in
 * pieces, so that a long load shows that it lives. A file that can't be read is told in its
 * record; the kernel decides what that means.
 */
#include "boot/efi_loader.h"

#define READ_PIECE (UINT64_C(1) << 20)
#define DOT_EVERY (UINT64_C(4) << 20)
/* No guest file is larger than this; a size beyond it is a broken volume's. */
#define FILE_LIMIT (UINT64_C(1) << 40)

enum { FILE_OK, FILE_NOT_FOUND, FILE_READ_ERROR, FILE_NO_MEMORY };

void *loader_pages(uint64_t count)
{
	EFI_PHYSICAL_ADDRESS address = 0;

	if (!count || EFI_ERROR(BS->AllocatePages(AllocateAnyPages, EfiLoaderData, count, &address)))
		return NULL;
	/* Page 0 would look like "none" to everyone who tests the address. */
	if (!address)
		return loader_pages(count);
	ZeroMem((void *)address, count * PAGE_SIZE_4K);
	return (void *)address;
}

EFI_FILE_HANDLE volume_open(EFI_LOADED_IMAGE *image)
{
	static EFI_GUID protocol = EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID;
	EFI_FILE_IO_INTERFACE *system = NULL;
	EFI_FILE_HANDLE root = NULL;

	if (!image->DeviceHandle || EFI_ERROR(BS->HandleProtocol(image->DeviceHandle, &protocol, (void **)&system)))
		return NULL;
	return EFI_ERROR(system->OpenVolume(system, &root)) ? NULL : root;
}

/* path: from the root, with a leading backslash. */
static void make_path(CHAR16 path[BOOT_FILE_NAME + 1], const char *name)
{
	unsigned at = 0;

	if (name[0] != '/' && name[0] != '\\')
		path[at++] = '\\';
	for (; *name && at < BOOT_FILE_NAME; name++)
		path[at++] = *name == '/' ? '\\' : (unsigned char)*name;
	path[at] = 0;
}

/* false: no size to be had, or a folder. */
static bool file_size(EFI_FILE_HANDLE handle, uint64_t *size)
{
	static EFI_GUID kind = EFI_FILE_INFO_ID;
	union {
		EFI_FILE_INFO info;
		uint8_t room[sizeof(EFI_FILE_INFO) + 512];
	} buffer;
	UINTN length = sizeof(buffer);

	if (EFI_ERROR(handle->GetInfo(handle, &kind, &length, &buffer)) || buffer.info.Attribute & EFI_FILE_DIRECTORY)
		return false;
	*size = buffer.info.FileSize;
	return *size <= FILE_LIMIT;
}

static bool read_pieces(EFI_FILE_HANDLE handle, uint8_t *to, uint64_t size)
{
	for (uint64_t done = 0, dots = DOT_EVERY; done < size;) {
		UINTN piece = min_u64(size - done, READ_PIECE);

		/* A piece may come back short; none at all before the end is an error. */
		if (EFI_ERROR(handle->Read(handle, &piece, to + done)) || !piece || piece > size - done)
			return false;
		done += piece;
		for (; done >= dots; dots += DOT_EVERY)
			Print(L".");
	}
	return true;
}

static unsigned read_open(EFI_FILE_HANDLE handle, struct boot_file *file)
{
	uint64_t size = 0, pages;
	uint8_t *buffer;

	if (!file_size(handle, &size))
		return FILE_READ_ERROR;
	Print(L"%ld KiB ", align_up(size, 1024) / 1024);
	pages = align_up(size, PAGE_SIZE_4K) / PAGE_SIZE_4K;
	buffer = loader_pages(pages ? pages : 1); /* an empty file has a page, a missing one has none */
	if (!buffer)
		return FILE_NO_MEMORY;
	if (!read_pieces(handle, buffer, size)) {
		(void)BS->FreePages((EFI_PHYSICAL_ADDRESS)buffer, pages ? pages : 1);
		return FILE_READ_ERROR;
	}
	file->address = (uint64_t)buffer;
	file->size = size;
	return FILE_OK;
}

void file_read(EFI_FILE_HANDLE volume, struct boot_file *file)
{
	static const CHAR16 *const results[] = { L"ok", L"not found", L"cannot be read", L"too little memory" };
	CHAR16 path[BOOT_FILE_NAME + 1];
	EFI_FILE_HANDLE handle = NULL;

	Print(L"quire: file %a: ", file->name);
	make_path(path, file->name);
	file->error = FILE_NOT_FOUND;
	if (volume && !EFI_ERROR(volume->Open(volume, &handle, path, EFI_FILE_MODE_READ, 0))) {
		file->error = read_open(handle, file);
		(void)handle->Close(handle);
	}
	Print(L"%s\n", results[file->error]);
}
