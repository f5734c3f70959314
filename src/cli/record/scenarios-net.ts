import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
} from "../../spec/virtio.js";
import { VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_STATUS } from "../../spec/virtio-net.js";
import type { RecordingGuest } from "./guest.js";
import type { DriverRing, Piece } from "./rings.js";
import { PLACES, VirtioGuest } from "./virtio.js";

const BDF = 4 << 3;
const RX = 0;
const TX = 1;
const HEADER = 12;
const LEGACY_HEADER = 10;
const BUFFERS = PLACES.arena + 0x1_8000;
const TABLES = PLACES.arena + 0x1_4000;
const STEP = 0x800;
const BASIC = [VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS];

const MAC = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/** A frame of a local experimental type. */
export const frameOf = (to: readonly number[], length: number, seed: number): Buffer => {
  const frame = Buffer.alloc(length);
  frame.set(to);
  frame.set([2, 0, 0, 0, 0, 1], 6);
  frame.writeUInt16BE(0x88b5, 12);
  for (let i = 14; i < length; i++) frame[i] = (i * 7 + seed) & 0xff;
  return frame;
};

/** Pieces one behind another. */
export const cut = (at: number, lengths: readonly number[], writable: boolean): Piece[] => {
  let next = at;
  return lengths.map((length) => {
    next += length;
    return { at: next - length, length, writable };
  });
};

/** A guest with a receive and a transmit queue. */
class NetGuest {
  readonly guest: RecordingGuest;
  readonly card: VirtioGuest;
  #buffer = 0;
  #table = 0;

  constructor(guest: RecordingGuest, legacy = false) {
    this.guest = guest;
    this.card = new VirtioGuest(guest, BDF);
    this.card.place(legacy);
  }

  start(features: readonly number[], size: number, vectors = 0): void {
    this.card.start({
      legacy: this.card.legacy,
      accept: () => (this.card.legacy ? features : [...features, VIRTIO_F_VERSION_1]),
      size: () => size,
      queues: 2,
      vectors,
      vectorOf: (queue) => queue + 1,
    });
    this.#buffer = this.#table = 0;
  }

  ring(queue: number): DriverRing {
    return this.card.rings[queue]!;
  }

  get header(): number {
    return this.card.modern ? HEADER : LEGACY_HEADER;
  }

