import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { DriverError } from "../types.js";
import { frameSegments } from "./ifnet.js";
import { attachDriver } from "./testing/fake-pci.js";
import { FakeVirtio, type FakeVirtioOptions } from "./testing/fake-virtio.js";
import { virtioPciDriver } from "./virtio-pci.js";
import { type Bio, type Vtblk, type VtblkOptions, vtblkDriver } from "./vtblk.js";

// Feature bits by number, VIRTIO 1.3 §5.2.3 and §6
const [SIZE_MAX, SEG_MAX, RO, BLK_SIZE, FLUSH, DISCARD] = [1, 2, 5, 6, 9, 13] as const;
const [INDIRECT, EVENT_IDX, VERSION_1] = [28, 29, 32] as const;
const USUAL = [SEG_MAX, BLK_SIZE, FLUSH, DISCARD, INDIRECT, EVENT_IDX, VERSION_1];
// errno
const [EIO, ENXIO, EINVAL, EFBIG, ENOSPC, EROFS, EOPNOTSUPP] = [5, 6, 22, 27, 28, 30, 45] as const;

/** 1024 sectors of 512 bytes by raw offsets: capacity 0, size_max 8, seg_max 12, blk_size 20, max_discard_sectors 36. */
const configOf = (
  fields: { capacity?: number; sizeMax?: number; segMax?: number; blkSize?: number } = {},
): number[] => {
  const view = new DataView(new ArrayBuffer(60));
  const { capacity = 1024, sizeMax = 4096, segMax = 14, blkSize = 512 } = fields;
  view.setUint32(0, capacity >>> 0, true);
  view.setUint32(4, Math.floor(capacity / 2 ** 32), true);
  view.setUint32(8, sizeMax, true);
  view.setUint32(12, segMax, true);
  view.setUint32(20, blkSize, true);
  view.setUint32(36, 100, true);
  return [...new Uint8Array(view.buffer)];
};

interface RigOptions extends Partial<FakeVirtioOptions> {
  readonly vtblk?: VtblkOptions;
  readonly without?: readonly number[];
}

/** A request as it stands in the ring. */
interface Seen {
  readonly head: number;
  readonly type: number;
  readonly sector: number;
  readonly parts: readonly { readonly addr: number; readonly len: number; readonly write: boolean }[];
}

const rig = (options: RigOptions = {}) => {
  const features = (options.features ?? USUAL).filter((bit) => options.without?.includes(bit) !== true);
  const fake = new FakeVirtio({
    vectors: 2,
    queues: [16],
    config: configOf(),
    virtioId: 2,
    modern: true,
    ...options,
    features,
  });
  const { memory } = fake.pci;
  const attached = attachDriver(virtioPciDriver(), fake.pci, [vtblkDriver(options.vtblk)]);
  const vtblk = attached.children.get("vtblk") as Vtblk;
  const told: [number, number][] = [];
  /** The next request in the ring, not answered yet. */
  const take = (): Seen | null => {
    const head = fake.ring(0).pop();
    if (head < 0) return null;
    const parts = fake.ring(0).chain(head);
    const at = parts[0]!.addr - memory.base;
    return {
      head,
      type: memory.deviceView.getUint32(at, true),
      sector: memory.deviceView.getUint32(at + 8, true) + memory.deviceView.getUint32(at + 12, true) * 2 ** 32,
      parts,
    };
  };
  const answer = ({ head, parts }: Seen, status: number, len = 1): void => {
    memory.device[parts.at(-1)!.addr - memory.base] = status;
    fake.ring(0).push(head, len);
  };
  /** Answers each doorbell at once. */
  const serve = (status: number) => {
    fake.onNotify = () => {
      for (let seen = take(); seen !== null; seen = take()) {
        if (seen.type === 0 || seen.type === 8)
          for (const { addr, len } of seen.parts.slice(1, -1))
            memory.device.fill(0x5a, addr - memory.base, addr - memory.base + len);
        answer(seen, status);
      }
    };
  };
  const interrupt = () => fake.pci.fire(2);
  /** A request whose data lie in pieces of the given lengths; told as [n, error]. */
  const bio = (n: number, command: Bio["command"], lba: number, count: number, lengths: readonly number[]): Bio => {
    const data = frameSegments(lengths.length);
    for (const [i, length] of lengths.entries()) {
      data.paddr[i] = memory.alloc(length + 1, 1, 2 ** 32);
      data.len[i] = length;
    }
    data.count = lengths.length;
    return { command, lba, count, data: lengths.length === 0 ? null : data, done: (_, error) => told.push([n, error]) };
  };
  return { fake, memory, attached, vtblk, told, take, answer, serve, interrupt, bio };
};

