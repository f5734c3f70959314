import type { AccessWidth, Bdf, DmaSyncOp, GuestBus } from "../contract/index.js";

/**
 * The public probe interface: newbus's names and priorities (FreeBSD device_if.m, DEVICE_PROBE(9)), synchronous.
 * A driver's `probe` sees a read-only view and bids; the best bid's `attach` gets the device and its resources.
 */

export type Errno =
  | "ENXIO"
  | "EBUSY"
  | "ENOMEM"
  | "EINVAL"
  | "EFBIG"
  | "EMSGSIZE"
  | "ENOSPC"
  | "EOPNOTSUPP"
  | "EIO"
  | "ETIMEDOUT"
  | "EDOOFUS";

/** A failure with an errno, as kernels name it. */
export class BusError extends Error {
  readonly code: Errno;
  constructor(code: Errno, message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = new.target.name;
    this.code = code;
  }
}
/** The device is no longer there; code ENXIO. */
export class DeviceGoneError extends BusError {}
/** `cause` is what attach threw. */
export class AttachError extends BusError {}
/** Allocation, range or leak. */
export class ResourceError extends BusError {}
/** A driver gave up: the device did not do what its standard says. */
export class DriverError extends BusError {}

// Bids: DEVICE_PROBE(9). The largest wins; 0 ends the election at once; positive means "not mine".
export const BUS_PROBE_SPECIFIC = 0;
export const BUS_PROBE_VENDOR = -10;
export const BUS_PROBE_DEFAULT = -20;
export const BUS_PROBE_LOW_PRIORITY = -40;
export const BUS_PROBE_GENERIC = -100;
export const BUS_PROBE_HOOVER = -1_000_000;
export const BUS_PROBE_NOWILDCARD = -2_000_000_000;

// Passes: FreeBSD sys/bus.h.
export const BUS_PASS_ROOT = 0;
export const BUS_PASS_BUS = 10;
export const BUS_PASS_CPU = 20;
export const BUS_PASS_RESOURCE = 30;
export const BUS_PASS_INTERRUPT = 40;
export const BUS_PASS_TIMER = 50;
export const BUS_PASS_SCHEDULER = 60;
export const BUS_PASS_SUPPORTDEV = 100_000;
export const BUS_PASS_DEFAULT = 0x7fff_ffff;

export interface Bid {
  /** 0 or negative, see BUS_PROBE_* */
  readonly priority: number;
  /** printed when the driver attaches */
  readonly desc: string;
}

/** One row of a driver's match table; every field given must match. */
export interface PnpMatch {
  readonly vendor?: number;
  readonly device?: number;
  readonly subvendor?: number;
  readonly subdevice?: number;
  readonly revid?: number;
  readonly class?: number;
  /** bits of `class` that count; default all */
  readonly classMask?: number;
  /** a virtio child's device type */
  readonly deviceType?: number;
}

/** A kind of bus: P is what a probe sees, A what an attached driver holds. `parent` is the class whose drivers serve here, too. */
export interface BusClass<P extends object, A extends P> {
  readonly name: string;
  readonly parent?: BusClass<P, A>;
  /** never set: carries the types */
  readonly types?: { readonly probe: P; readonly attach: A };
  /** for the match table and the strings of events */
  readonly pnpinfo: (view: P) => string;
  readonly location: (view: P) => string;
  readonly matches: (view: P, match: PnpMatch) => boolean;
  /** What a probe sees of a child; default the ivars themselves, typed as P. */
  readonly view?: (ivars: A) => P;
  /** Places that a hint `at` may name, such as `pci0:0:4:0` and `pci0:4:0`. */
  readonly wiring?: (view: P) => readonly string[];
  /** Kind of child in words, for the line that says no driver attached, such as `network, ethernet`. */
  readonly describe?: (view: P) => string;
  readonly services?: BusServices<A>;
}

