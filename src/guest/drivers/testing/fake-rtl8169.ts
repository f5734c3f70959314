import type { AccessWidth, BarHandler } from "../../../contract/index.js";
import { FakePci } from "./fake-pci.js";

/** Where the C+ shows PHY registers 0, 1, 4, 5 and 6. */
const SHOWN = [0x62, 0x64, 0, 0, 0x66, 0x68, 0x6a];

/** Which chip of the family a fake is; by default the RTL8169SB. */
export interface FakeChip {
  readonly device?: number;
  readonly revid?: number;
  /** register 3 of the PHY */
  readonly phyId2?: number;
  /** the RTL8139C+: TPPoll at D9h, the PHY's registers as words from 62h on */
  readonly cplus?: boolean;
}

/**
 * An RTL8169SB, or another chip of the family, by raw numbers, which does nothing by itself: registers that keep what is written, a PHY, and the few bits that
 * clear themselves. A test looks at the rings and plays the chip. Accesses are logged as `W8 37=10` and `R16 3e`.
 */
export class FakeRtl8169 implements BarHandler {
  readonly pci: FakePci;
  readonly regs = new Uint8Array(256);
  readonly view = new DataView(this.regs.buffer);
  readonly phy = new Uint16Array(32); // page 0
  readonly phyPages = new Uint16Array(8 * 32); // the others
  readonly log: string[] = [];
  /** reads of CR that still show RST after a reset */
  slowReset = 0;
  /** PHY commands are never done */
  deadPhy = false;
  /** reads of PHYAR until a command is done, and commands given before the one before them was */
  slowPhy = 0;
  phyClashes = 0;
  #phyLeft = 0;
  #phyAnswer = 0;
  /** all reads are ones */
  gone = false;
  rxAt = 0;
  txAt = 0;
  /** runs at each write of TPPoll */
  onPoll: () => void = () => {};

  readonly #version: number;
  readonly #cplus: boolean;

  constructor(version = 0x1000_0000, chip: FakeChip = {}) {
    const { device = 0x8169, revid = 0x10, phyId2 = 0xc912, cplus = false } = chip;
    this.pci = new FakePci({ vendor: 0x10ec, device, revid });
    this.#version = version;
    this.#cplus = cplus;
    this.view.setUint32(0x40, version, true);
    this.regs.set([0x52, 0x54, 0, 7, 8, 9]);
    this.phy.set([0x1000, 0x7949, 0x001c, phyId2, 0x01e1]);
    if (cplus) this.phy[1] = 0x7809;
    this.phy[9] = 0x0300;
    this.phy[15] = 0x3000;
    this.phy[16] = 0x0040;
    if (!cplus) this.regs[0x6c] = 4;
    this.#showPhy();
    this.pci.bars.set(0x14, { type: "memory", size: 256, handler: this });
    this.pci.bars.set(0x10, { type: "ioport", size: 256, handler: this });
  }