const refused = (code: string, run: () => unknown) =>
  assert.throws(run, (error: unknown) => error instanceof DriverError && error.code === code, code);

test("attach says what disk it is, as FreeBSD does", () => {
  for (const modern of [true, false]) {
    const { vtblk, attached, fake } = rig({ modern, config: configOf({ capacity: 131_072 }) });
    assert.is(attached.lines.at(-1), "vtblk0: 64MB (131072 512 byte sectors)");
    assert.equal([vtblk.name, vtblk.sectors, vtblk.blockSize, vtblk.readOnly], ["vtbd0", 131_072, 512, false]);
    assert.equal(fake.faults, []);
  }
  const large = rig({ config: configOf({ capacity: 2 ** 33 + 9, blkSize: 4096 }) });
  assert.is(large.attached.lines.at(-1), `vtblk0: ${2 ** 22}MB (${2 ** 30 + 1} 4096 byte sectors)`);
});

test("VIO-351 a capacity that changes while it is read is read again", () => {
  const config = configOf({ capacity: 0xffff_ffff });
  const fake = new FakeVirtio({ vectors: 2, queues: [16], config, virtioId: 2, modern: true, features: USUAL });
  let reads = 0;
  fake.onConfigRead = (offset) => {
    if (offset !== 4 || reads++ > 0) return;
    fake.config.set([0, 0, 0, 0, 1, 0, 0, 0]); // 2³² now: half and half would be 2³³ − 1
    fake.generation++;
  };
  const attached = attachDriver(virtioPciDriver(), fake.pci, [vtblkDriver()]);
  assert.is((attached.children.get("vtblk") as Vtblk).sectors, 2 ** 32);
});

test("a device that tells nonsense about itself is not attached", () => {
  for (const options of [
    { config: configOf({ blkSize: 0 }) },
    { config: configOf({ blkSize: 1000 }) },
    { config: configOf({ blkSize: 2 ** 31 }) },
    { config: configOf({ capacity: 2 ** 60 }) },
    { config: configOf({ sizeMax: 100 }), features: [...USUAL, SIZE_MAX] },
    { queues: [2] },
  ]) {
    const { attached, fake } = rig(options);
    assert.is(attached.children.get("vtblk"), undefined);
    assert.not(attached.lines.some((line) => line.includes("sectors)")));
    assert.is(fake.status & 4, 0);
  }
});

test("a read is header, data and status; direct and indirect", () => {
  for (const without of [[], [INDIRECT]]) {
    const { vtblk, bio, fake, take, answer, interrupt, told, memory } = rig({ without });
    const request = bio(7, "read", 20, 3, [512, 1024]);
    assert.is(vtblk.submit(request), 0);
    assert.equal([take(), vtblk.inFlight], [null, 1], "nothing is visible before the doorbell");
    vtblk.kick();
    const seen = take()!;
    assert.equal([seen.type, seen.sector], [0, 20]);
    assert.equal(
      seen.parts.map(({ len, write }) => [len, write]),
      [
        [16, false],
        [512, true],
        [1024, true],
        [1, true],
      ],
    );
    assert.is(fake.ring(0).indirect(seen.head), without.length === 0);
    assert.is(memory.device[seen.parts[3]!.addr - memory.base], 0xff);
    memory.device.fill(0x42, seen.parts[1]!.addr - memory.base, seen.parts[1]!.addr - memory.base + 512);
    answer(seen, 0, 1537);
    interrupt();
    assert.equal([told, vtblk.inFlight], [[[7, 0]], 0]);
    assert.is(memory.read8(request.data!.paddr[0]!), 0x42, "the driver sees what the device wrote");
    assert.equal(fake.faults, []);
  }
});

test("requests are told as they are answered, in any order, each once", () => {
  const { vtblk, bio, take, answer, interrupt, told } = rig();
  for (let i = 0; i < 5; i++) assert.is(vtblk.submit(bio(i, i % 2 === 0 ? "read" : "write", i, 1, [512])), 0);
  vtblk.kick();
  const seen = Array.from({ length: 5 }, () => take()!);
  assert.equal(
    seen.map(({ type }) => type),
    [0, 1, 0, 1, 0],
  );
  for (const [i, status] of [
    [3, 0],
    [0, 1],
    [4, 2],
  ] as const)
    answer(seen[i]!, status);
  interrupt();
  assert.equal(told, [
    [3, 0],
    [0, EIO],
    [4, EOPNOTSUPP],
  ]);
  answer(seen[2]!, 0x77);
  answer(seen[1]!, 0xff);
  interrupt();
  assert.equal(told.slice(3), [
    [2, EIO],
    [1, EIO],
  ]);
  assert.is(vtblk.errors, 3);
});

