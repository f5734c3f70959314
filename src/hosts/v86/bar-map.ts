import type { AccessWidth, Slot } from "../../contract/index.js";
import { PCI_IO_SPACE_SIZE } from "../../spec/pci.js";
import type { Place } from "./place.js";
import { override, type V86Cpu, type V86Port } from "./v86.js";

/** Below this v86 keeps the ports of the mainboard, as its own PCI host does. */
const FIRST_IO_PORT = 0x1000;
/** I/O APIC, local APIC and BIOS: from here on the chipset decodes first. */
const END_OF_PCI_MEMORY = 0xfec0_0000;
const BLOCK_SHIFT = 17;

/** Told when guest code is in the middle of a memory access, where no interrupt may be raised. */
export interface MemoryAccess {
  begin(): void;
  end(): void;
}

/** A BAR and where it is decoded now. */
class Bar {
  readonly place: Place;
  readonly slot: Slot;
  readonly index: number;
  readonly size: number;
  readonly isIo: boolean;
  /** one entry per port; empty for memory */
  readonly ports: readonly BarPort[];
  base = -1;

  constructor(cpu: V86Cpu, place: Place, index: number, size: number, isIo: boolean) {
    this.place = place;
    this.slot = place.card;
    this.index = index;
    this.size = size;
    this.isIo = isIo;
    this.ports = isIo ? Array.from({ length: size }, (_, offset) => new BarPort(cpu, this, offset)) : [];
  }

  holds(address: number, width: number): boolean {
    return address >= this.base && address + width <= this.base + this.size;
  }
}

/** A port of an I/O BAR, as an entry of v86's port table. */
class BarPort implements V86Port {
  readonly device = this;
  readonly #cpu: V86Cpu;
  readonly #bar: Bar;
  readonly #offset: number;

  constructor(cpu: V86Cpu, bar: Bar, offset: number) {
    this.#cpu = cpu;
    this.#bar = bar;
    this.#offset = offset;
  }

  read8(): number {
    this.#bar.place.portAccesses++;
    return this.#bar.slot.barRead(this.#bar.index, this.#offset, 1);
  }
  read16(): number {
    return this.#read(2);
  }
  read32(): number {
    return this.#read(4);
  }
  write8(value: number): void {
    this.#bar.place.portAccesses++;
    this.#bar.slot.barWrite(this.#bar.index, this.#offset, 1, value & 0xff);
  }
  write16(value: number): void {
    this.#write(2, value & 0xffff);
  }
  write32(value: number): void {
    this.#write(4, value >>> 0);
  }

  #read(width: AccessWidth): number {
    if (this.#offset + width <= this.#bar.size) {
      this.#bar.place.portAccesses++;
      return this.#bar.slot.barRead(this.#bar.index, this.#offset, width);
    }
    let value = 0; // over the end of the BAR: each byte goes to its own port
    for (let i = width - 1; i >= 0; i--) {
      const at = (this.#bar.base + this.#offset + i) % PCI_IO_SPACE_SIZE;
      const port = this.#cpu.io.ports[at]!;
      value = value * 0x100 + port.read8.call(port.device, at);
    }
    return value;
  }

  #write(width: AccessWidth, value: number): void {
    const { place, slot, index, base, size } = this.#bar;
    if (this.#offset + width <= size) {
      place.portAccesses++;
      slot.barWrite(index, this.#offset, width, value);
      return;
    }
    for (let i = 0; i < width; i++) {
      const port = this.#cpu.io.ports[(base + this.#offset + i) % PCI_IO_SPACE_SIZE]!;
      port.write8.call(port.device, (value >>> (8 * i)) & 0xff);
    }
  }
}

/** 128 KiB of the memory space with BARs of ours in it; what they leave free belongs to who had it before. */
class Block {
  readonly bars: Bar[] = [];
  readonly #cpu: V86Cpu;
  readonly #number: number;
  readonly #access: MemoryAccess;
  readonly #read8;
  readonly #read32;
  readonly #write8;
  readonly #write32;

  constructor(cpu: V86Cpu, number: number, access: MemoryAccess) {
    this.#cpu = cpu;
    this.#number = number;
    this.#access = access;
    this.#read8 = cpu.memory_map_read8[number];
    this.#read32 = cpu.memory_map_read32[number];
    this.#write8 = cpu.memory_map_write8[number];
    this.#write32 = cpu.memory_map_write32[number];
    cpu.memory_map_read8[number] = this.read8;
    cpu.memory_map_read32[number] = this.read32;
    cpu.memory_map_write8[number] = this.write8;
    cpu.memory_map_write32[number] = this.write32;
  }

  restore(): void {
    this.#cpu.memory_map_read8[this.#number] = this.#read8;
    this.#cpu.memory_map_read32[this.#number] = this.#read32;
    this.#cpu.memory_map_write8[this.#number] = this.#write8;
    this.#cpu.memory_map_write32[this.#number] = this.#write32;
  }

  // Addresses come as signed numbers throughout.

