import type { AccessWidth, BarHandler, BarIndex, BarKind, Model, ResetKind, SavedState } from "../contract/index.js";
import type { RegisterMap } from "../regs/index.js";

/** Who a function says it is. PCI 3.0 §6.2.1 */
export interface Identity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId: number;
  /** base class << 16 | sub-class << 8 | programming interface */
  readonly classCode: number;
  /** default 0 */
  readonly subsystemVendorId?: number;
  /** default 0 */
  readonly subsystemId?: number;
}

/** A base address register and what stands behind it. PCI 3.0 §6.2.5 */
export interface BarDeclaration {
  readonly kind: BarKind;
  /** bytes; a power of two, at least 4 (I/O) or 16 (memory) */
  readonly size: number;
  /** memory only; default false */
  readonly prefetchable?: boolean;
  /** widths the handler takes; wider accesses are split, narrower ones and others are rejected. Default [1, 2, 4] */
  readonly accepts?: readonly AccessWidth[];
  /** the handler takes accesses at any offset; default false: they are split into aligned ones */
  readonly unaligned?: boolean;
  /** what a rejected read gives; default all ones */
  readonly rejected?: number;
  /** names for trace, ledger and documentation */
  readonly registers?: RegisterMap;
  /** without `read` it reads all ones, without `write` it takes writes and forgets them */
  readonly handler: Partial<BarHandler>;
}

/** The configuration bytes of a function as a capability sees them: its own effects, without a guest's masks. */
export interface ConfigBytes {
  get(offset: number, width: AccessWidth): number;
  set(offset: number, width: AccessWidth, value: number): void;
}

/** What a capability can ask of the function it stands in. */
export interface CapabilityHost extends ConfigBytes {
  /** `powered` or `messagesEnabled` changed: recomputes decoding, the DMA door and the INTx level before it returns. */
  changed(): void;
  /** Writes an interrupt message as DMA. @returns false: lost, since Bus Master is off or the function is not powered */
  send(vector: number, address: number, data: number): boolean;
  /** Resets the function, from inside a configuration write (D3hot → D0, FLR). */
  resetFunction(): void;
}

/**
 * One entry of the capability list. Bytes 0 and 1 (id, next) belong to the configuration space and are read-only;
 * `image`, `rw`, `w1c` and `live` cover the whole capability, those two included, and are read once. PCI 3.0 §6.7
 */
export interface Capability {
  readonly id: number;
  /** fixed offset, dword aligned, 0x40 … 0xFC; without it the space packs capabilities upwards from 0x40 */
  readonly at?: number;
  /** reset values */
  readonly image: Uint8Array;
  /** bits that follow what is written */
  readonly rw: Uint8Array;
  /** bits that a written 1 clears; none by default */
  readonly w1c?: Uint8Array;
  /** bits that only the capability itself changes, by `set`; none by default. A snapshot may hold any value of them. */
  readonly live?: Uint8Array;
  /** false in power states that answer configuration cycles only; default true */
  readonly powered?: boolean;
  /** true while the function interrupts by messages, so that INTx stays low; default false */
  readonly messagesEnabled?: boolean;
  /** Sends the message of a vector; only MSI and MSI-X have it. */
  signal?(vector: number): void;
  /** Told once, when the function is built, where it lies. */
  bind?(host: CapabilityHost, at: number): void;
  /** After a guest write that touched bytes `first` … `last` (from the capability's start), all bytes merged. */
  written?(first: number, last: number): void;
  /** Before a guest read of bytes `first` … `last`; may `set` what it shows. */
  beforeRead?(first: number, last: number): void;
  /** After the configuration bytes took their reset values again. */
  reset?(kind: ResetKind): void;
  /** State beyond the configuration bytes (the MSI-X table); `load` as in the contract's Stateful. */
  save?(): SavedState;
  load?(state: SavedState): void;
  /** After a snapshot put the configuration bytes back: recompute what was derived from them, with no effect outside. */
  restored?(): void;
}