test("what will never be taken is refused with a reason, and what has no room now with ENOSPC", () => {
  const { vtblk, bio, told, serve, interrupt } = rig();
  const error = (command: Bio["command"], lba: number, count: number, lengths: readonly number[]) =>
    vtblk.submit(bio(0, command, lba, count, lengths));
  assert.is(error("read", 1024, 1, [512]), EINVAL);
  assert.is(error("read", 1023, 2, [1024]), EINVAL);
  assert.is(error("read", -1, 1, [512]), EINVAL);
  assert.is(error("read", 0.5, 1, [512]), EINVAL);
  assert.is(error("read", 0, 0, []), EINVAL);
  assert.is(error("read", 0, 1, []), EINVAL);
  assert.is(error("write", 0, 1, [511]), EINVAL);
  assert.is(error("write", 0, 1, [512, 1]), EINVAL);
  assert.is(error("read", 0, 15, new Array<number>(15).fill(512)), EFBIG, "seg_max is 14");
  assert.is(error("delete", 0, 101, []), EFBIG);
  assert.is(error("delete", 1000, 25, []), EINVAL);
  assert.equal([told, vtblk.inFlight], [[], 0]);
  let taken = 0;
  while (error("read", 0, 1, [512]) === 0) taken++;
  assert.is(taken, 16);
  assert.is(error("flush", 0, 0, []), ENOSPC);
  serve(0);
  vtblk.kick();
  interrupt();
  assert.is(told.length, 16);
  assert.is(error("flush", 0, 0, []), 0);
  const plain = rig({ without: [FLUSH, DISCARD] });
  assert.is(plain.vtblk.submit(plain.bio(0, "flush", 0, 0, [])), EOPNOTSUPP);
  assert.is(plain.vtblk.submit(plain.bio(0, "delete", 0, 1, [])), EOPNOTSUPP);
  plain.vtblk.flush();
  const readOnly = rig({ features: [...USUAL, RO] });
  assert.is(readOnly.vtblk.submit(readOnly.bio(0, "write", 0, 1, [512])), EROFS);
  refused("EOPNOTSUPP", () => readOnly.vtblk.write(0, new Uint8Array(512)));
});

test("pieces longer than size_max are cut, and requests keep to the segments that are there", () => {
  const { vtblk, bio, take } = rig({ features: [...USUAL, SIZE_MAX], config: configOf({ sizeMax: 1024 }) });
  assert.is(vtblk.maxBlocks, 28); // 14 segments of 1024
  assert.is(vtblk.submit(bio(0, "read", 0, 5, [2560])), 0);
  assert.is(vtblk.submit(bio(0, "read", 0, 29, [29 * 512])), EFBIG);
  vtblk.kick();
  assert.equal(
    take()!.parts.map(({ len }) => len),
    [16, 1024, 1024, 512, 1],
  );
});

test("a delete names its range, flags 0", () => {
  const { vtblk, bio, take, memory } = rig({ config: configOf({ blkSize: 4096 }) });
  assert.is(vtblk.submit(bio(0, "delete", 3, 2, [])), 0);
  vtblk.kick();
  const { type, parts } = take()!;
  assert.is(type, 11);
  const at = parts[1]!.addr - memory.base;
  assert.equal([...memory.device.subarray(at, at + 16)], [24, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0]);
});

test("blocking calls read, write, flush and ask for the name", () => {
  const { vtblk, serve, fake, memory, take, answer } = rig();
  serve(0);
  const bytes = vtblk.read(0, 300); // more than the bounce buffer holds
  assert.is(bytes.length, 300 * 512);
  assert.ok(bytes.every((b) => b === 0x5a));
  vtblk.flush();
  assert.is(vtblk.ident(), "Z".repeat(20));
  const written: number[] = [];
  fake.onNotify = () => {
    for (let seen = take(); seen !== null; seen = take()) {
      for (const { addr, len } of seen.parts.slice(1, -1))
        written.push(...memory.device.subarray(addr - memory.base, addr - memory.base + len));
      answer(seen, 0);
    }
  };
  const data = Uint8Array.from({ length: 200 * 512 }, (_, i) => (i * 3) & 0xff);
  vtblk.write(5, data);
  assert.equal(Uint8Array.from(written), data);
  refused("EINVAL", () => vtblk.read(1000, 25));
  refused("EINVAL", () => vtblk.write(0, new Uint8Array(100)));
  serve(1);
  refused("EIO", () => vtblk.read(0, 1));
  refused("EIO", () => vtblk.flush());
  assert.is(vtblk.ident(), "");
});