/** What a bus does for each of its children, whichever driver has it; every one is optional. FreeBSD bus_if.m */
export interface BusServices<A extends object> {
  /** Ranges and interrupts of a child, for its attach line and for listings. */
  resources?(ivars: A): DeviceInfo["resources"];
  /** A driver has won and is about to attach. @param nameunit for messages and as the owner of resources */
  attaching?(ivars: A, nameunit: string): void;
  /** The driver's attach has thrown: stops DMA before its memory is given back. */
  silence?(ivars: A): void;
  /** No driver any more, its scope is empty: takes back what it kept. @returns what that was, such as `irq 1` */
  detached?(ivars: A): readonly string[];
  /** The child is no longer there; its driver has not been told yet. */
  vanished?(ivars: A): void;
  /** The driver has suspended. */
  suspended?(ivars: A): void;
  /** The driver is about to resume. */
  resuming?(ivars: A): void;
  /** The driver has shut down: ends DMA and interrupts. */
  shutdown?(ivars: A): void;
}

export type DetachReason = "unload" | "rescan" | "surprise" | "shutdown";
export type DeviceState = "notpresent" | "alive" | "attaching" | "attached" | "busy" | "detaching" | "gone";

/** A driver for the children of one kind of bus. S is its softc. */
export interface Driver<P extends object, A extends P, S = void> {
  readonly name: string;
  readonly bus: BusClass<P, A>;
  /** read before `probe`: with a table, `probe` is asked only when a row matches */
  readonly pnp?: readonly PnpMatch[];
  /** default BUS_PASS_DEFAULT */
  readonly pass?: number;
  /** Bids for a child, or returns null: not mine. No side effect; the view has no method that could. */
  probe(view: P): Bid | null;
  /** Takes the device. What it throws undoes everything that went through `dev.resources`. @returns the softc */
  attach(dev: Device<A>): S;
  /** Gives the device up, hardware first. Throws BusError EBUSY to refuse, except for reason `surprise`. */
  detach?(dev: Device<A>, softc: S, why: DetachReason): void;
  /** Throws to veto. */
  suspend?(dev: Device<A>, softc: S): void;
  resume?(dev: Device<A>, softc: S): void;
  shutdown?(dev: Device<A>, softc: S): void;
  /** For a driver that is a bus: looks for children that came or went. */
  rescan?(dev: Device<A>, softc: S): void;
  /** Adds children that the bus cannot discover; may run again, so it adds none twice. */
  identify?(add: (ivars: A) => void): void;
}

/** A device as its driver holds it. */
export interface Device<A extends object> {
  /** `re0`, `vtnet0` */
  readonly nameunit: string;
  readonly unit: number;
  readonly state: DeviceState;
  /** the bus's side of this device: configuration space, resources, or the virtio transport */
  readonly bus: A;
  readonly resources: ResourceScope;
  /** while held, detach is refused with EBUSY */
  busy(): Disposable;
  /** prints `re0: message` */
  log(message: string): void;
  /** For a driver that is a bus itself: adds a child, then probe it and attach the winner by `probeAndAttach`. */
  addChild<P2 extends object, A2 extends P2>(bus: BusClass<P2, A2>, ivars: A2, hooks?: ChildHooks): ChildHandle;
}

/**
 * What a driver that is a bus hears about its child, whoever started the attach: `probeAndAttach`, or a driver registered
 * later. In FreeBSD's terms bus_driver_added, the result of device_probe_and_attach, and bus_child_detached.
 */
export interface ChildHooks {
  /** The child is for the driver of this name alone; its unit number, too, may be asked for. */
  readonly driver?: string;
  readonly unit?: number;
  /** A driver has won and is about to attach. What it throws fails the attach. */
  attaching?(): void;
  /** The driver's attach has returned. What it throws fails the attach, after the driver's detach. */
  attached?(): void;
  /** The driver's attach has thrown; its resources are released already. */
  failed?(): void;
  /** The driver has detached; its resources are released already. */
  detached?(): void;
}

/** The public call that DragonFly needed in 2011: probe and attach this child now. */
export interface ChildHandle extends Disposable {
  readonly nameunit: string | null;
  /** @returns whether a driver attached */
  probeAndAttach(): boolean;
  /** The child is no longer there: detaches with reason `surprise`, which nobody can refuse, and removes it. */
  vanish(): void;
}

/** Resources of one device, released in reverse order after detach and after a failed attach. */
export interface ResourceScope {
  use<T extends Disposable>(resource: T): T;
  defer(release: () => void): void;
}

