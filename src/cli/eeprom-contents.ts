import { defineRegisters, type RegisterDeclaration } from "../regs/index.js";
import { RTL8169_DECLARATIONS } from "../spec/rtl8169.js";

/** A configuration register's byte as the EEPROM holds it. */
const configuration = (
  { fields, doc }: Pick<RegisterDeclaration, "fields" | "doc">,
  at: number,
): RegisterDeclaration => ({
  at,
  width: 1,
  ...(fields === undefined ? {} : { fields }),
  doc,
});

/** What stands where in a RealTek card's EEPROM, in bytes, as far as drivers and data sheets tell. */
export const EEPROM_CONTENTS = defineRegisters(
  { name: "eeprom", source: "RTL8169 and RTL8139C+ data sheets, contents of the 93C46", size: 0x80 },
  {
    signature: { at: 0x00, width: 2, doc: "8129h, or the chip takes nothing from the EEPROM" },
    vendor_id: { at: 0x02, width: 2, doc: "PCI vendor" },
    device_id: { at: 0x04, width: 2, doc: "PCI device" },
    subsystem_vendor_id: { at: 0x06, width: 2, doc: "PCI subsystem vendor" },
    subsystem_id: { at: 0x08, width: 2, doc: "PCI subsystem" },
    min_gnt: { at: 0x0a, width: 1, doc: "PCI Min_Gnt, quarters of a µs" },
    max_lat: { at: 0x0b, width: 1, doc: "PCI Max_Lat, quarters of a µs" },
    media: { at: 0x0c, width: 2, doc: "media and CONFIG3 of the old chips" },
    mac01: { at: 0x0e, width: 2, doc: "station address, bytes 0 and 1" },
    mac23: { at: 0x10, width: 2, doc: "station address, bytes 2 and 3" },
    mac45: { at: 0x12, width: 2, doc: "station address, bytes 4 and 5" },
    CONFIG0: configuration(RTL8169_DECLARATIONS.CONFIG0, 0x14),
    CONFIG1: configuration(RTL8169_DECLARATIONS.CONFIG1, 0x15),
    PMC: { at: 0x16, width: 2, doc: "power management capabilities" },
  },
);

/** Station address: six bytes from here. */
export const EEPROM_MAC_AT = 0x0e;
