import { test } from "uvu";
import * as assert from "uvu/assert";
import legacy from "../../fixtures/virtio-net/qemu-legacy.json" with { type: "json" };
import control from "../../fixtures/virtio-net/qemu-legacy-control.json" with { type: "json" };
import modern from "../../fixtures/virtio-net/qemu-modern.json" with { type: "json" };
import type { VirtioNetOptions } from "./index.js";
import { virtioNet } from "./index.js";
import { Peer, TestHost } from "./testing.js";

type Event = readonly (string | number)[];
const SLOT_4 = 0x8000_2000;
const BAR0 = 0xc000;
const WIDTHS: { readonly [suffix: string]: 1 | 2 | 4 } = { b: 1, w: 2, l: 4 };

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from({ length: hex.length / 2 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16));

/** Does to our card what was done to QEMU's, and compares everything it answered, each stream by itself. */
const replay = (events: readonly Event[], options: VirtioNetOptions) => {
  const host = new TestHost();
  // The recorded back end does not understand virtio's header, so that QEMU offers no offload there.
  const nic = virtioNet({ mac: "52:54:00:12:34:56", offloads: { csum: false, guestCsum: false }, ...options });
  const peer = new Peer();
  nic.net.attach(peer);
  nic.connect(host);
  // The recorded back end holds a frame that finds no buffer and offers it again when the driver posts one.
  const held: Uint8Array[] = [];
  const pump = () => {
    while (held.length > 0 && nic.net.offer(held[0]!, 0, held[0]!.length, null, 0) !== "later") held.shift();
    nic.net.endBatch();
  };
  peer.holds = true;
  peer.onReady = pump;
  const sent: string[] = [];
  const levels: number[] = [];
  let configAddress = 0;
  let offers: readonly [ours: number, qemu: number][] = [];
  const bar = (address: number): [number, number] | null => {
    if (address >= 0xe000_4000 && address < 0xe000_5000) return [1, address - 0xe000_4000];
    return address >= 0xe000_0000 && address < 0xe000_4000 ? [4, address - 0xe000_0000] : null;
  };
  for (const [i, [op, a, b, c]] of events.entries()) {
    const where = `event ${i}: ${op} ${a} ${b ?? ""}`;
    const address = Number(a);
    if (op === "note") continue;
    if (op === "irq") levels.push(address);
    else if (op === "from-device") sent.push(String(a));
    else if (op === "to-device") {
      held.push(bytesOf(String(a)));
      pump();
    } else if (op === "memset") host.put(address, new Uint8Array(Number(b)).fill(Number(c)));
    else if (op === "read" || op === "write") {
      const data = bytesOf(String(b));
      const target = bar(address);
      const step = Math.min(4, data.length) as 1 | 2 | 4;
      if (target === null) {
        if (op === "write") host.put(address, data);
        else assert.is(hexOf(host.bytesAt(address, data.length)), b, where);
        continue;
      }
      for (let at = 0; at < data.length; at += step) {
        const value = data.subarray(at, at + step).reduceRight((v, byte) => v * 256 + byte, 0);
        const [index, offset] = target;
        if (op === "write") nic.barWrite(index, offset + at, step, value);
        else {
          const got = nic.barRead(index, offset + at, step);
          if (index === 4 && offset === 4) offers = [...offers, [got, value]];
          else assert.is(got, value, where);
        }
      }
    } else {
      const width = WIDTHS[String(op).at(-1)!]!;
      const write = String(op).startsWith("out");
      if (address === 0xcf8) {
        configAddress = Number(b);
        continue;
      }
      const offset = (configAddress & 0xfc) + (address & 3);
      const config = address >= 0xcfc && address < 0xd00;
      if (config && configAddress >>> 8 !== SLOT_4 >>> 8) continue; // PIIX3's routing
      if (write) {
        if (config) nic.configWrite(offset, width, Number(b));
        else nic.barWrite(0, address - BAR0, width, Number(b));
      } else {
        const got = config ? nic.configRead(offset, width) : nic.barRead(0, address - BAR0, width);
        if (!config && address === BAR0) offers = [...offers, [got, Number(b)]];
        else assert.is(got, Number(b), where);
      }
    }
  }
  assert.equal(
    peer.frames.map((f) => hexOf(f)),
    sent,
  );
  for (const [ours, qemu] of offers) assert.is((ours & ~qemu) >>> 0, 0, "no feature that QEMU does not offer");
  assert.ok(offers.length > 0 && host.guardsIntact());
  return { levels, ours: host.levels };
};

test("VIO-055 VIO-137 VIO-138 VIO-155 VIO-267 VIO-292 the legacy interface answers as QEMU's did: rings, headers, ISR, interrupts", () => {
  const { levels, ours } = replay(legacy.events, { personality: "legacy" });
  assert.equal(ours, levels);
});

test("VIO-273 VIO-274 VIO-275 VIO-299 VIO-311 the control queue answers as QEMU's did: modes, tables, address, VLANs, errors", () => {
  const { levels, ours } = replay(control.events, { personality: "legacy" });
  assert.equal(ours, levels.slice(0, -1)); // the last one is the link that goes down when the recorder leaves
});

test("VIO-096 VIO-245 VIO-247 VIO-249 the modern interface answers as QEMU's did: INTA# and MSI-X, merged buffers, reset", () => {
  const { levels, ours } = replay(modern.events, { personality: "modern" });
  assert.equal(ours, levels);
});

test.run();
