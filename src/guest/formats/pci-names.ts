import { ConfigError } from "../../bytes/index.js";

/** Names for numbers, as lspci and pciconf print them. A pair of ids is the first × 65536 + the second. */
export interface PciNames {
  readonly vendors: ReadonlyMap<number, string>;
  /** by vendor and device */
  readonly devices: ReadonlyMap<number, string>;
  /** by vendor and device, then by subsystem vendor and subsystem */
  readonly subsystems: ReadonlyMap<number, ReadonlyMap<number, string>>;
  /** by base class */
  readonly baseClasses: ReadonlyMap<number, string>;
  /** by base class × 256 + sub-class */
  readonly classes: ReadonlyMap<number, string>;
  /** by base class × 65536 + sub-class × 256 + programming interface */
  readonly progIfs: ReadonlyMap<number, string>;
}

/**
 * Reads a list of names in the format of pci.ids, the public list or a part of it; what is no vendor or class is left out.
 * @throws ConfigError `pci-ids` naming the line
 */
export const readPciIds = (text: string): PciNames => {
  const names = {
    vendors: new Map<number, string>(),
    devices: new Map<number, string>(),
    subsystems: new Map<number, Map<number, string>>(),
    baseClasses: new Map<number, string>(),
    classes: new Map<number, string>(),
    progIfs: new Map<number, string>(),
  };
  let section: "vendors" | "classes" | "others" = "others";
  let [outer, inner] = [-1, -1];
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const parts = /^(\t{0,2})(?:([A-Z]) )?([0-9a-f]{2,4})(?: ([0-9a-f]{4}))? {2}(.*)$/.exec(line);
    if (parts === null) {
      if (/^[A-Z]/.test(line)) section = "others";
      if (section === "others") continue;
      throw new ConfigError("pci-ids", `line ${i + 1}: ${line.trim()}`);
    }
    const [, indent = "", kind, id = "", subsystem, name = ""] = parts;
    const code = Number.parseInt(id, 16);
    if (indent === "") {
      section = kind === undefined ? "vendors" : kind === "C" ? "classes" : "others";
      outer = code;
      if (section !== "others") (section === "vendors" ? names.vendors : names.baseClasses).set(code, name);
    } else if (indent === "\t") {
      inner = outer * (section === "vendors" ? 0x1_0000 : 0x100) + code;
      if (section !== "others") (section === "vendors" ? names.devices : names.classes).set(inner, name);
    } else if (section === "classes") names.progIfs.set(inner * 0x100 + code, name);
    else if (section === "vendors" && subsystem !== undefined) {
      const known = names.subsystems.get(inner) ?? new Map<number, string>();
      names.subsystems.set(inner, known.set(code * 0x1_0000 + Number.parseInt(subsystem, 16), name));
    }
  }
  return names;
};

/** No name for anything: what `lspci -i /dev/null` prints. */
export const NO_NAMES: PciNames = /* @__PURE__ */ readPciIds("");

/** The names of what stands in our machines, spelled as in the public list of PCI ids of 2023-04-10. */
export const OWN_NAMES: PciNames = /* @__PURE__ */ readPciIds(`
1022  Advanced Micro Devices, Inc. [AMD]
	2000  79c970 [PCnet32 LANCE]
10ec  Realtek Semiconductor Co., Ltd.
	8029  RTL-8029(AS)
		1af4 1100  QEMU Virtual Machine
	8129  RTL-8129
	8136  RTL810xE PCI Express Fast Ethernet controller
	8139  RTL-8100/8101L/8139 PCI Fast Ethernet Adapter
		1af4 1100  QEMU Virtual Machine
	8167  RTL-8110SC/8169SC Gigabit Ethernet
	8168  RTL8111/8168/8411 PCI Express Gigabit Ethernet Controller
		10ec 8168  RTL8111/8168 PCI Express Gigabit Ethernet controller
	8169  RTL8169 PCI Gigabit Ethernet Controller
		10ec 8169  RTL8169/8110 Family PCI Gigabit Ethernet NIC
1af4  Red Hat, Inc.
	1000  Virtio network device
	1001  Virtio block device
	1002  Virtio memory balloon
	1003  Virtio console
	1004  Virtio SCSI
	1005  Virtio RNG
	1009  Virtio filesystem
	1041  Virtio 1.0 network device
	1042  Virtio 1.0 block device
	1043  Virtio 1.0 console
	1044  Virtio 1.0 RNG
	1045  Virtio 1.0 memory balloon
	1048  Virtio 1.0 SCSI
	1049  Virtio 1.0 filesystem
1b36  Red Hat, Inc.
	0001  QEMU PCI-PCI bridge
8086  Intel Corporation
	100e  82540EM Gigabit Ethernet Controller
		1af4 1100  QEMU Virtual Machine
	1237  440FX - 82441FX PMC [Natoma]
		1af4 1100  Qemu virtual machine
	7000  82371SB PIIX3 ISA [Natoma/Triton II]
		1af4 1100  Qemu virtual machine
	7010  82371SB PIIX3 IDE [Natoma/Triton II]
		1af4 1100  Qemu virtual machine
	7020  82371SB PIIX3 USB [Natoma/Triton II]
		1af4 1100  QEMU Virtual Machine
	7113  82371AB/EB/MB PIIX4 ACPI
		1af4 1100  Qemu virtual machine
C 00  Unclassified device
	00  Non-VGA unclassified device
	01  VGA compatible unclassified device
C 01  Mass storage controller
	00  SCSI storage controller
	01  IDE interface
		00  ISA Compatibility mode-only controller
		80  ISA Compatibility mode-only controller, supports bus mastering
	06  SATA controller
	80  Mass storage controller
C 02  Network controller
	00  Ethernet controller
	80  Network controller
C 03  Display controller
	00  VGA compatible controller
		00  VGA controller
	80  Display controller
C 04  Multimedia controller
C 05  Memory controller
C 06  Bridge
	00  Host bridge
	01  ISA bridge
	04  PCI bridge
		00  Normal decode
		01  Subtractive decode
	80  Bridge
C 07  Communication controller
	00  Serial controller
	80  Communication controller
C 08  Generic system peripheral
C 09  Input device controller
C 0a  Docking station
C 0b  Processor
C 0c  Serial bus controller
	03  USB controller
		00  UHCI
	05  SMBus
C 0d  Wireless controller
C 0e  Intelligent controller
C 0f  Satellite communications controller
C 10  Encryption controller
C 11  Signal processing controller
C 12  Processing accelerators
C 13  Non-Essential Instrumentation
C 40  Coprocessor
C ff  Unassigned class
`);
