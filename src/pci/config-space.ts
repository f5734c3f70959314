import { ConfigError, hex, StateError } from "../bytes/index.js";
import type { AccessWidth, ResetKind } from "../contract/index.js";
import {
  PCI_CACHE_LINE_SIZE,
  PCI_CAPABILITY_LIST,
  PCI_CLASS_PROG,
  PCI_COMMAND,
  PCI_CONFIG_SIZE,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_BRIDGE,
  PCI_HEADER_TYPE_MFD,
  PCI_HEADER_TYPE_NORMAL,
  PCI_INTERRUPT_LINE,
  PCI_INTERRUPT_PIN,
  PCI_LATENCY_TIMER,
  PCI_MAX_LAT,
  PCI_MIN_GNT,
  PCI_REVISION_ID,
  PCI_STATUS,
  PCI_STATUS_CAP_LIST,
  PCI_STATUS_INTERRUPT,
  PCI_STATUS_W1C,
  PCI_STD_HEADER_SIZEOF,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from "../spec/pci.js";
import type { Bar } from "./bar.js";
import { bridgeFields } from "./bridge-header.js";
import type { BridgeHeader, Capability, ConfigBytes, ConfigRegisters, FunctionDeclaration } from "./declaration.js";
import { ExtendedSpace } from "./extended-space.js";
import { allOnes, cutTo } from "./region.js";

/** As QEMU's devices: I/O, memory, Bus Master, SERR#, INTx disable. */
const DEFAULT_COMMAND_MASK = 0x0507;
const PINS = ["none", "INTA", "INTB", "INTC", "INTD"] as const;

/** Who is told about accesses to a run of bytes; offsets are those of configuration space, within one dword. */
interface ConfigOwner {
  written(first: number, last: number): void;
  beforeRead(first: number, last: number): void;
}

class CapabilityOwner implements ConfigOwner {
  readonly #capability: Capability;
  readonly #at: number;
  constructor(capability: Capability, at: number) {
    this.#capability = capability;
    this.#at = at;
  }
  written(first: number, last: number): void {
    this.#capability.written?.(first - this.#at, last - this.#at);
  }
  beforeRead(first: number, last: number): void {
    this.#capability.beforeRead?.(first - this.#at, last - this.#at);
  }
}

class RegistersOwner implements ConfigOwner {
  readonly #registers: ConfigRegisters;
  readonly #bytes: ConfigBytes;
  constructor(registers: ConfigRegisters, bytes: ConfigBytes) {
    this.#registers = registers;
    this.#bytes = bytes;
  }
  written(first: number, last: number): void {
    const { at, map } = this.#registers;
    let touched = 0;
    for (let i = first; i <= last; i++) touched |= map.hookAt[i - at]!;
    if (touched !== 0) this.#registers.written?.(this.#bytes, touched);
  }
  beforeRead(): void {}
}

/** Where a capability ended up. */
export interface PlacedCapability {
  readonly at: number;
  readonly capability: Capability;
}

/**
 * The 256 bytes of a function: a value, a writable and a write-1-to-clear image, byte by byte.
 *
 * `read`/`write` are the guest's: any width and alignment, side effects once after all bytes of a dword are merged.
 * `get`/`set` are the function's own and obey no mask.
 */
export class ConfigSpace implements ConfigBytes {
  /** in the order of the list */
  readonly capabilities: readonly PlacedCapability[];
  /** from 0x100 on; null: a conventional function */
  readonly extended: ExtendedSpace | null;
  readonly #reset = new Uint8Array(PCI_CONFIG_SIZE);
  readonly #rw = new Uint8Array(PCI_CONFIG_SIZE);
  readonly #w1c = new Uint8Array(PCI_CONFIG_SIZE);
  readonly #live = new Uint8Array(PCI_CONFIG_SIZE); // bits that change without the guest
  readonly #ownerAt = new Uint8Array(PCI_CONFIG_SIZE); // index into #owners; 0: nobody
  readonly #watched = new Uint8Array(PCI_CONFIG_SIZE); // 1 where a read is announced
  readonly #watchedDwords = new Uint8Array(PCI_CONFIG_SIZE / 4);
  readonly #owners: (ConfigOwner | null)[] = [null];

  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /**
   * @param headerWritten after a guest write to Command, Status, a BAR or what a type 1 header has besides
   * @throws ConfigError naming the value that does not fit
   */
  constructor(declaration: FunctionDeclaration, bars: readonly Bar[], headerWritten: () => void) {
    this.#bytes = this.#reset; // `put` writes reset values until the constructor is done
    this.#view = new DataView(this.#reset.buffer);
    this.#header(declaration);
    const header = this.#owner({ written: headerWritten, beforeRead: () => {} });
    this.#ownerAt.fill(header, PCI_COMMAND, PCI_STATUS + 2);
    for (const bar of bars) {
      this.#put(bar.at, 4, bar.typeBits, bar.writableLow);
      if (bar.kind === "mem64") this.#put(bar.at + 4, 4, 0, bar.writableHigh);
      this.#ownerAt.fill(header, bar.at, bar.at + (bar.kind === "mem64" ? 8 : 4));
    }
    if (declaration.bridge !== undefined) this.#bridge(declaration.name, declaration.bridge, header);
    this.#registers(declaration);
    this.capabilities = this.#place(declaration);
    this.#chain(declaration);
    this.extended =
      declaration.extended === undefined ? null : new ExtendedSpace(declaration.name, declaration.extended);
    this.#bytes = Uint8Array.from(this.#reset);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** @param offset bytes; what lies outside 0 … 255, or 0 … 4095 where it is extended, reads all ones */
  read(offset: number, width: AccessWidth): number {
    if (!(offset >= 0 && offset < PCI_CONFIG_SIZE)) return this.extended?.read(offset, width) ?? allOnes(width);
    if ((offset & 3) + width <= 4 && this.#watchedDwords[offset >> 2] === 0) return this.get(offset, width);
    return this.#readSplit(offset, width);
  }

  #readSplit(offset: number, width: AccessWidth): number {
    const low = Math.min(width, 4 - (offset & 3));
    const value = this.#readLanes(offset, low);
    if (low === width) return value;
    const high =
      offset + low < PCI_CONFIG_SIZE ? this.#readLanes(offset + low, width - low) : 2 ** (8 * (width - low)) - 1;
    return value + high * 2 ** (8 * low);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (!(offset >= 0 && offset < PCI_CONFIG_SIZE)) {
      this.extended?.write(offset, width, value);
      return;
    }
    const low = Math.min(width, 4 - (offset & 3));
    const lanes = cutTo(value, width);
    this.#writeLanes(offset, low, lanes);
    if (low < width && offset + low < PCI_CONFIG_SIZE) this.#writeLanes(offset + low, width - low, lanes >>> (8 * low));
  }

  get(offset: number, width: AccessWidth): number {
    if (width === 4) return this.#view.getUint32(offset, true);
    return width === 2 ? this.#view.getUint16(offset, true) : this.#bytes[offset]!;
  }

  set(offset: number, width: AccessWidth, value: number): void {
    if (width === 4) this.#view.setUint32(offset, value, true);
    else if (width === 2) this.#view.setUint16(offset, value, true);
    else this.#bytes[offset] = value;
  }

  /** Every byte back to its reset value; capabilities are told afterwards. */
  reset(kind: ResetKind): void {
    this.#bytes.set(this.#reset);
    this.extended?.reset(kind);
    for (const { capability } of this.capabilities) capability.reset?.(kind);
  }

  /** A copy of the bytes. */
  image(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** @throws StateError when a bit differs that no guest can have changed */
  check(image: Uint8Array, path: string): void {
    for (let at = 0; at < PCI_CONFIG_SIZE; at++) {
      const fixed = ~(this.#rw[at]! | this.#w1c[at]! | this.#live[at]!) & 0xff;
      if (((image[at]! ^ this.#reset[at]!) & fixed) !== 0)
        throw new StateError(
          path,
          `byte ${hex(at)} is ${hex(image[at]!)}: read-only bits ${hex(fixed)} are ${hex(this.#reset[at]! & fixed)} here`,
        );
    }
  }

  /** Puts checked bytes back; the caller calls `restored` on the capabilities when their own state is back, too. */
  restore(image: Uint8Array): void {
    this.#bytes.set(image);
  }

  #readLanes(at: number, count: number): number {
    const last = at + count - 1;
    for (let i = at; i <= last; i++)
      if (this.#watched[i] !== 0) {
        i = this.#endOfRun(i, last);
        this.#owners[this.#ownerAt[i]!]?.beforeRead(this.#startOfRun(i, at), i);
      }
    let value = 0;
    for (let i = last; i >= at; i--) value = value * 0x100 + this.#bytes[i]!;
    return value;
  }

  #writeLanes(at: number, count: number, value: number): void {
    const last = at + count - 1;
    for (let i = at, lanes = value; i <= last; i++, lanes >>>= 8) {
      const rw = this.#rw[i]!;
      this.#bytes[i] = (this.#bytes[i]! & ~rw & ~(this.#w1c[i]! & lanes)) | (lanes & rw);
    }
    for (let i = at; i <= last; i++) {
      const first = i;
      i = this.#endOfRun(i, last);
      this.#owners[this.#ownerAt[i]!]?.written(first, i);
    }
  }

  /** Last byte up to `last` that has the same owner as `at`. */
  #endOfRun(at: number, last: number): number {
    let end = at;
    while (end < last && this.#ownerAt[end + 1] === this.#ownerAt[at]) end++;
    return end;
  }

  #startOfRun(at: number, first: number): number {
    let start = at;
    while (start > first && this.#ownerAt[start - 1] === this.#ownerAt[at]) start--;
    return start;
  }

  // ---------------------------------------------------------------------------------------------- construction

  #owner(owner: ConfigOwner): number {
    return this.#owners.push(owner) - 1;
  }

  /** Reset value and writable bits of a field. */
  #put(at: number, width: AccessWidth, value: number, rw = 0): void {
    this.set(at, width, value);
    for (let i = 0; i < width; i++) this.#rw[at + i] = rw >>> (8 * i);
  }

  #header(d: FunctionDeclaration): void {
    const field = (name: string, value: number, max: number): number => {
      if (!(Number.isInteger(value) && value >= 0 && value <= max))
        throw new ConfigError("config-field", `${d.name}: ${name} ${hex(value)}; expected 0 … ${hex(max)}`);
      return value;
    };
    const { identity: id } = d;
    if (id.vendorId === 0xffff || id.vendorId === 0)
      throw new ConfigError("config-field", `${d.name}: vendorId ${hex(id.vendorId)} means that no function is there`);
    this.#put(PCI_VENDOR_ID, 2, field("vendorId", id.vendorId, 0xffff));
    this.#put(PCI_DEVICE_ID, 2, field("deviceId", id.deviceId, 0xffff));
    this.#put(
      PCI_COMMAND,
      2,
      field("commandReset", d.commandReset ?? 0, 0xffff),
      field("commandMask", d.commandMask ?? DEFAULT_COMMAND_MASK, 0xffff),
    );
    const status = field("statusBits", d.statusBits ?? 0, 0xffff);
    if ((status & (PCI_STATUS_W1C | PCI_STATUS_CAP_LIST | PCI_STATUS_INTERRUPT)) !== 0)
      throw new ConfigError(
        "config-field",
        `${d.name}: statusBits ${hex(status)}; expected read-only bits 5, 7, 9, 10`,
      );
    this.#put(PCI_STATUS, 2, status);
    this.#w1c[PCI_STATUS + 1] = PCI_STATUS_W1C >>> 8;
    this.#live[PCI_STATUS] = PCI_STATUS_INTERRUPT;
    this.#put(PCI_REVISION_ID, 1, field("revisionId", id.revisionId, 0xff));
    field("classCode", id.classCode, 0xff_ffff);
    this.#put(PCI_CLASS_PROG, 1, id.classCode & 0xff);
    this.#put(PCI_CLASS_PROG + 1, 2, id.classCode >>> 8);
    this.#put(PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
    this.#put(PCI_LATENCY_TIMER, 1, 0, field("latencyMask", d.latencyMask ?? 0, 0xff));
    const layout = d.bridge === undefined ? PCI_HEADER_TYPE_NORMAL : PCI_HEADER_TYPE_BRIDGE;
    this.#put(PCI_HEADER_TYPE, 1, layout | (d.multiFunction === true ? PCI_HEADER_TYPE_MFD : 0));
    this.#put(PCI_INTERRUPT_LINE, 1, 0, 0xff);
    this.#put(PCI_INTERRUPT_PIN, 1, PINS.indexOf(d.interruptPin ?? "none"));
    if (d.bridge !== undefined) return;
    this.#put(PCI_SUBSYSTEM_VENDOR_ID, 2, field("subsystemVendorId", id.subsystemVendorId ?? 0, 0xffff));
    this.#put(PCI_SUBSYSTEM_ID, 2, field("subsystemId", id.subsystemId ?? 0, 0xffff));
    this.#put(PCI_MIN_GNT, 1, field("minGnt", d.minGnt ?? 0, 0xff));
    this.#put(PCI_MAX_LAT, 1, field("maxLat", d.maxLat ?? 0, 0xff));
  }

  #bridge(name: string, bridge: BridgeHeader, owner: number): void {
    for (const { at, width, value, rw, w1c = 0 } of bridgeFields(name, bridge)) {
      this.#put(at, width, value, rw);
      for (let i = 0; i < width; i++) this.#w1c[at + i] = w1c >>> (8 * i);
      this.#ownerAt.fill(owner, at, at + width);
    }
  }

  #registers(d: FunctionDeclaration): void {
    for (const registers of d.registers ?? []) {
      const { at, map } = registers;
      if (!(Number.isInteger(at) && at >= PCI_STD_HEADER_SIZEOF && at + map.size <= PCI_CONFIG_SIZE))
        throw new ConfigError(
          "config-registers",
          `${d.name}: ${map.name} at ${hex(at)}+${hex(map.size)}; expected 0x40 … 0xff`,
        );
      const owner = this.#owner(new RegistersOwner(registers, this));
      for (const { at: from, width } of map.list)
        for (let i = from; i < from + width; i++) {
          this.#claim(d, at + i, owner, map.name);
          this.#reset[at + i] = map.resetImage[i]!;
          this.#rw[at + i] = map.rw[i]!;
          this.#w1c[at + i] = map.w1c[i]!;
          this.#live[at + i] = map.liveAt[i] !== 0 ? 0xff : 0;
        }
    }
  }

  #claim(d: FunctionDeclaration, at: number, owner: number, name: string): void {
    if (this.#ownerAt[at] !== 0)
      throw new ConfigError("capability-overlap", `${d.name}: ${name} overlaps something else at ${hex(at)}`);
    this.#ownerAt[at] = owner;
  }

  /** Fixed places first; the others go upwards from 0x40 into what is left. */
  #place(d: FunctionDeclaration): PlacedCapability[] {
    const capabilities = d.capabilities ?? [];
    for (const [i, capability] of capabilities.entries())
      if (capabilities.indexOf(capability) !== i)
        throw new ConfigError(
          "capability-twice",
          `${d.name}: one object stands twice for capability ${hex(capability.id)}`,
        );
    const places = new Map<Capability, number>();
    for (const capability of capabilities) {
      if (capability.at === undefined) continue;
      this.#occupy(d, capability, capability.at);
      places.set(capability, capability.at);
    }
    for (const capability of capabilities) {
      if (capability.at !== undefined) continue;
      const at = this.#freeFor(capability.image.length);
      if (at < 0)
        throw new ConfigError(
          "capability-space",
          `${d.name}: no room for capability ${hex(capability.id)} of ${capability.image.length} bytes below 0x100`,
        );
      this.#occupy(d, capability, at);
      places.set(capability, at);
    }
    return capabilities.map((capability) => ({ capability, at: places.get(capability)! }));
  }

  #freeFor(size: number): number {
    for (let at = PCI_STD_HEADER_SIZEOF; at + size <= PCI_CONFIG_SIZE; at += 4)
      if (this.#ownerAt.subarray(at, at + size).every((owner) => owner === 0)) return at;
    return -1;
  }

  #occupy(d: FunctionDeclaration, capability: Capability, at: number): void {
    const { id, image, rw, w1c, live } = capability;
    const fail = (code: string, why: string) =>
      new ConfigError(code, `${d.name}: capability ${hex(id)} at ${hex(at)}: ${why}`);
    const size = image.length;
    if (at % 4 !== 0 || at < PCI_STD_HEADER_SIZEOF || at + size > PCI_CONFIG_SIZE)
      throw fail(
        "capability-place",
        `${size} bytes; expected a multiple of 4 in 0x40 … ${hex(PCI_CONFIG_SIZE - size)}`,
      );
    if (size < 2 || rw.length !== size || (w1c ?? image).length !== size || (live ?? image).length !== size)
      throw fail("capability-images", "expected images of one length, at least 2 bytes");
    if (!(Number.isInteger(id) && id > 0 && id < 0xff)) throw fail("capability-id", "expected an id in 1 … 0xfe");
    const owner = this.#owner(new CapabilityOwner(capability, at));
    for (let i = 0; i < size; i++) {
      this.#claim(d, at + i, owner, `capability ${hex(id)}`);
      this.#reset[at + i] = image[i]!;
      if (i < 2) continue;
      this.#rw[at + i] = rw[i]!;
      this.#w1c[at + i] = w1c?.[i] ?? 0;
      this.#live[at + i] = live?.[i] ?? 0;
      if (((rw[i]! | (live?.[i] ?? 0)) & (w1c?.[i] ?? 0)) !== 0)
        throw fail("capability-images", `byte ${i} has a bit that is write-1-to-clear and something else`);
      if (capability.beforeRead === undefined) continue;
      this.#watched[at + i] = 1;
      this.#watchedDwords[(at + i) >> 2] = 1;
    }
  }

  /** Writes ids and next pointers: acyclic since every capability is visited once, in the order given. */
  #chain(d: FunctionDeclaration): void {
    let pointer = PCI_CAPABILITY_LIST;
    for (const { capability, at } of this.capabilities) {
      this.#reset[pointer] = at;
      this.#reset[at] = capability.id;
      this.#reset[at + 1] = 0;
      pointer = at + 1;
    }
    if (this.capabilities.length > 0) this.#reset[PCI_STATUS]! |= PCI_STATUS_CAP_LIST;
    if (d.capabilityPointer !== undefined) this.#reset[PCI_CAPABILITY_LIST] = d.capabilityPointer;
  }
}
