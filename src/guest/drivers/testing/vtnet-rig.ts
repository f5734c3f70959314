import type { FrameSegments, RxOffload } from "../../types.js";
import { frameSegments } from "../ifnet.js";
import { type VirtioPciOptions, virtioPciDriver } from "../virtio-pci.js";
import { type Vtnet, type VtnetOptions, vtnetDriver } from "../vtnet.js";
import { attachDriver } from "./fake-pci.js";
import { FakeVirtio, type FakeVirtioOptions } from "./fake-virtio.js";

// Feature bits by number, VIRTIO 1.3 §5.1.3 and §6
export const [MTU, MAC, MRG, STATUS, CTRL_VQ, CTRL_RX, MQ, CTRL_MAC] = [3, 5, 15, 16, 17, 18, 22, 23] as const;
export const [ANY_LAYOUT, INDIRECT, EVENT_IDX, VERSION_1] = [27, 28, 29, 32] as const;
export const [CSUM, GUEST_CSUM, CTRL_GUEST_OFFLOADS, GUEST_TSO4, GUEST_TSO6, GUEST_ECN] = [0, 1, 2, 7, 8, 9] as const;
export const [HOST_TSO4, HOST_TSO6, HOST_ECN] = [11, 12, 13] as const;
export const [GUEST_UFO, HOST_UFO, GUEST_USO4, GUEST_USO6, HOST_USO] = [10, 14, 54, 55, 56] as const;
export const [VQ_NOTF_COAL, NOTF_COAL, HASH_REPORT, RSS] = [52, 53, 57, 60] as const;
export const SENDING = [CSUM, HOST_TSO4, HOST_TSO6, HOST_ECN];
export const RECEIVING = [GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN];
export const USUAL = [MAC, MRG, STATUS, CTRL_VQ, CTRL_RX, CTRL_MAC, ANY_LAYOUT, INDIRECT, EVENT_IDX, VERSION_1];

export interface RigOptions extends Partial<FakeVirtioOptions> {
  readonly vtnet?: VtnetOptions;
  readonly without?: readonly number[];
  /** the control queue gets no answer */
  readonly mute?: boolean;
  readonly pci?: VirtioPciOptions;
  /** pairs of queues that the device has: its queues are 16 descriptors, its control queue 4. Default 1 */
  readonly pairs?: number;
  /** what a command is acknowledged with; 0 by default, and what a GET is told in front of that */
  readonly answer?: (command: readonly number[]) => readonly number[];
}

/** vtnet on a scripted device, whose control queue answers. */
export const rig = (options: RigOptions = {}) => {
  const modern = options.modern ?? true;
  const features = (options.features ?? USUAL).filter((bit) => options.without?.includes(bit) !== true);
  const { pairs = 1, answer = () => [0] } = options;
  const control = 2 * pairs;
  const queues = [...new Array<number>(control).fill(16), 4];
  const config = [0x52, 0x54, 0, 1, 2, 3, 1, 0, pairs, 0, 0, 0, 0, 0, 0, 0, 0, 40, 128, 0, 0xff, 1, 0, 0];
  const fake = new FakeVirtio({ vectors: control + 1, queues, config, ...options, modern, features });
  const { memory } = fake.pci;
  const commands: number[][] = [];
  fake.onNotify = (queue) => {
    if (queue !== control || options.mute === true) return;
    const ring = fake.ring(control);
    for (let head = ring.pop(); head >= 0; head = ring.pop()) {
      const chain = ring.chain(head);
      commands.push(chain.filter(({ write }) => !write).flatMap((part) => [...bytesAt(part.addr, part.len)]));
      const reply = answer(commands.at(-1)!);
      let told = 0;
      for (const { addr, len, write } of chain)
        if (write) for (let i = 0; i < len; i++) memory.device[addr - memory.base + i] = reply[told++] ?? 0;
      ring.push(head, told);
    }
  };
  const bytesAt = (addr: number, len: number) => memory.device.slice(addr - memory.base, addr - memory.base + len);
  const attached = attachDriver(virtioPciDriver(options.pci), fake.pci, [vtnetDriver(options.vtnet)]);
  const vtnet = attached.children.get("vtnet") as Vtnet;
  const received: number[][] = [];
  const offloads: RxOffload[] = [];
  const told: number[] = [];
  const links: boolean[] = [];
  if (vtnet !== undefined) {
    vtnet.onReceive = (address, length, more, offload) => {
      if (offload !== undefined) offloads.push({ ...offload });
      const out = new Uint8Array(length);
      memory.copyOut(address, out, 0, length);
      const frame = [...out];
      for (let i = 0; more !== null && i < more.count; i++) {
        const part = new Uint8Array(more.len[i]!);
        memory.copyOut(more.paddr[i]!, part, 0, part.length);
        frame.push(...part);
      }
      received.push(frame);
    };
    vtnet.onSent = (frames) => told.push(frames);
    vtnet.onLink = (active) => links.push(active);
  }

  /** Writes bytes into the next receive buffer and marks it used. @returns the length of its chain in bytes */
  const fill = (bytes: readonly number[], usedLen = bytes.length, publish = true, pair = 0): void => {
    const ring = fake.ring(2 * pair);
    const head = ring.pop();
    if (head < 0) throw new Error("no receive buffer");
    let at = 0;
    for (const { addr, len, write } of ring.chain(head)) {
      if (!write) throw new Error("a receive buffer that is to be read");
      memory.device.set(bytes.slice(at, at + len), addr - memory.base);
      at += len;
    }
    ring.push(head, usedLen, publish);
  };
  /** of a queue, where each has a message of its own; by default of the first receive queue */
  const interrupt = (queue = 0) => fake.pci.fire(2 + queue);
  /** Takes what the driver sent: header and frame as one. */
  const take = (pair = 0): { head: number; bytes: number[] }[] => {
    const ring = fake.ring(2 * pair + 1);
    const found = [];
    for (let head = ring.pop(); head >= 0; head = ring.pop())
      found.push({ head, bytes: ring.chain(head).flatMap((part) => [...bytesAt(part.addr, part.len)]) });
    return found;
  };
  return { fake, memory, attached, vtnet, received, offloads, told, links, commands, fill, interrupt, take };
};

export const HEADER = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
export const FRAME = Array.from({ length: 60 }, (_, i) => i);

/** A frame in DMA memory, in pieces of the given lengths. */
export const frameOf = (
  memory: { alloc(n: number, a: number, b: number): number },
  lengths: readonly number[],
): FrameSegments => {
  const frame = frameSegments(lengths.length);
  for (const [i, length] of lengths.entries()) {
    frame.paddr[i] = memory.alloc(length + 1, 1, 2 ** 32);
    frame.len[i] = length;
  }
  frame.count = lengths.length;
  return frame;
};

/** The same, up, and its commands forgotten. */
export const up = (options: RigOptions = {}) => {
  const r = rig(options);
  r.vtnet.up();
  r.commands.length = 0;
  return r;
};