/** A window of ports or device memory, allocated by a driver. Offsets are bytes from its start; outside it throws ResourceError. */
export interface BusSpace extends Disposable {
  readonly type: "memory" | "ioport";
  readonly rid: number;
  /** port or physical address of the first byte */
  readonly start: number;
  /** bytes */
  readonly size: number;
  read1(offset: number): number;
  read2(offset: number): number;
  read4(offset: number): number;
  write1(offset: number, value: number): void;
  write2(offset: number, value: number): void;
  write4(offset: number, value: number): void;
}

export interface Irq extends Disposable {
  /** 0: INTx; 1 … n: messages */
  readonly rid: number;
  readonly kind: "intx" | "msi" | "msix";
  /** the ISA interrupt for intx, the message's data for the others */
  readonly number: number;
}

/** What a filter found; at least one of handled or schedule unless stray. BUS_SETUP_INTR(9) */
export type FilterResult = "stray" | "handled" | "schedule" | "handled+schedule";
export interface InterruptHandler {
  /** runs at once; without it the handler is scheduled */
  filter?(): FilterResult;
  /** runs after all filters of the line, once per burst, never re-entrantly, never after teardown */
  handler?(): void;
}

/** An installed handler; disposing it is the teardown. */
export interface InterruptCookie extends Disposable {
  /** Runs `handler` (not the filter) at the next `poll`, as if a filter had said so: for a handler that used up its budget. */
  schedule(): void;
}

/** What a probe of a PCI function sees: read when the function was found, without an access of its own. */
export interface PciProbe {
  readonly bdf: Bdf;
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  /** 24 bits: base class, sub-class, programming interface */
  readonly class: number;
  readonly revid: number;
  /** 0: none, 1 … 4: INTA … INTD */
  readonly intpin: number;
  /** Interrupt Line as firmware left it */
  readonly irq: number;
  /** Offset of a capability, or null; terminates on cyclic lists. */
  findCap(id: number, after?: number): number | null;
  /** The same for PCI Express extended capabilities, from 0x100 on; null on a machine without them. */
  findExtCap(id: number, after?: number): number | null;
  readConfig(offset: number, width: AccessWidth): number;
}

/** What an attached PCI driver holds: the bus's services. FreeBSD pci_if.m, bus_if.m */
export interface PciAttach extends PciProbe {
  writeConfig(offset: number, width: AccessWidth, value: number): void;
  enableBusMaster(on: boolean): void;
  /** @param rid offset of the BAR: 0x10 + 4·n, 0x30 for the ROM. Sets the decode bit. @throws ResourceError ENXIO, EBUSY */
  alloc(type: "memory" | "ioport", rid: number): BusSpace;
  allocIntx(options?: { readonly exclusive?: boolean }): Irq;
  /** Messages that the function could send; 0 without the capability. */
  msiCount(): number;
  msixCount(): number;
  /** @returns at most n (a power of two), at least one; @throws ResourceError */
  allocMsi(n: number): Irq[];
  /** @returns at most n, at least one; the BAR of the table must be allocated first; @throws ResourceError */
  allocMsix(n: number): Irq[];
  setupIntr(irq: Irq, handler: InterruptHandler): InterruptCookie;
  dmaTag(constraints?: Partial<DmaConstraints>): DmaTag;
  /** D0 … D3hot; 0 without the capability. */
  getPowerState(): number;
  /** @throws ResourceError EOPNOTSUPP when the function has no such state */
  setPowerState(state: number): void;
  /** for drivers of buses: the machine itself */
  readonly machine: GuestBus;
}

/** bus_dma(9): what a device can reach. */
export interface DmaConstraints {
  /** power of two; the start of every segment */
  readonly alignment: number;
  /** power of two or 0; no segment crosses a multiple */
  readonly boundary: number;
  /** highest reachable address */
  readonly lowaddr: number;
  /** bytes over all segments */
  readonly maxsize: number;
  readonly nsegments: number;
  readonly maxsegsz: number;
}

export interface DmaTag extends Disposable {
  readonly constraints: Readonly<DmaConstraints>;
  /** @throws ResourceError EINVAL; never looser than this one */
  child(constraints: Partial<DmaConstraints>): DmaTag;
  /** One zeroed contiguous segment. @throws ResourceError ENOMEM */
  alloc(bytes: number): DmaMemory;
  /** Makes a map: segments that the device may reach for this list. @throws ResourceError EFBIG, EINVAL */
  load(source: Iterable<Segment>): DmaMap;
}