  /** Adds a receive buffer of these pieces. */
  post(lengths: readonly number[], withTable = false): number {
    const at = this.#place();
    this.ring(RX).add(cut(at, lengths, true), withTable ? this.#tableAt() : 0);
    return at;
  }

  /** Adds a frame to send, cut like that behind its header. */
  add(frame: Buffer, lengths: readonly number[], withTable = false): void {
    const at = this.#place();
    this.guest.put(at, Buffer.concat([Buffer.alloc(this.header), frame]));
    this.ring(TX).add(cut(at, [this.header, ...lengths], false), withTable ? this.#tableAt() : 0);
  }

  notify(queue: number): void {
    this.ring(queue).publish();
    this.card.notify(queue);
  }

  /** Takes what was used, and looks at the interrupt. */
  reap(queue: number): void {
    this.ring(queue).takeAll();
    if (this.card.vectors > 0) this.card.messages();
    else this.card.isr();
  }

  #place(): number {
    return BUFFERS + STEP * (this.#buffer++ % 64);
  }

  #tableAt(): number {
    return TABLES + 0x100 * (this.#table++ % 64);
  }
}

export const packed = (guest: RecordingGuest): void => {
  const net = new NetGuest(guest);
  for (const vectors of [0, 3]) {
    guest.note(vectors === 0 ? "packed ring of 8, INTA#" : "packed ring of 8, MSI-X");
    net.start([...BASIC, VIRTIO_F_RING_PACKED, VIRTIO_F_INDIRECT_DESC], 8, vectors);
    guest.note("three laps of the transmit ring, chains of 1 to 3 descriptors");
    for (let i = 0; i < 8; i++) {
      net.add(frameOf(BROADCAST, 60 + i, i), i % 3 === 0 ? [60 + i] : i % 3 === 1 ? [14, 46 + i] : [60 + i]);
      net.notify(TX);
      net.reap(TX);
    }
    guest.note("two frames with tables, one notification");
    net.add(frameOf(BROADCAST, 100, 1), [14, 40, 46], true);
    net.add(frameOf(BROADCAST, 64, 2), [64], true);
    net.notify(TX);
    net.reap(TX);
    guest.note("receive: one descriptor, a chain, a table");
    const buffers = [net.post([1600]), net.post([HEADER, 800, 800]), net.post([700, 900], true)];
    net.notify(RX);
    for (const [i, length] of [60, 1000, 1514].entries()) {
      guest.inject(frameOf(MAC, length, i));
      net.reap(RX);
      guest.get(buffers[i]!, 80);
    }
    guest.note("interrupts off, then on");
    net.ring(TX).wish("never");
    net.add(frameOf(BROADCAST, 60, 9), [60]);
    net.notify(TX);
    net.reap(TX);
    net.ring(TX).wish("always");
    net.add(frameOf(BROADCAST, 60, 10), [60]);
    net.notify(TX);
    net.reap(TX);
  }
  guest.note("event index: an interrupt for the third frame only");
  net.start([...BASIC, VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX], 16);
  net.add(frameOf(BROADCAST, 60, 0), [60]);
  net.notify(TX);
  net.reap(TX);
  net.ring(TX).wish(4);
  for (let i = 0; i < 4; i++) {
    net.add(frameOf(BROADCAST, 60, i), [60]);
    net.notify(TX);
    net.card.isr();
  }
  net.reap(TX);
};

export const indirect = (guest: RecordingGuest): void => {
  for (const legacy of [false, true]) {
    guest.note(legacy ? "legacy interface: the header has a descriptor of its own" : "modern interface");
    const net = new NetGuest(guest, legacy);
    net.start([...BASIC, VIRTIO_F_INDIRECT_DESC], 256);
    const post = [
      net.post([net.header, 1600], true),
      net.post([net.header, 500, 600, 500], true),
      net.post([net.header, 1600]),
    ];
    net.notify(RX);
    for (const [i, length] of [60, 1514, 300].entries()) {
      guest.inject(frameOf(MAC, length, i));
      net.reap(RX);
      guest.get(post[i]!, 64);
    }
    guest.note("sending: a table of one, of two, of eight; and a chain between them");
    for (const lengths of [[60], [14, 46], [14, 1, 2, 3, 4, 5, 31]])
      net.add(frameOf(BROADCAST, 60, lengths.length), lengths, true);
    net.add(frameOf(BROADCAST, 200, 5), [100, 100]);
    net.notify(TX);
    net.reap(TX);
    net.card.reset();
  }
};

export const eventIndex = (guest: RecordingGuest): void => {
  const net = new NetGuest(guest);
  net.start([...BASIC, VIRTIO_F_EVENT_IDX], 16);
  const send = (count: number): void => {
    for (let i = 0; i < count; i++) net.add(frameOf(BROADCAST, 60, i), [60]);
    net.notify(TX);
  };
  guest.note("the first frame interrupts: used_event is 0");
  send(1);
  net.reap(TX);
  guest.note("used_event three ahead: two frames do not interrupt, the third and fourth do once");
  net.ring(TX).wish(3);
  send(1);
  net.card.isr();
  send(1);
  net.card.isr();
  send(2);
  net.card.isr();
  net.reap(TX);
  guest.note("used_event far ahead: nothing interrupts, over a lap of the ring");
  net.ring(TX).wish("never");
  for (let i = 0; i < 5; i++) {
    send(4);
    net.ring(TX).takeAll();
  }
  net.card.isr();
  guest.note("and again at once: the next frame interrupts");
  net.ring(TX).wish("always");
  send(1);
  net.reap(TX);
  guest.note("receive: an interrupt for the second frame of two");
  for (let i = 0; i < 4; i++) net.post([1600]);
  net.notify(RX);
  guest.inject(frameOf(MAC, 60, 0));
  net.reap(RX);
  net.ring(RX).wish(1);
  guest.inject(frameOf(MAC, 61, 1));
  net.card.isr();
  guest.inject(frameOf(MAC, 62, 2));
  net.reap(RX);
};

export const msixMask = (guest: RecordingGuest): void => {
  const net = new NetGuest(guest);
  const { card } = net;
  net.start(BASIC, 256, 3);
  for (let i = 0; i < 8; i++) net.post([1600]);
  net.notify(RX);
  const receive = (): void => guest.inject(frameOf(MAC, 60, 1));
  const look = (): void => {
    card.pending();
    card.messages();
  };
  guest.note("unmasked: a message");
  receive();
  look();
  guest.note("vector 1 masked: pending, no message; unmasked: one message for two frames");
  card.mask(1, true);
  receive();
  receive();
  look();
  card.mask(1, false);
  look();
  guest.note("the function masked: vectors 1 and 2 pending; vector 2 also masked by itself");
  card.maskAll(true);
  receive();
  net.add(frameOf(BROADCAST, 60, 2), [60]);
  net.notify(TX);
  look();
  card.mask(2, true);
  card.maskAll(false);
  look();
  card.mask(2, false);
  look();
  guest.note("address and data changed while masked: the pending message goes to the new ones");
  card.mask(1, true);
  receive();
  guest.write(4, PLACES.msix + 16, PLACES.messages + 8);
  guest.write(4, PLACES.msix + 24, 0xcd01);
  look();
  card.mask(1, false);
  look();
  guest.note("masked and pending, then the device is reset");
  card.mask(1, true);
  receive();
  card.pending();
  card.reset();
  card.pending();
  card.mask(1, false);
  look();
};

export const mergeable = (guest: RecordingGuest): void => {
  const net = new NetGuest(guest);
  net.start([...BASIC, VIRTIO_NET_F_MRG_RXBUF], 256);
  const receive = (length: number, buffers: readonly number[]): void => {
    net.notify(RX);
    guest.inject(frameOf(MAC, length, length));
    net.reap(RX);
    for (const at of buffers) guest.get(at, 32);
  };
  guest.note("one buffer, filled exactly");
  receive(500, [net.post([512])]);
  guest.note("two buffers, the first filled exactly, the second with one byte");
  receive(501, [net.post([512]), net.post([512])]);
  guest.note("four buffers of chains");
  receive(1514, [net.post([HEADER, 300]), net.post([100, 100, 200]), net.post([400]), net.post([1, 599])]);
  guest.note("a header that lies in three descriptors");
  receive(100, [net.post([4, 4, 4, 500])]);
  guest.note("too little room: the frame waits for another buffer, and others wait behind it");
  net.post([400]);
  net.notify(RX);
  guest.inject(frameOf(MAC, 1000, 1));
  guest.inject(frameOf(MAC, 60, 2));
  net.reap(RX);
  net.post([400]);
  net.notify(RX);
  net.reap(RX);
  net.post([800]);
  net.post([800]);
  net.notify(RX);
  net.reap(RX);
};

export const queueReset = (guest: RecordingGuest): void => {
  const net = new NetGuest(guest);
  const { card } = net;
  net.start([...BASIC, VIRTIO_F_RING_RESET], 256, 3);
  for (let i = 0; i < 4; i++) net.post([1600]);
  net.notify(RX);
  guest.inject(frameOf(MAC, 60, 1));
  net.reap(RX);
  guest.note("the receive queue is reset, and comes back with 16 descriptors");
  card.resetQueue(RX);
  for (const at of [0x18, 0x1a, 0x1c, 0x3a]) card.commonRead(at, 2);
  for (const at of [0x20, 0x28, 0x30]) card.commonRead(at, 4);
  card.rings[RX] = card.setUpQueue(
    RX,
    () => 16,
    () => 1,
  );
  const at = net.post([1600]);
  net.notify(RX);
  guest.inject(frameOf(MAC, 64, 2));
  net.reap(RX);
  guest.get(at, 80);
  guest.note("the transmit queue is reset with nothing in it; the receive queue goes on meanwhile");
  net.post([1600]);
  net.notify(RX);
  card.resetQueue(TX);
  guest.inject(frameOf(MAC, 65, 3));
  net.reap(RX);
  card.rings[TX] = card.setUpQueue(
    TX,
    () => 32,
    () => 2,
  );
  net.add(frameOf(BROADCAST, 60, 4), [60]);
  net.notify(TX);
  net.reap(TX);
  void card.status;
};
