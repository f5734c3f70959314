import {
  PCI_CAP_FLAGS,
  PCI_CAP_ID_AF,
  PCI_CAP_ID_AGP3,
  PCI_CAP_ID_CCRC,
  PCI_CAP_ID_CHSWP,
  PCI_CAP_ID_DBG,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_CAP_ID_SECDEV,
  PCI_CAP_ID_SHPC,
  PCI_CAP_ID_SLOTID,
  PCI_CAP_ID_SSVID,
  PCI_CAP_ID_VNDR,
  PCI_CAP_ID_VPD,
  PCI_CAP_LIST_ID,
  PCI_CAP_LIST_NEXT,
  PCI_CAPABILITY_LIST,
  PCI_MSI_ADDRESS_HI,
  PCI_MSI_ADDRESS_LO,
  PCI_MSI_DATA_32,
  PCI_MSI_DATA_64,
  PCI_MSI_FLAGS_64BIT,
  PCI_MSI_FLAGS_ENABLE,
  PCI_MSI_FLAGS_MASKBIT,
  PCI_MSI_MASK_32,
  PCI_MSI_MASK_64,
  PCI_MSIX_FLAGS_ENABLE,
  PCI_MSIX_FLAGS_MASKALL,
  PCI_MSIX_FLAGS_QSIZE,
  PCI_MSIX_PBA,
  PCI_MSIX_TABLE,
  PCI_MSIX_TABLE_BIR,
  PCI_PM_CAP_D1,
  PCI_PM_CAP_D2,
  PCI_PM_CAP_DSI,
  PCI_PM_CAP_PME_CLOCK,
  PCI_PM_CAP_PME_D0,
  PCI_PM_CAP_PME_D1,
  PCI_PM_CAP_PME_D2,
  PCI_PM_CAP_PME_D3cold,
  PCI_PM_CAP_PME_D3hot,
  PCI_PM_CAP_VER_MASK,
  PCI_PM_CTRL,
  PCI_PM_CTRL_NO_SOFT_RESET,
  PCI_PM_CTRL_PME_ENABLE,
  PCI_PM_CTRL_PME_STATUS,
  PCI_PM_CTRL_STATE_MASK,
  PCI_PM_SIZEOF,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
} from "../../spec/pci.js";
import {
  VIRTIO_PCI_CAP_BAR,
  VIRTIO_PCI_CAP_CFG_TYPE,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_LEN,
  VIRTIO_PCI_CAP_LENGTH,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_OFFSET,
  VIRTIO_PCI_CAP_SIZE,
} from "../../spec/virtio.js";
import { type ConfigBytesReader, hex2, hex4, hex8 } from "./pci-function.js";

/** `NAME+` or `NAME-` */
export const flag = (name: string, value: number): string => `${name}${value !== 0 ? "+" : "-"}`;

/** mA by the field Aux_Current. PM 1.2 §3.2.3 */
const AUX_CURRENT = [0, 55, 100, 160, 220, 270, 320, 375];

/** Offsets that no header names: the notify multiplier behind a VirtIO capability, the bridge bits of power management. */
const VIRTIO_NOTIFY_MULTIPLIER = 16;
const PM_BRIDGE = 6;
const SSVID_VENDOR = 4;
const AF_CAP = 3;
const AF_CONTROL = 4;
const AF_STATUS = 5;

/** Prints capability lists as lspci of pciutils 3.9 does. Not decoded: AGP, PCI-X, HyperTransport, Express, SATA, EA. */
export class CapabilityPrinter {
  readonly #config: ConfigBytesReader;
  readonly #verbose: number;
  readonly #subsystem: (vendor: number, device: number) => string;
  readonly #lines: string[] = [];

  /** @param verbose 1 one line each, 2 and more all of it; @param subsystem prints a pair of ids */
  constructor(config: ConfigBytesReader, verbose: number, subsystem: (vendor: number, device: number) => string) {
    this.#config = config;
    this.#verbose = verbose;
    this.#subsystem = subsystem;
  }

  /** The lines of the whole list; ends on cycles and broken chains. */
  lines(): readonly string[] {
    const config = this.#config;
    if ((config.word(PCI_STATUS) & PCI_STATUS_CAP_LIST) === 0) return this.#lines;
    const seen = new Set<number>();
    let at = config.byte(PCI_CAPABILITY_LIST) & ~3;
    while (at !== 0) {
      if (!config.has(at, 4)) {
        this.#lines.push("\tCapabilities: <access denied>");
        break;
      }
      const head = `\tCapabilities: [${hex2(at)}] `;
      const id = config.byte(at + PCI_CAP_LIST_ID);
      if (seen.has(at)) {
        this.#lines.push(`${head}<chain looped>`);
        break;
      }
      if (id === 0xff) {
        this.#lines.push(`${head}<chain broken>`);
        break;
      }
      seen.add(at);
      const title = this.#lines.length;
      this.#lines.push("");
      this.#lines[title] = head + this.#decode(id, at);
      at = config.byte(at + PCI_CAP_LIST_NEXT) & ~3;
    }
    return this.#lines;
  }

