/**
 * The seams of barwire: types only, no code, no imports.
 *
 * Life of a function behind them: built from options alone → `connect(seams)` when it is plugged → guest accesses,
 * `Work` and frames from the far end reach it → `save`/`load` at any access → `reset` → `disconnect` when unplugged.
 *
 * Values of guest accesses are unsigned: 0 … 2^(8·width)−1. Addresses are safe integers, 0 … 2⁵³−1.
 */

// ------------------------------------------------------------------------------------------------ accesses and slots

/** Bytes of one access as a device sees it; 8-byte accesses arrive as two of 4, low half first. */
export type AccessWidth = 1 | 2 | 4;

/** What stands behind a BAR. The region in front has clipped, aligned and sized every access before it arrives here. */
export interface BarHandler {
  /** @returns unsigned, at most `width` bytes wide */
  read(offset: number, width: AccessWidth): number;
  /** @param value unsigned, already cut to `width` bytes */
  write(offset: number, width: AccessWidth, value: number): void;
}

export type BarKind = "io" | "mem32" | "mem64";

/** Index of the expansion ROM where BARs are numbered (0 … 5 are the BARs of the header). */
export type BarIndex = 0 | 1 | 2 | 3 | 4 | 5 | 6;

/** What a slot tells about one of its BARs; fixed when the function is built. */
export interface BarInfo {
  readonly index: BarIndex;
  readonly kind: BarKind;
  /** bytes, a power of two */
  readonly size: number;
  readonly prefetchable: boolean;
}

/** Where a reset comes from. `power-on` and `bus` (RST#) clear everything, `function` is FLR or the D3hot→D0 transition. */
export type ResetKind = "power-on" | "bus" | "function";

/** Plain structured-cloneable data with a `version`; see each room's README for what is saved and what is recomputed. */
export type SavedState = { readonly [key: string]: unknown };

export interface Stateful {
  save(): SavedState;
  /** @throws StateError when the data is of another version, topology or shape; the object is then unchanged. */
  load(state: SavedState): void;
}

/** What passed a function's seams since it was built; not part of its state. */
export interface AccessCounters {
  readonly configReads: number;
  readonly configWrites: number;
  readonly barReads: number;
  readonly barWrites: number;
  /** rises of the delivered INTx level */
  readonly intxRises: number;
  /** messages handed to the host */
  readonly messages: number;
  /** messages that Bus Master or the power state kept in */
  readonly lostMessages: number;
  readonly refusedDma: number;
  /** accesses that came while the function was inside another one, and were refused */
  readonly nestedAccesses: number;
}

/**
 * The smallest thing an embedder holds: one PCI function. A foreign bridge (v86, a vfio-user server) needs nothing more.
 * No method throws because of what a guest did.
 */
export interface Slot extends Stateful {
  /** for reports and listings, for example `virtio-net` */
  readonly name: string;
  /** the implemented BARs (and the ROM as index 6), ascending */
  readonly bars: readonly BarInfo[];
  /** @param offset bytes, 0 … 255, or 0 … 4095 of a PCI Express function; an access that leaves its dword is split */
  configRead(offset: number, width: AccessWidth): number;
  configWrite(offset: number, width: AccessWidth, value: number): void;
  /** Reads a BAR whether it is decoded or not: decoding is the bridge's affair, see `barBase`. */
  barRead(bar: number, offset: number, width: AccessWidth): number;
  barWrite(bar: number, offset: number, width: AccessWidth, value: number): void;
  /** Address at which the BAR is decoded now; −1 while it is not (Command, power state, degenerate value). */
  barBase(bar: number): number;
  /** Called after every change of any `barBase`, before the access that caused it returns. */
  onBarsChanged(listener: () => void): Disposable;
  reset(kind: ResetKind): void;
  /** Wires the function. @throws ConfigError when it is connected already */
  connect(seams: HostSeams): void;
  /** Undoes `connect`: stops DMA, drops interrupts, forgets timers. Idempotent. */
  disconnect(): void;
  /** Delivers the wanted INTx level once more; for hosts that ask after an end of interrupt or an unmask. */
  resample(): void;
  /** A copy of the counters. */
  accessCounters(): AccessCounters;
}

/** A range of addresses or ports, end exclusive. */
export type AddressRange = readonly [start: number, end: number];

/** What a host puts behind a bridge; it routes by what the bridge says. */
export interface SecondaryBus {
  /** Windows, Bus Master or the hold of reset changed; called before the access that did it returns. */
  changed(): void;
  /** RST# on the secondary side: resets every function below. */
  reset(): void;
}

/**
 * A slot that leads to a bus of its own: a PCI-to-PCI bridge. All of it is as the guest programmed it, at this moment.
 * PCI-to-PCI Bridge Architecture 1.2
 */
