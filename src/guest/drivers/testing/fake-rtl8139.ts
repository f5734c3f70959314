import type { AccessWidth, BarHandler } from "../../../contract/index.js";
import { FakePci } from "./fake-pci.js";

/**
 * An RTL8139C by raw numbers, which does nothing by itself: slots and a receive buffer that a test works. Accesses are logged
 * as `W8 37=10` and `R16 3e`.
 */
export class FakeRtl8139 implements BarHandler {
  readonly pci: FakePci;
  readonly regs = new Uint8Array(256);
  readonly view = new DataView(this.regs.buffer);
  readonly log: string[] = [];
  /** all reads are ones */
  gone = false;
  /** QEMU's trait: a write of RCR begins the receive buffer anew */
  restartsWithRcr = false;
  /** the slot that is sent next, and those whose TSD was written */
  slot = 0;
  readonly pending: number[] = [];

  constructor(revid = 0x10) {
    this.pci = new FakePci({ vendor: 0x10ec, device: 0x8139, revid });
    this.view.setUint32(0x40, 0x7400_0000, true);
    this.regs.set([0x52, 0x54, 0, 7, 8, 9]);
    this.#reset();
    this.view.setUint16(0x62, 0x1000, true);
    this.view.setUint16(0x64, 0x7809, true);
    this.view.setUint16(0x66, 0x01e1, true);
    this.pci.bars.set(0x14, { type: "memory", size: 256, handler: this });
    this.pci.bars.set(0x10, { type: "ioport", size: 256, handler: this });
  }

  #reset(): void {
    this.regs[0x37] = 1;
    this.view.setUint16(0x38, 0xfff0, true);
    this.view.setUint16(0x3a, 0, true);
    for (let slot = 0; slot < 4; slot++) this.view.setUint32(0x10 + 4 * slot, 0x2000, true);
    this.slot = 0;
    this.pending.length = 0;
  }

  read(offset: number, width: AccessWidth): number {
    this.log.push(`R${8 * width} ${offset.toString(16)}`);
    if (this.gone) return 2 ** (8 * width) - 1;
    if (offset === 0x37) this.regs[0x37] = (this.regs[0x37]! & 0xfe) | (this.cbr === this.readAt ? 1 : 0);
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
    else if (offset === 0x40) this.view.setUint32(0x40, ((value & 0x0307_07f0) | 0x7400_0000) >>> 0, true);
    else if (offset === 0x62) this.view.setUint16(0x62, value & 0x7dff, true);
    else if (width === 4) this.view.setUint32(offset, value, true);
    else if (width === 2) this.view.setUint16(offset, value, true);
    else this.regs[offset] = value;
    if (offset === 0x37 && (value & 0x10) !== 0) this.#reset();
    if (offset === 0x44 && this.restartsWithRcr) {
      this.view.setUint16(0x38, 0xfff0, true);
      this.view.setUint16(0x3a, 0, true);
    }
    if (offset === 0x4c) this.view.setUint32(0x4c, 0, true);
    if (offset >= 0x10 && offset < 0x20) this.pending.push((offset - 0x10) >> 2);
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
  get cbr(): number {
    return this.view.getUint16(0x3a, true);
  }
  /** Where the driver reads next. */
  get readAt(): number {
    return ((this.view.getUint16(0x38, true) + 16) & 0xffff) % 0x8000;
  }

  /** The cable: 100 Mb/s, full duplex. */
  setLink(up: boolean): void {
    this.view.setUint16(0x64, up ? 0x782d : 0x7809, true);
    this.view.setUint16(0x68, up ? 0x41e1 : 0, true);
    this.isr |= 0x20;
  }

  /** Raises causes and delivers the interrupt, as often as the line is up. */
  interrupt(causes: number, times = 16): void {
    this.isr |= causes;
    for (let i = 0; i < times && (this.isr & this.imr) !== 0; i++) this.pci.fire(0);
  }

  /** Puts a frame into the receive buffer, its FCS zeros; the tail runs past the end of the ring. */
  receive(bytes: readonly number[], status = 0x0001, total = bytes.length + 4): void {
    const { deviceView, device, base } = this.pci.memory;
    const at = this.view.getUint32(0x30, true) - base + this.cbr;
    deviceView.setUint16(at, status, true);
    deviceView.setUint16(at + 2, total, true);
    device.set(bytes, at + 4);
    this.view.setUint16(0x3a, ((this.cbr + 4 + bytes.length + 4 + 3) & ~3) % 0x8000, true);
  }

  /** Sends what the written slots hold. @param status of the finished slots; @returns the frames */
  send(status = 0xa000): number[][] {
    const { device, base } = this.pci.memory;
    const frames: number[][] = [];
    while (this.pending[0] === this.slot) {
      this.pending.shift();
      const tsd = this.view.getUint32(0x10 + 4 * this.slot, true);
      const from = this.view.getUint32(0x20 + 4 * this.slot, true) - base;
      frames.push([...device.subarray(from, from + (tsd & 0x1fff))]);
      this.view.setUint32(0x10 + 4 * this.slot, ((tsd & 0x003f_1fff) | status) >>> 0, true);
      this.slot = (this.slot + 1) % 4;
    }
    return frames;
  }
}