test("a device that never answers: blocking calls end, it is reset, and what was in flight is given up", () => {
  const { vtblk, told, bio, serve, attached, fake } = rig();
  assert.is(vtblk.submit(bio(1, "read", 0, 1, [512])), 0);
  fake.log.length = 0;
  refused("ETIMEDOUT", () => vtblk.read(0, 1));
  assert.equal(told, [[1, EIO]]);
  assert.equal([vtblk.timeouts, vtblk.inFlight], [1, 0]);
  assert.ok(attached.lines.includes("vtblk0: read was not answered; resetting the device"));
  assert.ok(fake.log.includes("status 0") && (fake.status & 4) !== 0);
  serve(0);
  assert.is(vtblk.read(0, 1)[0], 0x5a);
});

test("a device that does not even reset is lost: everything is told, nothing is taken, nobody hangs", () => {
  const { vtblk, told, bio, fake } = rig();
  assert.is(vtblk.submit(bio(1, "read", 0, 1, [512])), 0);
  fake.slowReset = 1_000_000;
  assert.is(vtblk.reset(), false);
  assert.equal(told, [[1, EIO]]);
  assert.is(vtblk.submit(bio(2, "read", 0, 1, [512])), ENXIO);
  refused("ENXIO", () => vtblk.read(0, 1));
});

test("a `done` that submits, resets or waits in the middle of things finds the driver in order", () => {
  const { vtblk, bio, serve, told, interrupt } = rig();
  serve(0);
  const again: Bio = {
    ...bio(0, "read", 0, 1, [512]),
    done: (self, error) => {
      told.push([0, error]);
      if (told.length < 100) {
        vtblk.submit(self);
        vtblk.kick();
      }
    },
  };
  vtblk.submit(again);
  vtblk.kick();
  interrupt();
  assert.is(told.length, 16, "a turn ends");
  for (let i = 0; i < 10; i++) interrupt();
  assert.is(told.length, 100);
  const results: unknown[] = [];
  const nosy: Bio = {
    ...bio(0, "read", 0, 1, [512]),
    done: (_, error) => {
      results.push(error, vtblk.reset(), vtblk.submit(bio(9, "read", 0, 1, [512])));
    },
  };
  vtblk.submit(nosy);
  assert.is(vtblk.reset(), true);
  assert.equal(results, [EIO, false, ENXIO]);
  assert.is(vtblk.read(1, 1)[0], 0x5a);
});

test("a device that asks for a reset gets one; one that changes its size is told so", () => {
  const { vtblk, fake, attached, told, bio, serve } = rig();
  assert.is(vtblk.submit(bio(1, "read", 0, 1, [512])), 0);
  fake.status |= 0x40;
  fake.pci.fire(1);
  assert.equal(told, [[1, EIO]]);
  assert.is(fake.status & 0x44, 4);
  serve(0);
  assert.is(vtblk.read(0, 1)[0], 0x5a);
  fake.config.set([0, 8], 0);
  fake.pci.fire(1);
  assert.is(vtblk.sectors, 2048);
  assert.is(attached.lines.at(-1), "vtblk0: resized to 1MB (2048 512 byte sectors)");
});

test("VIO-356 a lying device: bad ids, lengths, status, indices in any mixture; each request is told at most once, and none hangs", () => {
  const lie = fc.record({
    id: fc.oneof(fc.nat(20), fc.constant(0xffff_ffff)),
    len: fc.constantFrom(0, 1, 513, 0xffff_ffff),
    status: fc.constantFrom(0, 1, 2, 0xff),
  });
  fc.assert(
    fc.property(fc.array(lie, { maxLength: 20 }), fc.nat(0xffff), (lies, idx) => {
      const { vtblk, bio, fake, told, interrupt, take, memory, serve } = rig();
      for (let i = 0; i < 8; i++) assert.is(vtblk.submit(bio(i, "read", i, 1, [512])), 0);
      vtblk.kick();
      const seen = Array.from({ length: 8 }, () => take()!);
      for (const [i, { id, len, status }] of lies.entries()) {
        memory.device[seen[i % 8]!.parts.at(-1)!.addr - memory.base] = status;
        fake.ring(0).push(id, len);
        interrupt();
      }
      fake.ring(0).publish(idx);
      interrupt();
      assert.is(told.length + vtblk.inFlight, 8);
      assert.is(new Set(told.map(([n]) => n)).size, told.length);
      assert.is(vtblk.reset(), true);
      assert.is(told.length, 8);
      serve(0);
      assert.is(vtblk.read(0, 1)[0], 0x5a);
    }),
    { numRuns: 60 },
  );
});

test("VIO-365 detach resets the device, then gives everything up and back", () => {
  const { vtblk, bio, told, attached, memory, fake } = rig();
  assert.is(vtblk.submit(bio(1, "read", 0, 1, [512])), 0);
  attached.detach();
  assert.equal(told, [[1, ENXIO]]);
  assert.is(fake.status & 4, 0);
  assert.is(memory.live, 513, "all but the test's own buffer");
});

test.run();