export interface BridgeSlot extends Slot {
  readonly secondaryBus: number;
  /** highest bus number below; less than `secondaryBus` where nothing deeper is numbered */
  readonly subordinateBus: number;
  /** devices 0 … this one exist behind it: 31, or 0 behind a PCI Express port */
  readonly lastDevice: number;
  /** false while reset is held on the secondary side: nothing there answers */
  readonly running: boolean;
  /** DMA and messages from below go up: Bus Master, and running */
  readonly upstream: boolean;
  /** What it passes down of these accesses, ascending and disjoint; the same array while that does not change. */
  downstream(space: "io" | "memory"): readonly AddressRange[];
  /** Nobody behind it answered an access that it passed down. */
  masterAborted(): void;
  /** A device was plugged in behind it, or the last function of one went. @param device 0 … 31 */
  occupied(device: number, present: boolean): void;
  /** Puts a bus behind it, or takes it away with null. @throws ConfigError when there is one already */
  connectSecondary(bus: SecondaryBus | null): void;
}

/** The way up for a function behind bridges. */
export interface Upstream {
  /** whether every bridge above passes DMA and messages on */
  readonly open: boolean;
  /** Called after `open` changed. */
  onChanged(listener: () => void): Disposable;
}

/** What the host gives a function when it is plugged. */
export interface HostSeams {
  readonly memory: GuestMemory;
  readonly interrupts: HostInterrupts;
  readonly clock: Clock;
  readonly work: Work;
  readonly report: (diagnostic: Diagnostic) => void;
  /** Fixed for the time of this connection; both diagnose, `strict` refuses what hardware would not do. */
  readonly strictness: Strictness;
  /** the bridges above; absent where there are none, or where the host has them */
  readonly upstream?: Upstream;
}

export type Strictness = "lenient" | "strict";

/** What a function hands on to its model: the host's seams behind the function's own gates (Bus Master, masks, once). */
export interface FunctionSeams {
  readonly dma: DmaDoor;
  readonly interrupts: FunctionInterrupts;
  readonly clock: Clock;
  readonly work: Work;
  /** Reports a guest's mistake: the first of each `code` since reset reaches the host, the others are counted. `value` is the offending number. */
  readonly report: (code: string, value?: number) => void;
  readonly strictness: Strictness;
}

/** The part of a function that is not PCI: registers, rings, frames. `reset` may come before `connect`. */
export interface Model extends Stateful {
  connect(seams: FunctionSeams): void;
  disconnect(): void;
  reset(kind: ResetKind): void;
}

/** One thing a guest did wrong, told once per function, code and reset. */
export interface Diagnostic {
  /** name of the function, for example `virtio-net` */
  readonly source: string;
  /** kebab-case and stable, for example `chain-too-long` */
  readonly code: string;
  /** the offending number (address, index, value), 0 where there is none */
  readonly value: number;
  readonly strictness: Strictness;
}

// ------------------------------------------------------------------------------------------------ interrupts

/** A function's own view: levels and vectors, before INTx disable, MSI-X masks and Bus Master. */
export interface FunctionInterrupts {
  /** The INTx condition inside the function; shown in Status bit 3 whatever masks apply. PCI 3.0 §6.2.3 */
  setIntx(level: boolean): void;
  /** Sends the message of an MSI-X vector, or marks it pending while it is masked. Nothing happens while MSI-X is off. */
  signal(vector: number): void;
}

/** The host's side. A sink latches and returns: no guest code runs inside a call. */
export interface HostInterrupts {
  /** Delivered level of the function's pin; called on changes only, and by `resample`. */
  setIntx(level: boolean): void;
  /** A message: a 32-bit little-endian write of `data` to `address`; `vector` for hosts that go by number. */
  message(vector: number, address: number, data: number): void;
}

// ------------------------------------------------------------------------------------------------ work and time

/** Works a queue that a doorbell marked ready. */
export interface QueueRunner {
  /**
   * Uses at most `budget` descriptors of `queue`, re-arms notification and looks at the ring once more before it returns.
   * @returns descriptors used; a result of `budget` or more means that something may be left
   */
  runQueue(queue: number, budget: number): number;
}

/** One function's share of the host's scheduling. */
export interface Work {
  /** Names who works the queues; called once in the model's `connect`. */
  bind(runner: QueueRunner): void;
  /** A doorbell: runs the queue now, at the host's next poll point or at a deadline, as the host's policy says. */
  request(queue: number): void;
  /** Runs the queue before it returns, whatever the policy: control queues, on which guests spin. */
  runNow(queue: number): void;
  /** Forgets every mark; a reset calls it. */
  clear(): void;
}

/** Where a function reads the time, and nowhere else. */
export interface Clock {
  /** ns since an epoch of the host's choice; an integer that never goes back */
  now(): number;
  /** Makes a one-shot timer, idle at first. Make it once, in `connect`: arming allocates nothing. */
  timer(fire: () => void): Timer;
}

