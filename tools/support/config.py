# SPDX-License-Identifier: Apache-2.0
"""Which files does a quire.conf name? Only as much of the syntax as that question needs.

The hypervisor's own parser is the judge of everything else: a line not understood here is
passed over in silence. `modules` may be repeated, and separates modules by commas; what follows
a module's name after a blank is its command line (multiboot 1, 3.3).
"""
import collections

Named = collections.namedtuple("Named", "file section key line")
FILE_KEYS = ("kernel", "initrd")
LIST_KEYS = ("modules", "module")


def _strip_comment(text):
    """A comment starts with # or ; at the line's start, or after a blank."""
    for index, char in enumerate(text):
        if char in "#;" and (index == 0 or text[index - 1].isspace()):
            return text[:index]
    return text


def files_named(text):
    """Each file that the configuration names, in order: a list of Named."""
    section, found = "", []
    for number, raw in enumerate(text.splitlines(), 1):
        line = _strip_comment(raw).strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not value:
            continue
        if key in FILE_KEYS:
            found.append(Named(value, section, key, number))
        elif key in LIST_KEYS:
            found += [Named(item.split()[0], section, key, number) for item in value.split(",") if item.strip()]
    return found
