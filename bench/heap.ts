/**
 * Garbage: what an iteration leaves on the heap over 10^6 iterations, and how many collections ran meanwhile. Accesses,
 * receive and transmit in place leave nothing; what copies pieces of larger arrays leaves at most one short-lived view for
 * each fragment, and never an array; a 32-bit read above 2^31 leaves the number itself, which V8 boxes where a function
 * returns it. Ends with status 1 when a path does not keep to that.
 */
import { rtl8169 } from "../devices/rtl8169/index.js";
import { virtioNet } from "../devices/virtio-net/index.js";
import type { AccessWidth } from "../src/contract/index.js";
import { judge, type Path, packetPaths, RTL8169, virtioNames } from "./rig/garbage.js";
import { Plugged } from "./rig/machine.js";
import { Rtl8169Guest } from "./rig/rtl8169-guest.js";
import { VirtioNetGuest } from "./rig/virtio-net-guest.js";

const paths: Path[] = [];
const add = (name: string, run: Path["run"], allowed: { readonly numbers?: number } = {}): void =>
  void paths.push({ name, run, ...allowed });

type Read = (at: number, width: AccessWidth) => number;
type Write = (at: number, width: AccessWidth, value: number) => void;

/** Addresses are int32s, as they stand in an emulator's registers. @param accesses pairs of offset from `base` and width */
const reads = (read: Read, base: number, accesses: readonly number[]) => {
  const count = accesses.length / 2;
  const at = Int32Array.from({ length: count }, (_, k) => base + accesses[2 * k]!);
  const widths = Array.from({ length: count }, (_, k) => accesses[2 * k + 1] as AccessWidth);
  return (iterations: number): void => {
    const expected = widths.map((width, k) => read(at[k]!, width));
    for (let i = 0, k = 0; i < iterations; i++) {
      if (read(at[k]!, widths[k]!) !== expected[k]) throw new Error(`access ${k} reads something else`);
      k = k + 1 === count ? 0 : k + 1;
    }
  };
};

/** @param accesses triples of offset from `base`, width and value */
const writes = (write: Write, base: number, accesses: readonly number[]) => {
  const count = accesses.length / 3;
  const at = Int32Array.from({ length: count }, (_, k) => base + accesses[3 * k]!);
  const widths = Array.from({ length: count }, (_, k) => accesses[3 * k + 1] as AccessWidth);
  const values = Array.from({ length: count }, (_, k) => accesses[3 * k + 2]!);
  return (iterations: number): void => {
    for (let i = 0, k = 0; i < iterations; i++) {
      write(at[k]!, widths[k]!, values[k]!);
      k = k + 1 === count ? 0 : k + 1;
    }
  };
};

const BDF = 3 << 3;
const re = new Plugged(rtl8169());
const vtnet = new Plugged(virtioNet());
const { machine } = vtnet;
const configRead: Read = (at, width) => machine.configRead(BDF, at, width);
const configWrite: Write = (at, width, value) => machine.configWrite(BDF, at, width, value);
add("configuration read", reads(configRead, 0, [0x00, 4, 0x04, 2, 0x0b, 1, 0x2c, 4, 0x34, 1, 0x3c, 2]));
add("configuration write", writes(configWrite, 0, [0x04, 2, 7, 0x0c, 1, 8, 0x3c, 1, 11, 0x9a, 2, 0]));
add("configuration through ports", (iterations) => {
  for (let i = 0; i < iterations; i++) {
    machine.ioWrite(0xcf8, 4, 0x8000_1800);
    if (machine.ioRead(0xcfc, 2) !== 0x1af4) throw new Error("not the vendor");
  }
});

const reRegisters = [0x37, 1, 0x3e, 2, 0x40, 4, 0x08, 4];
const reValues = [0x3c, 2, 1, 0x3e, 2, 0xffff, 0x08, 4, 0x1234_5678];
const reIoRead: Read = (at, width) => re.machine.ioRead(at, width);
const reIoWrite: Write = (at, width, value) => re.machine.ioWrite(at, width, value);
const reMemRead: Read = (at, width) => re.machine.memRead(at, width);
const reMemWrite: Write = (at, width, value) => re.machine.memWrite(at, width, value);
add("port read", reads(reIoRead, re.card.barBase(0), reRegisters));
add("port write", writes(reIoWrite, re.card.barBase(0), reValues));
add("port read and write, nobody", (iterations) => {
  for (let i = 0; i < iterations; i++) {
    if (machine.ioRead(0x0378, 1) !== 0xff) throw new Error("somebody answers");
    machine.ioWrite(0x0080, 1, 0);
  }
});
add("memory read, rtl8169", reads(reMemRead, re.card.barBase(1), reRegisters));
add("memory write, rtl8169", writes(reMemWrite, re.card.barBase(1), reValues));

const memRead: Read = (at, width) => machine.memRead(at, width);
const memWrite: Write = (at, width, value) => machine.memWrite(at, width, value);
const common = vtnet.card.barBase(4);
add("memory read, virtio-net", reads(memRead, common, [0x14, 1, 0x12, 2, 0x04, 4, 0x20, 4, 0x1000, 1, 0x2000, 4]));
add("memory write, virtio-net", writes(memWrite, common, [0x16, 2, 1, 0x00, 4, 1, 0x20, 4, 0x7ff0_0000]));
const ramRead: Read = (at, width) => machine.memRead(at, width);
const ramWrite: Write = (at, width, value) => machine.memWrite(at, width, value);
add("memory write, RAM and nobody", writes(ramWrite, 0, [0x12_3456, 4, 0x1234_5678, 0xa000_0000, 4, 1]));
add("memory read, RAM and nobody", reads(ramRead, 0, [0x12_3456, 4, 0x12_3457, 1, 0xa000_0000, 2]));
const filter = new Plugged(rtl8169());
const mar0 = (filter.card.barBase(1) + 0x08) | 0;
filter.machine.memWrite(mar0, 4, 0x8765_4321);
add(
  "memory read of 87654321h",
  (iterations) => {
    for (let i = 0; i < iterations; i++)
      if (filter.machine.memRead(mar0, 4) !== 0x8765_4321) throw new Error("something else");
  },
  { numbers: 2 }, // the register block's, and the one that the region has cut to size
);

paths.push(
  ...packetPaths((options) => new Rtl8169Guest(options), RTL8169),
  ...packetPaths((options) => new Rtl8169Guest({ ...options, fcs: "zero" }), {
    ...RTL8169,
    name: "rtl8169 without FCS",
  }),
  ...packetPaths((options) => new VirtioNetGuest(options), virtioNames("split")),
  ...packetPaths((options) => new VirtioNetGuest({ ...options, ring: "packed" }), virtioNames("packed")),
);
await judge(paths);