export interface Timer extends Disposable {
  /** ns on the clock; Infinity while idle */
  readonly deadline: number;
  /** Fires once at or after `deadline`; arming again moves the deadline. */
  arm(deadline: number): void;
  cancel(): void;
}

// ------------------------------------------------------------------------------------------------ memory

/** A piece of guest RAM that is contiguous in the host. */
export interface MemoryWindow {
  /** guest physical address of the first byte */
  readonly base: number;
  /** bytes */
  readonly size: number;
  readonly bytes: Uint8Array;
  /** over the same bytes */
  readonly view: DataView;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** Guest RAM as the host keeps it. */
export interface GuestMemory {
  /** Changes whenever a window comes, goes or is backed by other bytes; then nothing resolved before may be used. */
  readonly generation: number;
  /** sorted by base, disjoint */
  readonly windows: readonly MemoryWindow[];
  /** Told which addresses DMA wrote, `end` exclusive, merged per batch; null where nobody wants to know. */
  readonly written: ((start: number, end: number) => void) | null;
}

/**
 * A function's way into guest memory: range, overflow, Bus Master gate and the report of written bytes in one place.
 * A failed call changes nothing in memory, sets Status bit 13 (received master abort) and is the caller's to handle.
 */
export interface DmaDoor {
  /** false while Bus Master is off, in D3hot and during reset: every call below then fails */
  readonly open: boolean;
  /** Changes whenever something located before may have moved, gone or been locked; compare once per entry. */
  readonly generation: number;
  /** Set by a successful `locate`; valid until the next one and while `generation` stays. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** index of the located address in `bytes` and `view` */
  readonly at: number;
  /** Finds a range that lies whole in one readable window. @returns false: shut, not RAM, or across windows (use `read`) */
  locate(address: number, length: number): boolean;
  /** The same for writing; the caller owes a `wrote` for what it writes there. */
  locateWritable(address: number, length: number): boolean;
  /** Whether every byte of the range is readable RAM, in one window or several. */
  contains(address: number, length: number): boolean;
  /** Whether every byte of the range is writable RAM, in one window or several. */
  containsWritable(address: number, length: number): boolean;
  /** Copies from guest memory, gathering across windows; all or nothing. */
  read(address: number, length: number, target: Uint8Array, targetStart: number): boolean;
  /** Copies to guest memory, scattering across windows; all or nothing; reports the range itself. */
  write(address: number, length: number, source: Uint8Array, sourceStart: number): boolean;
  /** Notes bytes written through a located view. */
  wrote(address: number, length: number): void;
  /** Hands the noted ranges to the host; models call it once at the end of a batch. */
  flush(): void;
}

// ------------------------------------------------------------------------------------------------ network

/** What became of an offered frame. `later`: nothing was taken, offer it again after `ready`. */
export type Verdict = "taken" | "later" | "dropped";

/** What a frame still needs or promises, in virtio-net's terms (VIRTIO 1.2 §5.1.6); valid during the call only. */
export interface Offload {
  /** the checksum from `csumStart` to the end is still to be stored at `csumStart + csumOffset` */
  readonly needsCsum: boolean;
  /** bytes from the start of the frame */
  readonly csumStart: number;
  readonly csumOffset: number;
  /** the checksums were verified by a trusted sender */
  readonly dataValid: boolean;
  /**
   * What the frame is to be cut into: TCP segments, UDP datagrams of their own (`udp`, USO), or the IPv4 or IPv6
   * fragments of one UDP datagram (`udpfrag`, UFO). VIRTIO 1.2 §5.1.6
   */
  readonly gso: "none" | "tcp4" | "tcp6" | "udp" | "udpfrag";
  /**
   * bytes per segment behind its headers; 0 with `none`. With `udpfrag` it is what follows the IP headers, so the first
   * fragment's UDP header counts; fragments end at multiples of 8, so that it is rounded down to one.
   */
  readonly gsoSize: number;
  /** the segment carries ECN's CWR rules */
  readonly ecn: boolean;
}

/** What an endpoint can take as it is; asked per frame, may change, owned by the endpoint (do not keep). */
export interface EndpointLimits {
  readonly csum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly uso: boolean;
  /** takes datagrams that are to be fragmented; default false */
  readonly ufo?: boolean;
  /** takes segments with `ecn` as it takes others; default true */
  readonly ecn?: boolean;
  /** bytes without FCS */
  readonly longestFrame: number;
  /** as a sender it can hold a frame that was answered `later` */
  readonly holds: boolean;
}

/** Where frames go in: a card, a switch port, a tap, a socket. Whoever keeps a frame copies it during `offer`. */
export interface NetEndpoint {
  /**
   * Offers a frame without FCS. `bytes` may be the whole of guest RAM.
   * @param start index of the first byte; @param length bytes, 14 or more
   * @param offload null for a finished frame; @param queueHint flow or queue of the sender, 0 where it does not matter
   */
  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict;
  /** The sender has nothing more for now: raise the interrupt, flush the file. */
  endBatch(): void;
  /** The far end, which had answered `later`, can take frames for this queue hint again. */
  ready(queueHint: number): void;
  accepts(): EndpointLimits;
}

/**
 * One end of a cable: the card's own endpoint, and the place for the far one. Two ends are joined by `connect` of the
 * room `net`, never by attaching one to the other: a card hands over what its guest left unfinished whatever the far end
 * `accepts`, and it is the wire between them that finishes and cuts.
 */
export interface NetPort extends NetEndpoint {
  /** Plugs the far end in, or out with null; called by the wire. @throws ConfigError when something is plugged in already */
  attach(far: NetEndpoint | null): void;
}

/** Counters that every network card keeps; all but the drops count finished things. */
export interface NicCounters {
  readonly txFrames: number;
  readonly txBytes: number;
  readonly rxFrames: number;
  readonly rxBytes: number;
  /** frames for the guest that found no buffer */
  readonly rxNoBuffer: number;
  /** frames for the guest that the address filter, the link or a stopped receiver kept out */
  readonly rxFiltered: number;
  /** frames from the guest that were malformed, or met a link that was down */
  readonly txDropped: number;
  readonly descriptorsRead: number;
  /** bytes of frames copied by the card, both ways; what is handed on in place does not count */
  readonly bytesCopied: number;
  readonly doorbells: number;
  /** INTx rises and messages */
  readonly interrupts: number;
}

/** A network card in a slot. */
export interface Nic extends Slot {
  readonly net: NetPort;
  readonly mac: Uint8Array;
  /** The cable: plugs it in or pulls it. */
  setLink(up: boolean): void;
  readonly linkUp: boolean;
  counters(): NicCounters;
}

// ------------------------------------------------------------------------------------------------ the guest's side

/** bus << 8 | device << 3 | function */
export type Bdf = number;

/**
 * What a driver sees of a machine: an in-process `Machine`, a qtest client, an emulator. Synchronous.
 * Interrupts are delivered by `poll` and `delay` only, never inside an access.
 */
export interface GuestBus {
  /** All ones where no function answers. */
  configRead(bdf: Bdf, offset: number, width: AccessWidth): number;
  configWrite(bdf: Bdf, offset: number, width: AccessWidth, value: number): void;
  ioRead(port: number, width: AccessWidth): number;
  ioWrite(port: number, width: AccessWidth, value: number): void;
  memRead(address: number, width: AccessWidth): number;
  memWrite(address: number, width: AccessWidth, value: number): void;
  readonly dma: GuestDma;
  /** Calls `handler` while the ISA interrupt `irq` (0 … 15) is up, from `poll` and `delay`. */
  onLine(irq: number, handler: () => void): Disposable;
  /** Reserves a message-signalled vector; null when there is none left, or no such thing on this machine. */
  allocMessage(handler: () => void): MsiMessage | null;
  /** Lets the machine work and delivers what is pending. @returns whether a handler ran */
  poll(): boolean;
  /** Waits: moves a virtual clock, or really waits; delivers interrupts meanwhile. In the manner of DELAY(9). @param us microseconds */
  delay(us: number): void;
  /** ns */
  now(): number;
}

/** Address and data that a driver writes into an MSI or MSI-X entry. */
export interface MsiMessage extends Disposable {
  readonly address: number;
  readonly data: number;
}

/** From the view of host memory, as bus_dma(9) names them. */
export type DmaSyncOp = "preread" | "prewrite" | "postread" | "postwrite";

/**
 * DMA memory by accessors: there is no live view of it over a remote bus. What the driver wrote is visible to the device
 * after `sync(…, "prewrite")`; what the device wrote is visible to the driver after `sync(…, "postread")`.
 */
export interface GuestDma {
  /**
   * Reserves zeroed, contiguous memory. @param align power of two; @param below highest permitted last address
   * @returns the physical address, or −1 when there is no room
   */
  alloc(bytes: number, align: number, below: number): number;
  free(address: number, bytes: number): void;
  read8(address: number): number;
  read16(address: number): number;
  read32(address: number): number;
  write8(address: number, value: number): void;
  write16(address: number, value: number): void;
  write32(address: number, value: number): void;
  /** Copies out of DMA memory. */
  copyOut(address: number, target: Uint8Array, start: number, length: number): void;
  /** Copies into DMA memory. */
  copyIn(address: number, source: Uint8Array, start: number, length: number): void;
  sync(address: number, length: number, op: DmaSyncOp): void;
}
