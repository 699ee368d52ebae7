/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The call by which a guest names memory that other machines of its share_group have as well: a library, a kernel, a program. With the
 * other hypercalls (pv = on), at CPL 0: this number in RAX, a name (a hash of whatever tells one version from another) in RBX, where it begins,
 * guest-physical, in RCX, and how many pages it has in RDX. So often for one name as there are regions. 0 pages: the name is forgotten.
 * RAX is 0 then, or -EINVAL: not whole pages in one range of RAM, or more than 1 GiB; -ENOSPC: more than 2048 names or 32 regions of one;
 * -ENOMEM; -ENOENT: no such name; -EOPNOTSUPP: page_fusion is off. A guest's header too.
 */
#pragma once

#define QUIRE_CALL_MODULE 0x51560001u
