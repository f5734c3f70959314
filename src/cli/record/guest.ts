import type { AccessWidth } from "../../contract/index.js";
import type { NetworkPeer, Qemu, QtestLink } from "../../hosts/qtest/index.js";
import type { RecordedEvent } from "./event.js";

const SUFFIX = { 1: "b", 2: "w", 4: "l" } as const;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const RESET_CONTROL = 0xcf9;
/** PIIX3, 00:01.0: which ISA interrupts PIRQA–D are. No firmware has run. */
const PIIX3 = 1;
const PIRQ_ROUTES = 0x60;
const ROUTES = 0x0b0b0a0a;

/** the machine's own timers: PIT and clock */
const OWN_IRQS = [0, 8];
/** Requests in whose turns QEMU notices what there is to do, does it, and reads what its back end had kept. */
const SETTLE_TRIPS = 4;
const UNUSED_PORT = 0x80;

const hex = (value: number): string => `0x${value.toString(16)}`;
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/**
 * The guest of a real QEMU, all of whose accesses become lines of a conversation. What happens by itself (interrupts, frames
 * that a card sends) is told where it is noticed: `settle` waits for it.
 */
export class RecordingGuest {
  readonly events: RecordedEvent[] = [];
  readonly qemu: Qemu;
  readonly #link: QtestLink;
  readonly #networks: readonly NetworkPeer[];
  /** stores to RAM and CONFIG_ADDRESS, of which nothing comes: they go out with the next request */
  readonly #queued: string[] = [];
  /** frames that cards sent since somebody last took them */
  readonly sent: Uint8Array[] = [];
  /** frames that came from outside so far */
  injected = 0;