  read(offset: number, width: AccessWidth): number {
    this.log.push(`R${8 * width} ${offset.toString(16)}`);
    if (this.gone) return 2 ** (8 * width) - 1;
    if (offset === 0x37 && this.slowReset > 0) {
      this.slowReset--;
      return 0x10;
    }
    if (offset === 0x60 && this.#phyLeft > 0 && --this.#phyLeft === 0) this.view.setUint32(0x60, this.#phyAnswer, true);
    if (offset === 0x50) return this.regs[0x50]! | 1; // nothing drives EEDO
    return width === 4
      ? this.view.getUint32(offset, true)
      : width === 2
        ? this.view.getUint16(offset, true)
        : this.regs[offset]!;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    this.log.push(`W${8 * width} ${offset.toString(16)}=${value.toString(16)}`);
    if (this.gone) return;
    if (offset === 0x3e) this.isr &= ~value;
    else if (offset === 0x60 && !this.#cplus) this.#phyAccess(value);
    else if (this.#cplus && offset >= 0x62 && offset <= 0x6a) this.#phyWrite(SHOWN.indexOf(offset), value);
    else if (offset === 0x40) this.view.setUint32(0x40, ((value & 0x030f_0700) | this.#version) >>> 0, true);
    else if (width === 4) this.view.setUint32(offset, value, true);
    else if (width === 2) this.view.setUint16(offset, value, true);
    else this.regs[offset] = value;
    if (offset === 0x37 && (value & 0x10) !== 0) this.regs[0x37] = 0;
    if (offset === 0x4c) this.view.setUint32(0x4c, 0, true);
    if (offset === 0x10) this.view.setUint32(0x10, (value & ~8) >>> 0, true);
    if (offset === 0x20 || offset === 0x24) this.txAt = 0;
    if (offset === 0xe4 || offset === 0xe8) this.rxAt = 0;
    const poll = this.#cplus ? 0xd9 : 0x38;
    if (offset === poll) {
      this.regs[poll] = 0;
      this.onPoll();
    }
  }

  #phyRead(reg: number): number {
    const page = this.phy[31]!;
    return page !== 0 && reg !== 31 ? this.phyPages[page * 32 + reg]! : this.phy[reg]!;
  }

  #phyWrite(reg: number, value: number): void {
    const page = this.phy[31]!;
    if (page !== 0 && reg !== 31) {
      this.phyPages[page * 32 + reg] = value;
      return;
    }
    if (reg !== 1 && reg !== 2 && reg !== 3) this.phy[reg] = value & 0xffff;
    if (reg === 0) this.phy[0]! &= 0x7dff; // RESET and STARTNEG clear themselves
    this.#showPhy();
  }

  /** What the C+ shows of its PHY. */
  #showPhy(): void {
    for (const [reg, at] of SHOWN.entries()) if (this.#cplus && at !== 0) this.view.setUint16(at, this.phy[reg]!, true);
  }

  #phyAccess(value: number): void {
    const reg = (value >>> 16) & 0x1f;
    let answer = value;
    if (value >>> 31 === 1) {
      this.#phyWrite(reg, value);
      answer = value & 0x7fff_ffff;
    } else answer = (value & 0x7fff_0000) | this.#phyRead(reg) | 0x8000_0000;
    if (this.#phyLeft > 0) this.phyClashes++;
    this.#phyLeft = this.slowPhy;
    this.#phyAnswer = answer >>> 0;
    this.view.setUint32(0x60, (this.deadPhy || this.slowPhy > 0 ? value : answer) >>> 0, true);
  }

  get isr(): number {
    return this.view.getUint16(0x3e, true);
  }
  set isr(value: number) {
    this.view.setUint16(0x3e, value, true);
  }
  get imr(): number {
    return this.view.getUint16(0x3c, true);
  }

  /** The cable: gigabit, or 100 Mb/s on the C+, full duplex. */
  setLink(up: boolean): void {
    if (this.#cplus) {
      this.phy[1] = up ? 0x782d : 0x7809;
      this.phy[5] = up ? 0x41e1 : 0;
      this.#showPhy();
      this.isr |= 0x20;
      return;
    }
    this.regs[0x6c] = up ? 0x13 : 4;
    this.phy[1] = up ? 0x796d : 0x7949;
    this.phy[5] = up ? 0x45e1 : 0;
    this.phy[10] = up ? 0x3c00 : 0;
    this.isr |= 0x20;
  }

  /** Raises causes and delivers the interrupt, as often as the line is up. */
  interrupt(causes: number, times = 16): void {
    this.isr |= causes;
    for (let i = 0; i < times && (this.isr & this.imr) !== 0; i++) this.pci.fire(0);
  }

  /** One descriptor of a ring in the device's copy of memory. */
  desc(base: 0x20 | 0xe4, index: number): number {
    return this.view.getUint32(base, true) + 16 * index - this.pci.memory.base;
  }

  /** Puts bytes into the next receive buffer; `opts1` replaces status and length. @returns whether the driver owns none */
  receive(bytes: readonly number[], opts1?: number, opts2 = 0): boolean {
    const { deviceView: v, device, base } = this.pci.memory;
    const at = this.desc(0xe4, this.rxAt);
    const command = v.getUint32(at, true);
    if (command >>> 31 === 0) return false;
    device.set(bytes, v.getUint32(at + 8, true) - base);
    v.setUint32(at + 4, opts2, true);
    v.setUint32(at, ((opts1 ?? 0x3000_0000 | (bytes.length + 4)) | (command & 0x4000_0000)) >>> 0, true);
    this.rxAt = (command & 0x4000_0000) !== 0 ? 0 : this.rxAt + 1;
    return true;
  }

  /** Sends what the ring holds. @returns the frames */
  send(): number[][] {
    const { deviceView: v, device, base } = this.pci.memory;
    const frames: number[][] = [];
    let frame: number[] = [];
    for (let n = 0; n < 1024; n++) {
      const at = this.desc(0x20, this.txAt);
      const opts1 = v.getUint32(at, true);
      if (opts1 >>> 31 === 0) break;
      if ((opts1 & 0x2000_0000) !== 0) frame = [];
      const from = v.getUint32(at + 8, true) - base;
      frame.push(...device.subarray(from, from + (opts1 & 0xffff)));
      if ((opts1 & 0x1000_0000) !== 0) frames.push(frame);
      v.setUint32(at, opts1 & 0x7000_ffff, true);
      this.txAt = (opts1 & 0x4000_0000) !== 0 ? 0 : this.txAt + 1;
    }
    return frames;
  }
}
