# SPDX-License-Identifier: Apache-2.0
"""Which files does a quire.conf name? Only as much of the syntax as that question needs (lib/ini.h).

The hypervisor's own parser is the judge of everything else: a line not understood here is
passed over in silence. `modules` names several files, parted by commas or blanks, each with its
arguments in parentheses or without.
"""
import collections

Named = collections.namedtuple("Named", "file section key line")
FILE_KEYS = ("kernel", "initrd")
LIST_KEYS = ("modules",)


def _value(text):
    """A value without its quotes, or without the comment after it (# or ; after a blank)."""
    if text[:1] in ("'", '"') and text.find(text[0], 1) > 0:
        return text[1:text.find(text[0], 1)]
    for index, char in enumerate(text):
        if char in "#;" and (index == 0 or text[index - 1].isspace()):
            return text[:index].strip()
    return text


def _list(text):
    """'a, b(its (own) arguments) c' -> ['a', 'b', 'c']."""
    names, depth = "", 0
    for char in text:
        depth -= char == ")" and depth > 0
        names += " " if depth or char in "()," else char
        depth += char == "("
    return names.split()


def files_named(text):
    """Each file that the configuration names, in order: a list of Named."""
    section, found = "", []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip("\ufeff").strip()
        if line.startswith("["):
            section = line[1:].partition("]")[0].strip()
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key.startswith(("#", ";")):
            continue
        value = _value(value)
        if key in FILE_KEYS and value:
            found.append(Named(value, section, key, number))
        elif key in LIST_KEYS:
            found += [Named(name, section, key, number) for name in _list(value)]
    return found