  /** @param qemu with the accelerator `qtest`; @param nics ids of its networks, which are pairs of sockets */
  constructor(qemu: Qemu, nics: readonly string[]) {
    this.qemu = qemu;
    this.#link = qemu.link;
    this.#networks = nics.map((id) => qemu.network(id));
    this.#link.irqInterceptIn("ioapic");
    this.#link.onIrq((num, up) => {
      if (!OWN_IRQS.includes(num)) this.events.push({ op: "irq", num, level: up ? 1 : 0 });
    });
  }

  note(text: string): void {
    this.events.push({ op: "note", text });
  }

  in(width: AccessWidth, port: number): number {
    return this.#asked(`in${SUFFIX[width]}`, width, port);
  }

  out(width: AccessWidth, port: number, value: number): void {
    this.#told({ op: `out${SUFFIX[width]}`, addr: hex(port), size: width, value: hex(value) });
    const line = `out${SUFFIX[width]} ${hex(port)} ${hex(value)}`;
    if (port === CONFIG_ADDRESS) this.#queued.push(line);
    else this.#command(line);
  }

  read(width: AccessWidth, address: number): number {
    return this.#asked(`read${SUFFIX[width]}`, width, address);
  }

  write(width: AccessWidth, address: number, value: number): void {
    this.#told({ op: `write${SUFFIX[width]}`, addr: hex(address), size: width, value: hex(value) });
    this.#command(`write${SUFFIX[width]} ${hex(address)} ${hex(value)}`);
  }

  /** A block of RAM. */
  get(address: number, size: number): Buffer {
    const bytes = Buffer.from(this.#command(`b64read ${hex(address)} ${hex(size)}`), "base64");
    this.events.push({ op: "read", addr: hex(address), size, data: hexOf(bytes) });
    return bytes;
  }

  put(address: number, bytes: Uint8Array): void {
    const data = hexOf(bytes);
    this.#told({ op: "write", addr: hex(address), size: bytes.length, data });
    this.#queued.push(`write ${hex(address)} ${hex(bytes.length)} 0x${data}`);
  }

  put16(address: number, value: number): void {
    this.put(address, Uint8Array.of(value & 0xff, (value >>> 8) & 0xff));
  }

  put32(address: number, value: number): void {
    this.put(address, Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24));
  }

  get16(address: number): number {
    return this.get(address, 2).readUInt16LE(0);
  }

  get32(address: number): number {
    return this.get(address, 4).readUInt32LE(0);
  }

  fill(address: number, size: number, value = 0): void {
    this.#told({ op: "memset", addr: hex(address), size, value: hex(value) });
    this.#queued.push(`memset ${hex(address)} ${hex(size)} ${hex(value)}`);
  }

  /** @param bdf bus << 8 | device << 3 | function */
  configRead(bdf: number, offset: number, width: AccessWidth): number {
    this.out(4, CONFIG_ADDRESS, (0x8000_0000 | (bdf << 8) | (offset & 0xfc)) >>> 0);
    return this.in(width, CONFIG_DATA + (offset & 3));
  }

  configWrite(bdf: number, offset: number, width: AccessWidth, value: number): void {
    this.out(4, CONFIG_ADDRESS, (0x8000_0000 | (bdf << 8) | (offset & 0xfc)) >>> 0);
    this.out(width, CONFIG_DATA + (offset & 3), value);
  }

  /** Lets time pass, ns. @returns the virtual clock */
  clockStep(ns: number): number {
    const at = this.events.length;
    this.events.push({ op: "clock_step", ns });
    const clock = Number(this.#command(`clock_step ${ns}`));
    this.events[at] = { op: "clock_step", ns, clock };
    this.settle();
    return clock;
  }

  /** A frame from outside; the card has it afterwards, or its back end holds it. */
  inject(frame: Uint8Array, nic = 0): void {
    this.injected++;
    this.#told({ op: "net", nic, dir: "to-device", data: hexOf(frame) });
    this.#flush(); // a frame comes over a stream of its own
    this.#networks[nic]!.send(frame);
    this.settle();
  }

  /** Waits for what the last accesses have set going. */
  settle(): void {
    for (let i = 0; i < SETTLE_TRIPS; i++) this.#command(`inb ${hex(UNUSED_PORT)}`);
    for (const [nic, network] of this.#networks.entries())
      for (let frame = network.receive(0); frame !== null; frame = network.receive(0)) {
        this.sent.push(frame);
        this.events.push({ op: "net", nic, dir: "from-device", data: hexOf(frame) });
      }
  }

  /**
   * Begins a conversation with a machine that has just been reset.
   * @param start the line of the command line
   */
  begin(start: RecordedEvent): void {
    this.#queued.length = 0;
    for (const value of [2, 6]) this.#link.outb(RESET_CONTROL, value);
    this.settle();
    this.settle();
    this.events.length = 0;
    this.sent.length = 0;
    this.injected = 0;
    this.events.push(start);
    this.events.push({ op: "irq_intercept_in" });
    this.configWrite(PIIX3 << 3, PIRQ_ROUTES, 4, ROUTES);
  }

  /** Sets the clock on to a round number, at which a comparison can begin. */
  roundClock(ns: number): void {
    const now = Number(this.#command("clock_step 0"));
    const clock = Math.ceil((now + 1) / ns) * ns;
    this.#command(`clock_set ${clock}`);
    this.events.push({ op: "clock_set", clock });
  }

  /** Makes a request, behind those that could wait. */
  #command(line: string): string {
    this.#queued.push(line);
    return this.#flush()!;
  }

  /** @returns the last reply */
  #flush(): string | undefined {
    if (this.#queued.length === 0) return undefined;
    const replies = this.#link.commands(this.#queued);
    this.#queued.length = 0;
    return replies.at(-1);
  }

  #told(event: RecordedEvent): void {
    this.events.push(event);
  }

  /** The line stands before those of what the access causes. */
  #asked(op: string, size: AccessWidth, address: number): number {
    const at = this.events.length;
    const addr = hex(address);
    this.events.push({ op, addr, size });
    const value = Number(this.#command(`${op} ${addr}`));
    this.events[at] = { op, addr, size, value: hex(value) };
    return value;
  }
}