/** Static DMA memory by accessors; offsets are bytes from its start. What `sync` promises stands in the contract's GuestDma. */
export interface DmaMemory extends Disposable {
  /** physical address of the first byte */
  readonly paddr: number;
  /** bytes */
  readonly size: number;
  read8(offset: number): number;
  read16(offset: number): number;
  read32(offset: number): number;
  write8(offset: number, value: number): void;
  write16(offset: number, value: number): void;
  write32(offset: number, value: number): void;
  copyOut(offset: number, target: Uint8Array, start: number, length: number): void;
  copyIn(offset: number, source: Uint8Array, start: number, length: number): void;
  sync(offset: number, length: number, op: DmaSyncOp): void;
}

export interface DmaMap extends Disposable {
  readonly segments: readonly Segment[];
  sync(op: DmaSyncOp): void;
}

export interface Segment {
  readonly paddr: number;
  /** bytes */
  readonly len: number;
}

export type BusEvent =
  | {
      readonly kind: "attach" | "detach" | "nomatch";
      readonly nameunit: string | null;
      readonly location: string;
      readonly pnpinfo: string;
      readonly parent: string;
    }
  | { readonly kind: "attach-failed"; readonly nameunit: string; readonly error: BusError }
  | { readonly kind: "leak"; readonly nameunit: string; readonly resource: string };

/** One device of the tree, for formatters. */
export interface DeviceInfo {
  readonly nameunit: string | null;
  readonly desc: string;
  readonly state: DeviceState;
  /** `disabled` by a hint, `suspended` */
  readonly flags?: readonly ("disabled" | "suspended")[];
  /** name of the bus class it hangs on; "" for the root */
  readonly bus: string;
  readonly pnpinfo: string;
  readonly location: string;
  readonly resources: readonly {
    readonly type: "memory" | "ioport" | "irq";
    readonly rid: number;
    readonly start: number;
    readonly end: number;
  }[];
  readonly children: readonly DeviceInfo[];
}

// ------------------------------------------------------------------------------------------------ network interfaces

/** Interface flags, net/if.h. */
export const IFF_UP = 0x1;
export const IFF_BROADCAST = 0x2;
export const IFF_LOOPBACK = 0x8;
export const IFF_RUNNING = 0x40;
export const IFF_PROMISC = 0x100;
export const IFF_ALLMULTI = 0x200;
export const IFF_OACTIVE = 0x400;
export const IFF_SIMPLEX = 0x800;
export const IFF_MULTICAST = 0x8000;

/** What the link is set to and what it is. ifmedia(4) */
export interface Media {
  /** `autoselect`, or a forced subtype such as `100baseTX` */
  readonly selected: string;
  /** subtype in use, such as `1000baseT`; null while unknown */
  readonly active: string | null;
  /** such as `full-duplex` */
  readonly options: readonly string[];
  /** whether the driver says that `status` holds */
  readonly valid: boolean;
  readonly status: "active" | "no carrier";
}

export interface IfCounters {
  readonly ipackets: number;
  readonly ibytes: number;
  readonly ierrors: number;
  /** frames the hardware had no buffer for, as far as it tells */
  readonly iqdrops: number;
  readonly opackets: number;
  readonly obytes: number;
  readonly oerrors: number;
}

/** Into what a frame is cut, or was before it arrived in one piece: `udp` are datagrams, `udpfrag` fragments of one. */
export type SegmentKind = "none" | "tcp4" | "tcp6" | "udp" | "udpfrag";

/** What the card is to do to a frame to send; read during the call only, so that one record serves for all. */
export interface TxOffload {
  /** bytes from the start of the frame to the transport header: the checksum from there on is the card's to store */
  readonly csumStart: number;
  /** bytes from there to the checksum, which holds the sum of the pseudo header */
  readonly csumOffset: number;
  readonly gso: SegmentKind;
  /** payload bytes of each segment, for `udpfrag` of IP's payload; 0 with `none` */
  readonly gsoSize: number;
  /** bytes of all headers, of which each segment gets a copy (a fragment those of IP only); 0 with `none` */
  readonly hdrLen: number;
  /** CWR is set and belongs to the first segment only, RFC 3168 */
  readonly ecn: boolean;
}

