import type { GuestBus } from "../../contract/index.js";
import {
  type FrameSegments,
  frameSegments,
  IFCAP_TSO4,
  IFCAP_TXCSUM,
  IFCAP_VLAN_HWTAGGING,
  type Ifnet,
} from "../../guest/index.js";
import type { NetworkPeer } from "../../hosts/qtest/index.js";
import type { Prng } from "../../net/index.js";
import { checksums, type OffloadFrame, type OffloadParts, segments, tagged, tags } from "./offload-trial.js";
import { CheckFailure, type Outcome, runChecks, sameFrames, until } from "./trial.js";

/** A network card in a QEMU, its driver, and the other end of its cable. */
export interface NetTrialParts {
  /** turned for interrupts and time: `newbus.machine` */
  readonly machine: GuestBus;
  readonly ifnet: Ifnet;
  readonly peer: NetworkPeer;
  /** Plugs the cable in or out. */
  setLink(up: boolean): void;
  /** draws lengths and contents */
  readonly random: Prng;
  /** whether the card can be told which addresses to receive */
  readonly filters: boolean;
  /** Resets queues while the card runs, where it can. @returns false when it does not */
  readonly restartQueues?: () => boolean;
}

/** What of frames is under way at a time, and the memory for each. */
const SLOTS = 64;
const SLOT_SIZE = 2048;
const WAIT_MS = 5000;
/** µs between two looks */
const TURN_US = 200;
/** From the shortest to the longest without a tag, and what lies next to powers of two and to their neighbours. */
const LENGTHS = [60, 61, 62, 63, 64, 65, 127, 128, 129, 590, 1023, 1024, 1025, 1499, 1500, 1501, 1513, 1514];
const BURST = 48;
const ETHERTYPE = [0x88, 0xb5]; // for local experiments, IEEE 802

const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const STRANGER = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const PEER = [0x52, 0x54, 0, 0, 0, 1];
const GROUP = [0x01, 0, 0x5e, 1, 2, 3];
const OTHER_GROUP = [0x01, 0, 0x5e, 0x7f, 0xee, 0x11];
const OTHER_ADDRESS = [0x52, 0x54, 0, 0x77, 0x88, 0x99];

/** Moves frames through a card, both ways, and compares every byte. */
export class NetTrial {
  /** that arrived as they were sent */
  framesOut = 0;
  framesIn = 0;
  readonly #parts: NetTrialParts;
  readonly #memory: number;
  readonly #arrived: Uint8Array[] = [];
  /** tags that the card took out of them; −1 for none */
  readonly #tags: number[] = [];
  #pieces = 0;
  #sent = 0;

  /** Takes over the interface's handlers. */
  constructor(parts: NetTrialParts) {
    this.#parts = parts;
    const { machine, ifnet } = parts;
    this.#memory = machine.dma.alloc(SLOTS * SLOT_SIZE, SLOT_SIZE, 0xffff_ffff);
    ifnet.onReceive = (address, length, more, offload) => {
      this.#arrived.push(gather(machine, address, length, more));
      this.#tags.push(offload?.vlan ?? -1);
    };
    ifnet.onSent = (frames) => {
      this.#sent += frames;
    };
  }