  readonly read8 = (address: number): number => {
    const bar = this.#find(address >>> 0, 1);
    return bar === null ? (this.#read8?.(address) ?? 0xff) : this.#read(bar, address >>> 0, 1);
  };

  readonly read32 = (address: number): number => {
    const bar = this.#find(address >>> 0, 4);
    if (bar !== null) return this.#read(bar, address >>> 0, 4);
    if (!this.#touches(address >>> 0, 4)) return this.#read32?.(address) ?? -1;
    let value = 0; // over the edge of a BAR: each byte goes to its owner
    for (let i = 3; i >= 0; i--) {
      const at = (address + i) | 0;
      value = value * 0x100 + (this.#cpu.memory_map_read8[at >>> BLOCK_SHIFT]?.(at) ?? 0xff);
    }
    return value;
  };

  readonly write8 = (address: number, value: number): void => {
    const bar = this.#find(address >>> 0, 1);
    if (bar === null) this.#write8?.(address, value);
    else this.#write(bar, address >>> 0, 1, value & 0xff);
  };

  readonly write32 = (address: number, value: number): void => {
    const bar = this.#find(address >>> 0, 4);
    if (bar !== null) this.#write(bar, address >>> 0, 4, value >>> 0);
    else if (!this.#touches(address >>> 0, 4)) this.#write32?.(address, value);
    else
      for (let i = 0; i < 4; i++) {
        const at = (address + i) | 0;
        this.#cpu.memory_map_write8[at >>> BLOCK_SHIFT]?.(at, (value >>> (8 * i)) & 0xff);
      }
  };

  /** A 16-bit write that lies in one of our BARs; false: cut it in two, as v86 does. */
  write16(address: number, value: number): boolean {
    const bar = this.#find(address >>> 0, 2);
    if (bar === null) return false;
    this.#write(bar, address >>> 0, 2, value & 0xffff);
    return true;
  }

  #find(address: number, width: number): Bar | null {
    for (const bar of this.bars) if (bar.holds(address, width)) return bar;
    return null;
  }

  #touches(address: number, width: number): boolean {
    for (const bar of this.bars) if (address < bar.base + bar.size && address + width > bar.base) return true;
    return false;
  }

  #read(bar: Bar, address: number, width: AccessWidth): number {
    bar.place.memoryAccesses++;
    this.#access.begin();
    try {
      return bar.slot.barRead(bar.index, address - bar.base, width);
    } finally {
      this.#access.end();
    }
  }

  #write(bar: Bar, address: number, width: AccessWidth, value: number): void {
    bar.place.memoryAccesses++;
    this.#access.begin();
    try {
      bar.slot.barWrite(bar.index, address - bar.base, width, value);
    } finally {
      this.#access.end();
    }
  }
}

/**
 * Puts BARs into v86's port table and into its table of 128 KiB memory blocks.
 *
 * `remap` after every change of a BAR; it takes all out and puts in what is decoded now, since that happens a few dozen
 * times in the life of a guest. Where two BARs overlap, the lower function and then the lower index answers.
 */
export class BarMap {
  readonly #cpu: V86Cpu;
  readonly #access: MemoryAccess;
  #bars: readonly Bar[] = [];
  readonly #savedPorts = new Map<number, V86Port>();
  readonly #blocks = new Map<number, Block>();
  readonly #restoreWrite16: () => void;

  /** @param access told of each memory access of the guest */
  constructor(cpu: V86Cpu, access: MemoryAccess) {
    this.#cpu = cpu;
    this.#access = access;
    const former = cpu.mmap_write16;
    this.#restoreWrite16 = override(cpu, "mmap_write16", (address, value) => {
      const block = this.#blocks.get(address >>> BLOCK_SHIFT);
      if (block === undefined || !block.write16(address, value)) former.call(cpu, address, value);
    });
  }

  /** Takes the BARs of a card in; they are mapped by the next `remap`. */
  add(place: Place): void {
    const bars = place.card.bars.map(({ index, size, kind }) => new Bar(this.#cpu, place, index, size, kind === "io"));
    this.#bars = [...this.#bars, ...bars].sort((a, b) => a.place.devfn - b.place.devfn || a.index - b.index);
  }

  /** Takes the BARs of a card out, at once. */
  remove(place: Place): void {
    this.#bars = this.#bars.filter((bar) => bar.place !== place);
    this.remap();
  }

  remap(): void {
    this.clear();
    for (const bar of this.#bars) {
      bar.base = bar.slot.barBase(bar.index);
      if (bar.isIo) this.#mapPorts(bar);
      else this.#mapMemory(bar);
    }
  }

  /** Gives all ports and blocks back to who had them. */
  clear(): void {
    const { ports } = this.#cpu.io;
    // A card of v86 that moved over a port of ours meanwhile keeps it.
    for (const [at, saved] of this.#savedPorts) if (ports[at] instanceof BarPort) ports[at] = saved;
    this.#savedPorts.clear();
    for (const block of this.#blocks.values()) block.restore();
    this.#blocks.clear();
  }

  detach(): void {
    this.clear();
    this.#restoreWrite16();
  }

  #mapPorts(bar: Bar): void {
    if (bar.base < FIRST_IO_PORT || bar.base + bar.size > PCI_IO_SPACE_SIZE) return;
    for (const [offset, entry] of bar.ports.entries()) {
      const at = bar.base + offset;
      if (this.#savedPorts.has(at)) continue; // a lower BAR was first
      this.#savedPorts.set(at, this.#cpu.io.ports[at]!);
      this.#cpu.io.ports[at] = entry;
    }
  }

  #mapMemory(bar: Bar): void {
    const end = bar.base + bar.size;
    // RAM and what v86 decodes itself come first; above 4 GiB this CPU reaches nothing.
    if (bar.base < this.#cpu.memory_size[0]! || end > END_OF_PCI_MEMORY) return;
    for (let number = bar.base >>> BLOCK_SHIFT; number <= (end - 1) >>> BLOCK_SHIFT; number++) {
      let block = this.#blocks.get(number);
      if (block === undefined) {
        block = new Block(this.#cpu, number, this.#access);
        this.#blocks.set(number, block);
      }
      block.bars.push(bar);
    }
  }
}
