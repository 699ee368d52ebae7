# SPDX-License-Identifier: Apache-2.0
"""A GUID partition table around one EFI system partition.

UEFI 2.10, section 5: protective MBR in block 0, header in block 1, 128 entries of 128 bytes
after it, and a copy of both at the disk's end. Everything is a pure function of the partition's
size, so equal inputs give equal images.
"""
import struct
import uuid
import zlib

SECTOR = 512
ENTRIES = 128
ENTRY_SIZE = 128
TABLE_SECTORS = ENTRIES * ENTRY_SIZE // SECTOR
FIRST_SECTOR = 2048  # the partition's first block: 1 MiB, as every partitioner aligns it
ESP_TYPE = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
DISK_ID = uuid.uuid5(uuid.NAMESPACE_DNS, "disk.quire.invalid")
PARTITION_ID = uuid.uuid5(uuid.NAMESPACE_DNS, "esp.quire.invalid")


def _protective_mbr(total):
    record = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(total - 1, 0xFFFFFFFF))
    return bytes(446) + record + bytes(48) + b"\x55\xaa"


def _entries(first, last):
    name = "EFI system partition".encode("utf-16-le")
    entry = ESP_TYPE.bytes_le + PARTITION_ID.bytes_le + struct.pack("<QQQ72s", first, last, 0, name)
    return entry + bytes(ENTRIES * ENTRY_SIZE - len(entry))


def _header(this, other, table, total, entries):
    first_usable, last_usable = 2 + TABLE_SECTORS, total - TABLE_SECTORS - 2

    def pack(crc):
        return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, this, other, first_usable,
                           last_usable, DISK_ID.bytes_le, table, ENTRIES, ENTRY_SIZE, zlib.crc32(entries))
    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")


def frame(partition_sectors):
    """The bytes before and after a partition of that many blocks, to make it a whole disk."""
    last = FIRST_SECTOR + partition_sectors - 1
    total = last + 1 + TABLE_SECTORS + 1
    entries = _entries(FIRST_SECTOR, last)
    head = _protective_mbr(total) + _header(1, total - 1, 2, total, entries) + entries
    tail = entries + _header(total - 1, 1, total - 1 - TABLE_SECTORS, total, entries)
    return head.ljust(FIRST_SECTOR * SECTOR, b"\0"), tail