  /** Every check that this card can stand; `again` runs between detaching and attaching. */
  run(): Outcome[] {
    const { filters, ifnet } = this.#parts;
    return runChecks([
      ["link", () => this.#up()],
      ["out", () => this.#out(LENGTHS.map((length) => this.#frame(length, PEER, [...ifnet.lladdr])))],
      ["in", () => this.#in(LENGTHS.map((length) => this.#frame(length, [...ifnet.lladdr], PEER)))],
      ["bursts", () => this.#bursts()],
      ["filter", () => (filters ? this.#filter() : undefined)],
      ["address", () => (filters ? this.#address() : undefined)],
      ...this.#offloads(),
      ["cable", () => this.#cable()],
      ["restart", () => this.#restart()],
      ...(this.#parts.restartQueues === undefined ? [] : [["queue reset", () => this.#restartQueues()] as const]),
    ]);
  }

  /** Frames both ways, one of each length: after a card was attached again. */
  brief(): Outcome[] {
    const { ifnet } = this.#parts;
    return runChecks([
      ["link", () => this.#up()],
      ["both ways", () => this.#bothWays([60, 1514, 333], [...ifnet.lladdr])],
    ]);
  }

  [Symbol.dispose](): void {
    const { ifnet, machine } = this.#parts;
    ifnet.down();
    ifnet.onReceive = null;
    ifnet.onSent = null;
    machine.dma.free(this.#memory, SLOTS * SLOT_SIZE);
  }

  #turn = (): void => this.#parts.machine.delay(TURN_US);

  #frame(length: number, to: readonly number[], from: readonly number[]): Uint8Array {
    const frame = Uint8Array.from({ length }, () => this.#parts.random.next() & 0xff);
    frame.set(to, 0);
    frame.set(from, 6);
    frame.set(ETHERTYPE, 12);
    return frame;
  }

  #up(): void {
    const { ifnet } = this.#parts;
    ifnet.up();
    this.#awaitLink("active");
  }

  #awaitLink(status: "active" | "no carrier"): void {
    const { ifnet } = this.#parts;
    until(
      () => ifnet.media().status === status,
      this.#turn,
      WAIT_MS,
      () => `the link is not "${status}"`,
    );
  }

  /** Sends, in pieces of changing number, and compares what comes out at the far end. */
  #out(frames: readonly Uint8Array[]): void {
    const got = this.#exchange(
      frames.map((frame) => ({ frame, offload: null, vlan: -1 })),
      frames.length,
    );
    sameFrames(got, frames);
    this.framesOut += got.length;
  }

  /** Sends, and takes what comes out at the far end, until it is `count` frames or nothing more comes. */
  #exchange(frames: readonly OffloadFrame[], count: number): Uint8Array[] {
    const { ifnet, machine, peer } = this.#parts;
    const before = this.#sent;
    const list = frameSegments(3);
    for (const [i, { frame, offload, vlan }] of frames.entries()) {
      until(
        () => i - (this.#sent - before) < SLOTS,
        this.#turn,
        WAIT_MS,
        () => `frame ${i} found no room`,
      );
      const at = this.#memory + (i % SLOTS) * SLOT_SIZE;
      machine.dma.copyIn(at, frame, 0, frame.length);
      cut(list, at, frame.length, this.#pieces++ % 3);
      until(
        () => ifnet.transmit(list, offload, vlan),
        () => this.#kickAndTurn(),
        WAIT_MS,
        () => `frame ${i} was not taken`,
      );
    }
    ifnet.kick();
    const got: Uint8Array[] = [];
    for (let idle = 0; got.length < count && idle < WAIT_MS; idle++) {
      const frame = peer.receive(1);
      if (frame !== null) {
        got.push(frame);
        idle = 0;
      } else this.#turn();
    }
    if (got.length < count) throw new CheckFailure(`${got.length} of ${count} frames came out`);
    return got;
  }

  #kickAndTurn(): void {
    this.#parts.ifnet.kick();
    this.#turn();
  }

  /** Has the far end send, and compares what the driver hands up. @param more lets strays arrive, too */
  #in(frames: readonly Uint8Array[], strays: readonly Uint8Array[] = []): void {
    const { peer } = this.#parts;
    this.#arrived.length = 0;
    for (const stray of strays) peer.send(stray);
    for (let i = 0; i < frames.length; i += BURST) {
      const some = frames.slice(i, i + BURST);
      peer.send(...some);
      until(
        () => this.#arrived.length >= i + some.length,
        this.#turn,
        WAIT_MS,
        () => `${this.#arrived.length} of ${frames.length} frames arrived`,
      );
    }
    sameFrames(this.#arrived, frames);
    this.framesIn += frames.length;
  }

  #bothWays(lengths: readonly number[], own: number[]): void {
    this.#out(lengths.map((length) => this.#frame(length, PEER, own)));
    this.#in(lengths.map((length) => this.#frame(length, own, PEER)));
  }

  #bursts(): void {
    const { random, ifnet } = this.#parts;
    const own = [...ifnet.lladdr];
    for (let round = 0; round < 3; round++)
      this.#bothWays(
        Array.from({ length: BURST }, () => 60 + random.below(1514 - 60 + 1)),
        own,
      );
  }

  /** What the card does for its driver; every one of these frames begins at the memory's start, and may be long. */
  #offloads(): (readonly [string, () => void])[] {
    const { ifnet, random } = this.#parts;
    const parts: OffloadParts = {
      random,
      own: [...ifnet.lladdr],
      peer: PEER,
      exchange: (frames, count) => {
        this.framesOut += count;
        return this.#exchange(frames, count);
      },
    };
    const has = (bit: number) => (ifnet.capabilities & bit) !== 0;
    return [
      ...(has(IFCAP_TXCSUM) ? [["checksums", () => void checksums(parts)] as const] : []),
      ...(has(IFCAP_TSO4) ? [["segments", () => this.#with(IFCAP_TSO4, () => segments(parts))] as const] : []),
      ...(has(IFCAP_VLAN_HWTAGGING) ? [["tags", () => this.#bothTags(parts)] as const] : []),
    ];
  }

  #with(bit: number, run: () => void): void {
    const { ifnet } = this.#parts;
    const before = ifnet.capenable;
    ifnet.setCapenable(before | bit);
    this.#awaitLink("active"); // some drivers start anew
    run();
    ifnet.setCapenable(before);
    this.#awaitLink("active");
  }

  #bothTags(parts: OffloadParts): void {
    const { ifnet, peer } = this.#parts;
    tags(parts);
    const frames = [100, 200, 1514].map((length) => this.#frame(length, [...ifnet.lladdr], PEER));
    const tci = [0x0001, 0x0123, 0xe5a5];
    this.#arrived.length = this.#tags.length = 0;
    peer.send(...frames.map((frame, i) => tagged(frame, tci[i]!)));
    until(
      () => this.#arrived.length >= frames.length,
      this.#turn,
      WAIT_MS,
      () => `${this.#arrived.length} of ${frames.length} frames arrived`,
    );
    sameFrames(this.#arrived, frames);
    if (this.#tags.some((tag, i) => tag !== tci[i])) throw new CheckFailure(`tags ${this.#tags} in place of ${tci}`);
    this.framesIn += frames.length;
  }

  /** What is for others comes only when it is wanted. Each check ends with a frame that must come, and nothing before it. */
  #filter(): void {
    const { ifnet } = this.#parts;
    const own = () => this.#frame(100, [...ifnet.lladdr], PEER);
    const to = (address: readonly number[]) => this.#frame(90, address, PEER);
    this.#in([to(BROADCAST), own()]);
    this.#in([own()], [to(STRANGER), to(GROUP)]);
    ifnet.setPromisc(true);
    this.#in([to(STRANGER), own()]);
    ifnet.setPromisc(false);
    this.#in([own()], [to(STRANGER)]);
    ifnet.setMulticast([Uint8Array.from(GROUP)]);
    this.#in([to(GROUP), own()], [to(OTHER_GROUP)]);
    ifnet.setAllmulti(true);
    this.#in([to(OTHER_GROUP), to(GROUP), own()]);
    ifnet.setAllmulti(false);
    ifnet.setMulticast([]);
    this.#in([own()], [to(GROUP)]);
  }

  #address(): void {
    const { ifnet } = this.#parts;
    const before = ifnet.lladdr.slice();
    ifnet.setLladdr(Uint8Array.from(OTHER_ADDRESS)); // some drivers start anew, and negotiate the link again
    this.#awaitLink("active");
    this.#in([this.#frame(80, OTHER_ADDRESS, PEER)], [this.#frame(80, [...before], PEER)]);
    ifnet.setLladdr(before);
    this.#awaitLink("active");
    this.#in([this.#frame(80, [...before], PEER)], [this.#frame(80, OTHER_ADDRESS, PEER)]);
  }

  #cable(): void {
    const { ifnet, setLink } = this.#parts;
    const list = frameSegments(1);
    cut(list, this.#memory, 60, 0);
    for (let i = 0; i < 2; i++) {
      setLink(false);
      this.#awaitLink("no carrier");
      if (ifnet.transmit(list)) throw new CheckFailure("a frame was taken without a carrier");
      setLink(true);
      this.#awaitLink("active");
      this.#bothWays([60, 1514], [...ifnet.lladdr]);
    }
  }

  #restart(): void {
    const { ifnet } = this.#parts;
    for (let i = 0; i < 3; i++) {
      ifnet.down();
      this.#up();
      this.#bothWays([60, 700, 1514], [...ifnet.lladdr]);
    }
  }

  #restartQueues(): void {
    const { ifnet, restartQueues } = this.#parts;
    for (let i = 0; i < 3; i++) {
      if (restartQueues?.() === false) throw new CheckFailure("the queues were not reset");
      this.#bothWays([60, 1514, 400], [...ifnet.lladdr]);
    }
  }
}

/** Cuts a frame into one, two or three pieces. */
const cut = (list: FrameSegments, at: number, length: number, kind: number): void => {
  const pieces = kind === 0 ? [length] : kind === 1 ? [14, length - 14] : [20, 13, length - 33];
  list.count = pieces.length;
  let from = at;
  for (const [n, piece] of pieces.entries()) {
    list.paddr[n] = from;
    list.len[n] = piece;
    from += piece;
  }
};

const gather = (machine: GuestBus, address: number, length: number, more: FrameSegments | null): Uint8Array => {
  const rest =
    more === null ? [] : Array.from({ length: more.count }, (_, i) => [more.paddr[i]!, more.len[i]!] as const);
  const pieces = [[address, length] as const, ...rest];
  const frame = new Uint8Array(pieces.reduce((sum, [, bytes]) => sum + bytes, 0));
  let at = 0;
  for (const [from, bytes] of pieces) {
    machine.dma.copyOut(from, frame, at, bytes);
    at += bytes;
  }
  return frame;
};