/** What the card says about a received frame; the driver's, valid during the call. */
export interface RxOffload {
  /**
   * `none`: nobody has looked at the checksum of TCP or UDP; `valid`: it is right; `partial`: the frame has never been on
   * a wire, and the checksum is still to be stored as `csumStart` and `csumOffset` say
   */
  readonly csum: "none" | "valid" | "partial";
  readonly csumStart: number;
  readonly csumOffset: number;
  /** other than `none`: several segments that arrive as one */
  readonly gso: SegmentKind;
  /** payload bytes that each of them had; 0 with `none` */
  readonly gsoSize: number;
  readonly ecn: boolean;
  /** tag control information of an 802.1Q tag that the card took out of the frame; absent or −1: none */
  readonly vlan?: number;
  /** the card's hash of the flow, and what it is made of as VIRTIO_NET_HASH_REPORT_* has it; absent or 0: it tells none */
  readonly hash?: number;
  readonly hashReport?: number;
}

/**
 * A network interface as its driver offers it: ifnet(9)'s face. Frames are in DMA memory, without FCS; the driver does
 * every `sync` of them.
 */
export interface Ifnet {
  /** `re0` */
  readonly name: string;
  readonly flags: number;
  /** bytes of payload; setting throws BusError EINVAL outside what the card can do */
  mtu: number;
  readonly lladdr: Uint8Array;
  /** IFCAP_* bits that the card has */
  readonly capabilities: number;
  /** IFCAP_* bits in use */
  readonly capenable: number;
  /**
   * Switches offloads; other bits stay as they are. TSO goes with TXCSUM, LRO with RXCSUM.
   * @throws BusError EOPNOTSUPP for bits that the card does not have
   */
  setCapenable(bits: number): void;
  media(): Media;
  counters(): IfCounters;
  /** Brings the interface up (RUNNING) or down. */
  up(): void;
  down(): void;
  setPromisc(on: boolean): void;
  setAllmulti(on: boolean): void;
  /** Replaces the list of multicast groups. */
  setMulticast(groups: readonly Uint8Array[]): void;
  setLladdr(mac: Uint8Array): void;
  /** Forces a medium or goes back to `autoselect`. @throws BusError EOPNOTSUPP */
  setMedia(selected: string): void;
  /**
   * Queues a frame made of `segments` of DMA memory, in order; they stay untouched until `sent` tells.
   * A frame that the card cannot take (too long, too many pieces, out of its reach) is dropped and counted in `oerrors`;
   * `sent` tells about it in its turn, too.
   * @returns false when the ring is full, the interface is not RUNNING or has no carrier: nothing was queued; try again
   *   after `onSent` or `onLink`
   * @param offload what is left to the card; a frame with one that is not in `capenable` is dropped, too
   * @param vlan tag control information of an 802.1Q tag that the card is to insert, IFCAP_VLAN_HWTAGGING; default −1: none
   * @param flow chooses among the queues of a card that has several; frames with the same number stay in order. Default −1:
   *   as addresses and ports in the frame say
   */
  transmit(frame: FrameSegments, offload?: TxOffload | null, vlan?: number, flow?: number): boolean;
  /** Rings the doorbell for what `transmit` queued. */
  kick(): void;
  /**
   * Takes received frames, from within `poll`/`delay`: in DMA memory, valid during the call only.
   * `address` and `length` name the first piece; `more` further pieces of a merged frame, in order, or null.
   * `offload` is there when the card looks into frames.
   */
  onReceive: ((address: number, length: number, more: FrameSegments | null, offload?: RxOffload) => void) | null;
  /** Told how many queued frames the card has finished with, in the order in which they were queued. */
  onSent: ((frames: number) => void) | null;
  /** Told about carrier changes. */
  onLink: ((active: boolean) => void) | null;
}

/** A reusable list of pieces of DMA memory: parallel arrays, so that a frame costs no garbage. */
export interface FrameSegments {
  count: number;
  readonly paddr: Float64Array;
  readonly len: Uint32Array;
}
