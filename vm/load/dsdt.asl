// SPDX-License-Identifier: Apache-2.0
// What a guest's ACPI needs beyond the fixed tables: the S5 sleep type, and the devices that Linux looks for by name.
DefinitionBlock ("", "DSDT", 2, "QUIRE", "QUIRE", 1)
{
    Name (\_S5, Package () { 5, 5, 0, 0 })
    Scope (\_SB)
    {
        // dev/pci/pci.h: the window for BARs, and configuration space above it, which is no bridge's but the board's.
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_UID, 0)
            Name (_ADR, 0)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)
                IO (Decode16, 0x0cf8, 0x0cf8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0000, 0x0cf7, 0, 0x0cf8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0x0d00, 0xffff, 0, 0xf300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xfc000000, 0xfeafffff, 0, 0x02b00000)
            })
            Name (_PRT, Package ()
            {
                Package () { 0x0001ffff, 0, 0, 11 },
                Package () { 0x0002ffff, 0, 0, 10 },
                Package () { 0x0003ffff, 0, 0, 11 },
                Package () { 0x0004ffff, 0, 0, 10 },
                Package () { 0x0005ffff, 0, 0, 11 },
                Package () { 0x0006ffff, 0, 0, 10 },
                Package () { 0x0007ffff, 0, 0, 11 }
            })
        }
        Device (ECAM)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xfeb00000, 0x00100000)
            })
        }
        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03f8, 0x03f8, 1, 8)
                IRQNoFlags () { 4 }
            })
        }
        Device (RTC0)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 1, 2)
                IRQNoFlags () { 8 }
            })
        }
        Device (KBC0)
        {
            Name (_HID, EisaId ("PNP0303"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0060, 0x0060, 1, 1)
                IO (Decode16, 0x0064, 0x0064, 1, 1)
                IRQNoFlags () { 1 }
            })
        }
    }
}