  /** @returns what stands in the title; adds the lines below it */
  #decode(id: number, at: number): string {
    const config = this.#config;
    const flags = config.word(at + PCI_CAP_FLAGS);
    switch (id) {
      case 0:
        return "Null";
      case PCI_CAP_ID_PM:
        return this.#powerManagement(at, flags);
      case PCI_CAP_ID_VPD:
        this.#more("Not readable");
        return "Vital Product Data";
      case PCI_CAP_ID_SLOTID:
        return `Slot ID: ${flags & 0x1f} slots, ${flag("First", flags & 0x20)}, chassis ${hex2(flags >>> 8)}`;
      case PCI_CAP_ID_MSI:
        return this.#msi(at, flags);
      case PCI_CAP_ID_CHSWP:
        return "CompactPCI hot-swap <?>";
      case PCI_CAP_ID_VNDR:
        return `Vendor Specific Information: ${this.#virtio(at) ?? `Len=${hex2(flags & 0xff)} <?>`}`;
      case PCI_CAP_ID_DBG:
        return `Debug port: BAR=${flags >>> 13} offset=${hex4(flags & 0x1fff)}`;
      case PCI_CAP_ID_CCRC:
        return "CompactPCI central resource control <?>";
      case PCI_CAP_ID_SHPC:
        return "Hot-plug capable";
      case PCI_CAP_ID_SSVID:
        // Deviation: lspci prints no more of this line, not even its end; no function has it in its last dword.
        if (!config.has(at + SSVID_VENDOR, 4)) return "Subsystem: <?>";
        return `Subsystem: ${this.#subsystem(config.word(at + SSVID_VENDOR), config.word(at + SSVID_VENDOR + 2))}`;
      case PCI_CAP_ID_AGP3:
        return "AGP3 <?>";
      case PCI_CAP_ID_SECDEV:
        return "Secure device <?>";
      case PCI_CAP_ID_MSIX:
        return this.#msix(at, flags);
      case PCI_CAP_ID_AF:
        return this.#advancedFeatures(at);
      default:
        return `Capability ID 0x${hex2(id)} [${hex4(flags)}]`;
    }
  }

  #powerManagement(at: number, cap: number): string {
    const config = this.#config;
    const aux = AUX_CURRENT[(cap >>> 6) & 7];
    const pme = [
      flag("D0", cap & PCI_PM_CAP_PME_D0),
      flag("D1", cap & PCI_PM_CAP_PME_D1),
      flag("D2", cap & PCI_PM_CAP_PME_D2),
      flag("D3hot", cap & PCI_PM_CAP_PME_D3hot),
      flag("D3cold", cap & PCI_PM_CAP_PME_D3cold),
    ];
    this.#more(
      `Flags: ${flag("PMEClk", cap & PCI_PM_CAP_PME_CLOCK)} ${flag("DSI", cap & PCI_PM_CAP_DSI)} ` +
        `${flag("D1", cap & PCI_PM_CAP_D1)} ${flag("D2", cap & PCI_PM_CAP_D2)} AuxCurrent=${aux}mA PME(${pme.join(",")})`,
    );
    if (config.has(at + PCI_PM_CTRL, PCI_PM_SIZEOF - PCI_PM_CTRL)) {
      const control = config.word(at + PCI_PM_CTRL);
      this.#more(
        `Status: D${control & PCI_PM_CTRL_STATE_MASK} ${flag("NoSoftRst", control & PCI_PM_CTRL_NO_SOFT_RESET)} ` +
          `${flag("PME-Enable", control & PCI_PM_CTRL_PME_ENABLE)} DSel=${(control >>> 9) & 0xf} ` +
          `DScale=${(control >>> 13) & 3} ${flag("PME", control & PCI_PM_CTRL_PME_STATUS)}`,
      );
      const bridge = config.byte(at + PM_BRIDGE);
      if (bridge !== 0) this.#more(`Bridge: ${flag("PM", bridge & 0x80)} ${flag("B3", ~bridge & 0x40)}`);
    }
    return `Power Management version ${cap & PCI_PM_CAP_VER_MASK}`;
  }

  #msi(at: number, flags: number): string {
    const config = this.#config;
    const is64 = (flags & PCI_MSI_FLAGS_64BIT) !== 0;
    const data = at + (is64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
    const mask = at + (is64 ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32);
    if (config.has(at, data + 2 - at)) {
      const high = is64 ? hex8(config.long(at + PCI_MSI_ADDRESS_HI)) : "";
      this.#more(`Address: ${high}${hex8(config.long(at + PCI_MSI_ADDRESS_LO))}  Data: ${hex4(config.word(data))}`);
      if ((flags & PCI_MSI_FLAGS_MASKBIT) !== 0 && config.has(mask, 8))
        this.#more(`Masking: ${hex8(config.long(mask))}  Pending: ${hex8(config.long(mask + 4))}`);
    }
    return (
      `MSI: ${flag("Enable", flags & PCI_MSI_FLAGS_ENABLE)} Count=${1 << ((flags >>> 4) & 7)}/${1 << ((flags >>> 1) & 7)} ` +
      `${flag("Maskable", flags & PCI_MSI_FLAGS_MASKBIT)} ${flag("64bit", flags & PCI_MSI_FLAGS_64BIT)}`
    );
  }

  #msix(at: number, flags: number): string {
    const config = this.#config;
    if (config.has(at + PCI_MSIX_TABLE, 8))
      for (const [name, offset] of [
        ["Vector table", PCI_MSIX_TABLE],
        ["PBA", PCI_MSIX_PBA],
      ] as const) {
        const where = config.long(at + offset);
        this.#more(`${name}: BAR=${where & PCI_MSIX_TABLE_BIR} offset=${hex8((where & ~PCI_MSIX_TABLE_BIR) >>> 0)}`);
      }
    return (
      `MSI-X: ${flag("Enable", flags & PCI_MSIX_FLAGS_ENABLE)} Count=${(flags & PCI_MSIX_FLAGS_QSIZE) + 1} ` +
      `${flag("Masked", flags & PCI_MSIX_FLAGS_MASKALL)}`
    );
  }

  /** VIRTIO 1.2 §4.1.4; null for what is no such capability */
  #virtio(at: number): string | null {
    const config = this.#config;
    const length = config.byte(at + VIRTIO_PCI_CAP_LEN);
    const isVirtio = config.vendor === 0x1af4 && config.device >= 0x1000 && config.device <= 0x107f;
    if (!isVirtio || length < VIRTIO_PCI_CAP_SIZE || !config.has(at, length)) return null;
    const type = config.byte(at + VIRTIO_PCI_CAP_CFG_TYPE);
    let place =
      `BAR=${config.byte(at + VIRTIO_PCI_CAP_BAR)} offset=${hex8(config.long(at + VIRTIO_PCI_CAP_OFFSET))} ` +
      `size=${hex8(config.long(at + VIRTIO_PCI_CAP_LENGTH))}`;
    if (type === VIRTIO_PCI_CAP_NOTIFY_CFG && length >= VIRTIO_NOTIFY_MULTIPLIER + 4)
      place += ` multiplier=${hex8(config.long(at + VIRTIO_NOTIFY_MULTIPLIER))}`;
    this.#more(place);
    return `VirtIO: ${VIRTIO_CAP_NAMES[type] ?? "<unknown>"}`;
  }

  #advancedFeatures(at: number): string {
    const config = this.#config;
    if (!config.has(at + AF_CAP, 3)) return "PCI Advanced Features";
    const cap = config.byte(at + AF_CAP);
    this.#more(`AFCap: ${flag("TP", cap & 1)} ${flag("FLR", cap & 2)}`);
    this.#more(`AFCtrl: ${flag("FLR", config.byte(at + AF_CONTROL) & 1)}`);
    this.#more(`AFStatus: ${flag("TP", config.byte(at + AF_STATUS) & 1)}`);
    return "PCI Advanced Features";
  }

  /** A line below the title, for those who want it. */
  #more(line: string): void {
    if (this.#verbose >= 2) this.#lines.push(`\t\t${line}`);
  }
}

const VIRTIO_CAP_NAMES: { readonly [type: number]: string } = {
  [VIRTIO_PCI_CAP_COMMON_CFG]: "CommonCfg",
  [VIRTIO_PCI_CAP_NOTIFY_CFG]: "Notify",
  [VIRTIO_PCI_CAP_ISR_CFG]: "ISR",
  [VIRTIO_PCI_CAP_DEVICE_CFG]: "DeviceCfg",
};
