/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as the UEFI program sees it: bytes, and the files that they name. Which keys
 * exist and what they mean is the kernel's matter (vm/config/config.h); here the keys kernel, initrd and modules
 * are looked for in every section, each file is loaded once, and mistakes are passed over, since
 * the kernel tells them better.
 */
#include "boot/efi_loader.h"
#include "lib/ini.h"

#define CONFIG_NAME "quire.conf"

/* Copies as NUL-terminated; false when it's empty, too long or not printable ASCII. */
static bool copy_name(char to[BOOT_FILE_NAME], struct ini_text name)
{
	if (!name.length || name.length >= BOOT_FILE_NAME)
		return false;
	for (size_t i = 0; i < name.length; i++) {
		if (name.bytes[i] < 0x20 || name.bytes[i] > 0x7e)
			return false;
		to[i] = name.bytes[i];
	}
	to[name.length] = 0;
	return true;
}

/* Start of the word after "config=" in the load options (UCS-2, its end not to be trusted), or NULL. */
static const CHAR16 *find_option(const CHAR16 *options, size_t count, size_t *rest)
{
	static const char key[] = "config=";

	for (size_t at = 0; at < count; at++) {
		size_t i = 0;

		if (at && options[at - 1] != ' ')
			continue;
		while (key[i] && at + i < count && options[at + i] == (CHAR16)key[i])
			i++;
		if (key[i])
			continue;
		*rest = count - at - i;
		return options + at + i;
	}
	return NULL;
}

static void config_name(EFI_LOADED_IMAGE *image, char name[BOOT_FILE_NAME])
{
	char word[BOOT_FILE_NAME];
	struct ini_text text = { word, 0 };
	size_t rest = 0;
	const CHAR16 *options = NULL;

	(void)copy_name(name, (struct ini_text){ CONFIG_NAME, sizeof(CONFIG_NAME) - 1 });
	if (image->LoadOptions)
		options = find_option(image->LoadOptions, image->LoadOptionsSize / sizeof(CHAR16), &rest);
	if (!options)
		return;
	while (text.length < rest && options[text.length] && options[text.length] != ' ') {
		CHAR16 c = options[text.length];

		if (c > 0x7e || text.length + 1 == sizeof(word))
			break;
		word[text.length++] = (char)c;
	}
	if (!copy_name(name, text))
		Print(L"quire: option config= names no file that can be; %a is read\n", CONFIG_NAME);
}

static void read_config(EFI_LOADED_IMAGE *image, EFI_FILE_HANDLE volume, struct boot_info *info)
{
	struct boot_file file = { 0 };

	config_name(image, file.name);
	file_read(volume, &file);
	info->config_address = file.address;
	info->config_size = file.size;
	if (file.address)
		return;
	Print(L"quire: the built-in configuration serves instead\n");
	info->config_embedded = 1;
	info->config_size = (uint64_t)(default_config_end - default_config_start);
	info->config_address = (uint64_t)loader_pages(align_up(info->config_size, PAGE_SIZE_4K) / PAGE_SIZE_4K);
	if (!info->config_address)
		info->config_size = 0;
	CopyMem((void *)info->config_address, default_config_start, info->config_size);
}

static void want_file(struct boot_info *info, struct ini_text name)
{
	struct boot_file *file = &info->files[info->file_count];

	for (uint32_t i = 0; i < info->file_count; i++)
		if (ini_equal(name, info->files[i].name))
			return;
	if (info->file_count == BOOT_MAX_FILES)
		info->files_dropped++;
	else if (copy_name(file->name, name))
		info->file_count++;
}

static void want_files(struct boot_info *info, const struct ini_item *item)
{
	struct ini_text rest = item->value, name, arguments;

	if (ini_equal(item->name, "kernel") || ini_equal(item->name, "initrd"))
		want_file(info, item->value);
	if (!ini_equal(item->name, "modules"))
		return;
	while (ini_list_next(&rest, &name, &arguments))
		want_file(info, name);
}

void config_load(EFI_LOADED_IMAGE *image, EFI_FILE_HANDLE volume, struct boot_info *info)
{
	struct ini_reader reader;
	struct ini_item item;

	read_config(image, volume, info);
	ini_begin(&reader, (const char *)info->config_address, info->config_size);
	while (ini_next(&reader, &item))
		if (item.kind == INI_KEY)
			want_files(info, &item);
	if (info->files_dropped)
		Print(L"quire: more than %d files are named; the rest is not loaded\n", BOOT_MAX_FILES);
	for (uint32_t i = 0; i < info->file_count; i++)
		file_read(volume, &info->files[i]);
}