/** One entry of the list from 100h on; its first four bytes (id, version, next) are the space's. PCI Express 3.0 §7.9.1 */
export interface ExtendedCapability {
  /** 1 … 0xffff */
  readonly id: number;
  /** 1 … 15 */
  readonly version: number;
  /** reset values, the header included; a multiple of 4 bytes. This and the others are read once. */
  readonly image: Uint8Array;
  /** bits that follow what is written */
  readonly rw: Uint8Array;
  /** bits that a written 1 clears; none by default */
  readonly w1c?: Uint8Array;
  /** bits that only the function itself changes; none by default */
  readonly live?: Uint8Array;
  /** bits that only power-on resets; none by default */
  readonly sticky?: Uint8Array;
  /** Told once, when the function is built, where it lies. */
  bind?(bytes: ConfigBytes, at: number): void;
}

/** A run of device-specific configuration bytes outside the capability list (a host bridge's registers). */
export interface ConfigRegisters {
  /** offset of the first byte; a multiple of the map's largest width */
  readonly at: number;
  readonly map: RegisterMap;
  /** After a guest write; `touched` are the hooks of the map. */
  written?(bytes: ConfigBytes, touched: number): void;
}

/** What a type 1 header has and a type 0 header has not. PCI-to-PCI Bridge Architecture 1.2 §3.2 */
export interface BridgeHeader {
  /** ports of 32 bits: the upper halves of the I/O window are writable; default false */
  readonly io32?: boolean;
  /** address bits of the prefetchable window; default 64 */
  readonly prefetchable?: "none" | 32 | 64;
  /** windows come out of reset with their base above their limit, as PCI Express ports have it; default false: 0 and 0 */
  readonly closed?: boolean;
  /** read-only bits of Secondary Status; default 0 */
  readonly secondaryStatusBits?: number;
  /** bits of the Secondary Latency Timer that can be written; default 0 */
  readonly secondaryLatencyMask?: number;
  /** bits of Bridge Control that can be written; default 0x0bff, as QEMU */
  readonly controlMask?: number;
}

/** All there is to say about a function before it is plugged. */
export interface FunctionDeclaration {
  /** for reports and listings */
  readonly name: string;
  readonly identity: Identity;
  /** default "none" */
  readonly interruptPin?: "none" | "INTA" | "INTB" | "INTC" | "INTD";
  /** the ROM is index 6: mem32, at least 2 KiB, its handler is never written; default {} */
  readonly bars?: { readonly [index in BarIndex]?: BarDeclaration };
  /** in the order of the list, that is, the first one is where the pointer at 0x34 points; default none */
  readonly capabilities?: readonly Capability[];
  /** makes the header one of type 1, with BARs 0 and 1 only, the ROM at 38h, and no subsystem; default: type 0 */
  readonly bridge?: BridgeHeader;
  /**
   * Gives the function 4096 bytes of configuration space, as PCI Express has it, and this list in it; it may be empty.
   * Default: 256 bytes.
   */
  readonly extended?: readonly ExtendedCapability[];
  /** default none */
  readonly registers?: readonly ConfigRegisters[];
  /** bits of Command that can be written; default 0x0507, as QEMU */
  readonly commandMask?: number;
  /** read-only bits of Status beside "capabilities list" (DEVSEL timing, 66 MHz, fast back-to-back); default 0 */
  readonly statusBits?: number;
  /** reset value of Command; default 0 (a host bridge has memory and Bus Master on) */
  readonly commandReset?: number;
  /** shows bit 7 of Header Type; default false */
  readonly multiFunction?: boolean;
  /** units of 250 ns; default 0 */
  readonly minGnt?: number;
  /** units of 250 ns; default 0 */
  readonly maxLat?: number;
  /** shown instead of the pointer of the list, for cards that show one without the Status bit (QEMU's rtl8139) */
  readonly capabilityPointer?: number;
  /** bits of the Latency Timer that can be written; default 0 (as QEMU) */
  readonly latencyMask?: number;
  readonly model: Model;
}
