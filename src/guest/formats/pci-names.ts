/** Names for numbers, as lspci and pciconf print them. Keys are numbers; what is not listed has no name. */
export interface PciNames {
  readonly vendors: { readonly [vendor: number]: string };
  /** by vendor × 65536 + device */
  readonly devices: { readonly [vendorDevice: number]: string };
  /** by vendor × 65536 + device, then by subsystem vendor × 65536 + subsystem */
  readonly subsystems: { readonly [vendorDevice: number]: { readonly [subsystem: number]: string } };
  /** by base class */
  readonly baseClasses: { readonly [base: number]: string };
  /** by base class × 256 + sub-class */
  readonly classes: { readonly [classCode: number]: string };
  /** by base class × 65536 + sub-class × 256 + programming interface */
  readonly progIfs: { readonly [classCode: number]: string };
}

/** No name for anything: what `lspci -i /dev/null` prints. */
export const NO_NAMES: PciNames = {
  vendors: {},
  devices: {},
  subsystems: {},
  baseClasses: {},
  classes: {},
  progIfs: {},
};

const QEMU = { 452202752: "QEMU Virtual Machine" };
const QEMU_OLD = { 452202752: "Qemu virtual machine" };

/** The names of what stands in our machines, spelled as in the public list of PCI ids of 2023-04-10. */
export const OWN_NAMES: PciNames = {
  vendors: {
    4130: "Advanced Micro Devices, Inc. [AMD]",
    4332: "Realtek Semiconductor Co., Ltd.",
    6900: "Red Hat, Inc.",
    6966: "Red Hat, Inc.",
    32902: "Intel Corporation",
  },
  devices: {
    270671872: "79c970 [PCnet32 LANCE]",
    283934761: "RTL-8029(AS)",
    283935017: "RTL-8129",
    283935030: "RTL810xE PCI Express Fast Ethernet controller",
    283935033: "RTL-8100/8101L/8139 PCI Fast Ethernet Adapter",
    283935079: "RTL-8110SC/8169SC Gigabit Ethernet",
    283935080: "RTL8111/8168/8411 PCI Express Gigabit Ethernet Controller",
    283935081: "RTL8169 PCI Gigabit Ethernet Controller",
    452202496: "Virtio network device",
    452202497: "Virtio block device",
    452202498: "Virtio memory balloon",
    452202499: "Virtio console",
    452202500: "Virtio SCSI",
    452202501: "Virtio RNG",
    452202505: "Virtio filesystem",
    452202561: "Virtio 1.0 network device",
    452202562: "Virtio 1.0 block device",
    452202563: "Virtio 1.0 console",
    452202564: "Virtio 1.0 RNG",
    452202565: "Virtio 1.0 memory balloon",
    452202568: "Virtio 1.0 SCSI",
    452202569: "Virtio 1.0 filesystem",
    456523777: "QEMU PCI-PCI bridge",
    2156269582: "82540EM Gigabit Ethernet Controller",
    2156270135: "440FX - 82441FX PMC [Natoma]",
    2156294144: "82371SB PIIX3 ISA [Natoma/Triton II]",
    2156294160: "82371SB PIIX3 IDE [Natoma/Triton II]",
    2156294176: "82371SB PIIX3 USB [Natoma/Triton II]",
    2156294419: "82371AB/EB/MB PIIX4 ACPI",
  },
  subsystems: {
    283934761: QEMU,
    283935033: QEMU,
    2156269582: QEMU,
    2156270135: QEMU_OLD,
    2156294144: QEMU_OLD,
    2156294160: QEMU_OLD,
    2156294176: QEMU,
    2156294419: QEMU_OLD,
  },
  baseClasses: {
    0: "Unclassified device",
    1: "Mass storage controller",
    2: "Network controller",
    3: "Display controller",
    4: "Multimedia controller",
    5: "Memory controller",
    6: "Bridge",
    7: "Communication controller",
    8: "Generic system peripheral",
    9: "Input device controller",
    10: "Docking station",
    11: "Processor",
    12: "Serial bus controller",
    13: "Wireless controller",
    14: "Intelligent controller",
    15: "Satellite communications controller",
    16: "Encryption controller",
    17: "Signal processing controller",
    18: "Processing accelerators",
    19: "Non-Essential Instrumentation",
    64: "Coprocessor",
    255: "Unassigned class",
  },
  classes: {
    0: "Non-VGA unclassified device",
    1: "VGA compatible unclassified device",
    256: "SCSI storage controller",
    257: "IDE interface",
    262: "SATA controller",
    384: "Mass storage controller",
    512: "Ethernet controller",
    640: "Network controller",
    768: "VGA compatible controller",
    896: "Display controller",
    1536: "Host bridge",
    1537: "ISA bridge",
    1540: "PCI bridge",
    1664: "Bridge",
    1792: "Serial controller",
    1920: "Communication controller",
    3075: "USB controller",
    3077: "SMBus",
  },
  progIfs: {
    65792: "ISA Compatibility mode-only controller",
    65920: "ISA Compatibility mode-only controller, supports bus mastering",
    196608: "VGA controller",
    394240: "Normal decode",
    394241: "Subtractive decode",
    787200: "UHCI",
  },
};
