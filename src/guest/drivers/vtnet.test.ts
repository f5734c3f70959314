import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { BusError, IFF_OACTIVE, IFF_RUNNING, type Ifnet } from "../types.js";
import {
  ANY_LAYOUT,
  CTRL_GUEST_OFFLOADS,
  CTRL_MAC,
  CTRL_VQ,
  EVENT_IDX,
  FRAME,
  frameOf,
  HEADER,
  INDIRECT,
  MRG,
  MTU,
  RECEIVING,
  type RigOptions,
  rig,
  SENDING,
  STATUS,
  USUAL,
  up,
} from "./testing/vtnet-rig.js";

test("attach reads the address, says so, and offers an interface that is down", () => {
  for (const modern of [true, false]) {
    const { vtnet, attached } = rig({ modern });
    assert.equal([...vtnet.lladdr], [0x52, 0x54, 0, 1, 2, 3]);
    assert.is(attached.lines.at(-1), "vtnet0: Ethernet address: 52:54:00:01:02:03");
    assert.is((vtnet as Ifnet).flags, 0x8802); // BROADCAST, SIMPLEX, MULTICAST
    assert.is(vtnet.mtu, 1500);
    assert.is(vtnet.capenable, 0x80028); // VLAN_MTU, JUMBO_MTU, LINKSTATE
  }
});

test("media as vtnet has it", () => {
  const { vtnet } = up();
  assert.equal(vtnet.media(), {
    selected: "autoselect",
    active: "10Gbase-T",
    options: ["full-duplex"],
    valid: true,
    status: "active",
  });
  vtnet.setMedia("autoselect");
  assert.throws(
    () => vtnet.setMedia("100baseTX"),
    (error: unknown) => error instanceof BusError && error.code === "EOPNOTSUPP",
  );
});

test("VIO-364 control commands come after DRIVER_OK, or before it for a legacy device when asked for", () => {
  for (const modern of [true, false])
    for (const controlBeforeDriverOk of [true, false]) {
      const { fake, vtnet } = rig({ modern, vtnet: { controlBeforeDriverOk } });
      vtnet.up();
      const ok = modern ? "status f" : "status 7";
      const early = controlBeforeDriverOk && !modern;
      // at attach and at up: each a DRIVER_OK and the commands round it
      let seen = 0;
      let okSeen = false;
      for (const line of fake.log) {
        if (line === "status 0") okSeen = false;
        if (line === ok) okSeen = true;
        if (line !== "notify 2") continue;
        assert.is(okSeen, !early);
        seen++;
      }
      assert.ok(seen >= 3);
    }
});

test("VIO-350 a modern device is not notified before DRIVER_OK, through attach, up, traffic, down and up", () => {
  const { fake, vtnet, memory, take } = rig({ vtnet: { controlBeforeDriverOk: true } });
  for (let i = 0; i < 2; i++) {
    vtnet.up();
    vtnet.transmit(frameOf(memory, [60]));
    vtnet.kick();
    assert.is(take().length, 1);
    vtnet.down();
  }
  assert.equal(fake.faults, []);
  assert.ok(fake.log.includes("notify 0"));
});

test("VIO-358 each receive buffer holds a frame and its header", () => {
  for (const modern of [true, false])
    for (const without of [[], [MRG], [MRG, ANY_LAYOUT]]) {
      const { fake } = up({ modern, without });
      const ring = fake.ring(0);
      assert.is(ring.availIdx, !modern && without.includes(ANY_LAYOUT as never) ? 8 : 16); // two descriptors, or one
      for (let head = ring.pop(); head >= 0; head = ring.pop())
        assert.ok(ring.chain(head).reduce((bytes, { len }) => bytes + len, 0) >= 1526);
    }
});

test("an MTU of 9000 makes receive buffers that large without mergeable ones", () => {
  const config = [2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0x28, 0x23];
  const { fake, vtnet } = up({ queues: [8, 8, 4], features: [...USUAL, MTU], without: [MRG], config });
  const ring = fake.ring(0);
  assert.ok(ring.chain(ring.pop())[0]!.len >= 12 + 14 + 9000);
  assert.is(vtnet.mtu, 1500);
  vtnet.mtu = 9000;
  assert.throws(() => {
    vtnet.mtu = 9001;
  }, /EINVAL/);
  assert.throws(() => {
    vtnet.mtu = 67;
  }, /EINVAL/);
});

test("VIO-359 the header has a descriptor of its own for a legacy device without ANY_LAYOUT, and only there", () => {
  const shape = (options: RigOptions) => {
    const { fake, fill, interrupt, received, vtnet } = up(options);
    const ring = fake.ring(0);
    const lens = ring.chain(ring.pop()).map(({ len }) => len);
    ring.last--;
    const hdr = options.modern === false && options.without?.includes(MRG) === true ? 10 : 12;
    fill([...HEADER.slice(0, hdr), ...FRAME]);
    interrupt();
    assert.equal(received, [FRAME]);
    assert.is(vtnet.counters().ierrors, 0);
    return lens;
  };
  assert.equal(shape({ modern: false, without: [MRG, ANY_LAYOUT] }), [10, 2034]);
  assert.equal(shape({ modern: false, without: [MRG] }), [2048]);
  assert.equal(shape({ modern: false, without: [ANY_LAYOUT] }), [2048]);
  assert.equal(shape({ without: [MRG, ANY_LAYOUT] }), [2048]);
});

test("VIO-360 the header of a frame to send is all zeros, num_buffers too, and the pieces follow in place", () => {
  for (const [modern, without, hdr] of [
    [true, [], 12],
    [true, [MRG, INDIRECT, EVENT_IDX], 12],
    [false, [], 12],
    [false, [MRG, INDIRECT], 10],
  ] as const) {
    const { fake, vtnet, memory, take } = up({ modern, without });
    const frame = frameOf(memory, [14, 0, 30, 20]);
    for (const [i, length] of [14, 0, 30, 20].entries())
      memory.copyIn(
        frame.paddr[i]!,
        Uint8Array.from({ length }, (_, n) => 100 * (i + 1) + n),
        0,
        length,
      );
    assert.ok(vtnet.transmit(frame));
    vtnet.kick();
    assert.is(fake.log.at(-1), "notify 1");
    const [sent] = take();
    const piece = (i: number, length: number) => Array.from({ length }, (_, n) => (100 * (i + 1) + n) & 0xff);
    assert.equal(sent!.bytes, [...Array(hdr).fill(0), ...piece(0, 14), ...piece(2, 30), ...piece(3, 20)]);
  }
});

test("frames are told in the order in which they were queued, whatever order the device finishes them in", () => {
  const { fake, vtnet, memory, take, told } = up();
  for (const length of [60, 61, 62]) assert.ok(vtnet.transmit(frameOf(memory, [length])));
  vtnet.kick();
  const [a, b, c] = take().map(({ head }) => head);
  fake.ring(1).push(c!, 0);
  fake.pci.fire(3);
  assert.equal(told, []);
  fake.ring(1).push(a!, 0);
  fake.pci.fire(3);
  assert.equal(told, [1]);
  fake.ring(1).push(b!, 0);
  fake.pci.fire(3);
  assert.equal(told, [1, 2]);
  assert.is(vtnet.counters().opackets, 3);
  assert.is(vtnet.counters().obytes, 183);
});

test("frames that cannot be sent are dropped, counted, and told in their turn", () => {
  const { fake, vtnet, memory, take, told } = up();
  assert.ok(vtnet.transmit(frameOf(memory, [60])));
  assert.ok(vtnet.transmit(frameOf(memory, [1519]))); // 1500 + 14 + 4, and one more
  assert.ok(vtnet.transmit(frameOf(memory, [1518])));
  assert.ok(vtnet.transmit(frameOf(memory, [13])));
  assert.ok(vtnet.transmit(frameOf(memory, Array(65).fill(10))));
  vtnet.kick();
  assert.is(vtnet.counters().oerrors, 3);
  const heads = take();
  assert.is(heads.length, 2);
  assert.equal(told, []);
  for (const { head } of heads) fake.ring(1).push(head, 0);
  fake.pci.fire(3);
  assert.equal(told, [5]);
  vtnet.transmit(frameOf(memory, [13]));
  vtnet.kick();
  assert.equal(told, [5, 1]); // nothing else is on its way that could tell it
});

test("a full ring refuses, and takes frames again when some have come back", () => {
  for (const without of [[], [INDIRECT], [EVENT_IDX], [INDIRECT, EVENT_IDX]]) {
    const { fake, vtnet, memory, take, told } = up({ without });
    const frame = frameOf(memory, [60]);
    let queued = 0;
    while (vtnet.transmit(frame)) queued++;
    assert.is(queued, without.includes(INDIRECT as never) ? 8 : 16);
    assert.ok((vtnet.flags & IFF_OACTIVE) !== 0);
    vtnet.kick();
    const heads = take();
    assert.is(heads.length, queued);
    for (const { head } of heads) fake.ring(1).push(head, 0);
    fake.pci.fire(3);
    assert.equal(told, [queued]);
    assert.is(vtnet.flags & IFF_OACTIVE, 0);
    assert.ok(vtnet.transmit(frame));
  }
});

test("what the device has sent while transmit found the ring full is told by kick", () => {
  const { fake, vtnet, memory, take, told } = up();
  const frame = frameOf(memory, [60]);
  while (vtnet.transmit(frame));
  vtnet.kick();
  for (const { head } of take()) fake.ring(1).push(head, 0);
  assert.ok(vtnet.transmit(frame));
  assert.equal(told, []);
  vtnet.kick();
  assert.equal(told, [16]);
});

test("a device that sends at once and an onSent that queues more do not keep the machine from its turn", () => {
  const { fake, vtnet, memory, take } = up();
  const frame = frameOf(memory, [60]);
  let sent = 0;
  fake.onNotify = (queue) => {
    if (queue === 1) for (const { head } of take()) fake.ring(1).push(head, 0);
  };
  vtnet.onSent = (frames) => {
    sent += frames;
    vtnet.transmit(frame);
    vtnet.kick();
  };
  vtnet.transmit(frame);
  vtnet.kick();
  assert.is(sent, 1);
  for (let i = 2; i < 10; i++) {
    assert.ok(fake.pci.runScheduled());
    assert.is(sent, i);
  }
});

test("received frames arrive, their buffers go back, and the counters count", () => {
  const { fake, vtnet, received, fill, interrupt } = up();
  for (let round = 0; round < 40; round++) {
    fill([...HEADER, ...FRAME]);
    fill([...HEADER, ...FRAME, round]);
    interrupt();
  }
  assert.is(received.length, 80);
  assert.equal(received.at(-1), [...FRAME, 39]);
  assert.is(vtnet.counters().ipackets, 80);
  assert.is(vtnet.counters().ibytes, 40 * 121);
  assert.is(fake.ring(0).availIdx, 16 + 80);
});

test("VIO-361 lengths that hold no frame are counted, and their buffers are used again", () => {
  const { fake, vtnet, received, fill, interrupt } = up();
  for (const length of [0, 1, 11, 12, 25]) fill([...HEADER, ...FRAME], length);
  interrupt();
  assert.is(vtnet.counters().ierrors, 5);
  assert.equal(received, []);
  fill([...HEADER, ...FRAME], 26);
  interrupt();
  assert.equal(received, [FRAME.slice(0, 14)]);
  fill([...HEADER, ...FRAME], 0xffff_ffff); // more than the buffer: cut to what it has
  interrupt();
  assert.is(received[1]!.length, 2048 - 12);
  assert.is(vtnet.rxvq.badLengths, 1);
  assert.is(fake.ring(0).availIdx, 16 + 7);
});

test("a frame over several buffers is one frame", () => {
  const { vtnet, received, fill, interrupt } = up();
  const long = Array.from({ length: 5000 }, (_, i) => (i * 7) & 0xff);
  fill([...HEADER.slice(0, 10), 3, 0, ...long.slice(0, 2036)], 2048, false);
  fill(long.slice(2036, 4084), 2048, false);
  fill(long.slice(4084));
  interrupt();
  assert.equal(received, [long]);
  assert.is(vtnet.counters().ibytes, 5000);
});

test("VIO-362 a merged frame whose buffers are not all there is dropped, and nothing is lost but it", () => {
  const { fake, vtnet, received, fill, interrupt } = up();
  fill([...HEADER.slice(0, 10), 3, 0, ...FRAME]);
  fill(FRAME);
  interrupt();
  assert.equal(received, []);
  assert.is(vtnet.counters().ierrors, 1);
  assert.is(fake.ring(0).availIdx, 16 + 2);
  fill([...HEADER.slice(0, 10), 0xff, 0xff, ...FRAME]);
  interrupt();
  assert.is(vtnet.counters().ierrors, 2);
  fill([...HEADER.slice(0, 10), 0, 0, ...FRAME]); // none at all: taken for one
  interrupt();
  assert.equal(received, [FRAME]);
});

test("VIO-363 flags, gso_type and hdr_len of a received header change nothing", () => {
  for (const without of [[], [MRG]]) {
    const { vtnet, received, fill, interrupt } = up({ without });
    fill([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, ...FRAME]);
    interrupt();
    assert.equal(received, [FRAME]);
    assert.is(vtnet.counters().ierrors, 0);
  }
});

test("a handler gives others a turn after a ring of frames, and gets its own at the next poll", () => {
  const { fake, received, fill, interrupt } = up();
  const ring = fake.ring(0);
  let given = 0;
  const deliver = () => {
    for (; given < 100 && ring.last !== ring.availIdx; given++) fill([...HEADER, ...FRAME]);
    if (ring.last === ring.availIdx) ring.pop();
  };
  fake.onNotify = deliver; // the device is as fast as the driver
  deliver();
  interrupt();
  assert.is(received.length, 16);
  for (let turn = 2; turn <= 6; turn++) {
    assert.ok(fake.pci.runScheduled());
    assert.is(received.length, 16 * turn);
  }
  fake.pci.runScheduled();
  assert.is(received.length, 100);
  assert.not(fake.pci.runScheduled());
});

test("the link follows the device, and nothing is sent without it", () => {
  const { fake, vtnet, memory, links } = up();
  assert.equal(links, [true]);
  fake.config[6] = 0;
  fake.pci.fire(1);
  assert.equal(links, [true, false]);
  assert.is(vtnet.media().status, "no carrier");
  assert.is(vtnet.media().active, "none");
  assert.is(vtnet.transmit(frameOf(memory, [60])), false);
  fake.config[6] = 1;
  fake.pci.fire(1);
  assert.ok(vtnet.transmit(frameOf(memory, [60])));
  assert.is(up({ without: [STATUS] }).vtnet.media().status, "active"); // §5.1.4.2: always up without STATUS
});

test("promiscuous, allmulti and the groups become control commands", () => {
  const { vtnet, commands } = up();
  vtnet.setPromisc(true);
  assert.equal(commands[0], [0, 0, 1]);
  assert.equal(commands[1], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(commands[2], [0, 1, 0]);
  commands.length = 0;
  vtnet.setPromisc(false);
  vtnet.setMulticast([Uint8Array.of(1, 0, 0x5e, 0, 0, 1), Uint8Array.of(0x33, 0x33, 0, 0, 0, 1)]);
  assert.equal(commands[4], [1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1, 0x33, 0x33, 0, 0, 0, 1]);
  commands.length = 0;
  vtnet.setMulticast(Array.from({ length: 129 }, (_, i) => Uint8Array.of(1, 0, 0, 0, 0, i)));
  assert.equal(commands, [
    [0, 0, 0],
    [0, 1, 1], // too many for the table: all of them
  ]);
  assert.throws(() => vtnet.setMulticast([Uint8Array.of(2, 0, 0, 0, 0, 1)]), /EINVAL/);
});

test("another station address goes by the control queue, into a legacy configuration, or not at all", () => {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 9);
  const { vtnet, commands } = up();
  vtnet.setLladdr(mac);
  assert.equal(commands, [[1, 1, 2, 0, 0, 0, 0, 9]]);
  vtnet.down();
  commands.length = 0;
  vtnet.up();
  assert.equal(commands[0], [1, 1, 2, 0, 0, 0, 0, 9]); // a reset has brought the old one back
  const legacy = up({ modern: false, without: [CTRL_MAC] });
  legacy.vtnet.setLladdr(mac);
  assert.equal([...legacy.fake.config.subarray(0, 6)], [...mac]);
  const none = up({ without: [CTRL_MAC] });
  assert.throws(() => none.vtnet.setLladdr(mac), /EOPNOTSUPP/);
  assert.equal([...none.vtnet.lladdr], [0x52, 0x54, 0, 1, 2, 3]);
  assert.throws(() => vtnet.setLladdr(Uint8Array.of(1, 0, 0, 0, 0, 1)), /EINVAL/);
});

test("a control command that is never answered is given up after a second, and no other is sent until a restart", () => {
  const { fake, vtnet, attached } = rig({ mute: true });
  assert.match(attached.lines.at(-1)!, /control command 0\/0 was not answered/);
  assert.ok(fake.pci.ns >= 1e9 && fake.pci.ns < 1.1e9);
  const before = fake.log.filter((line) => line === "notify 2").length;
  vtnet.setPromisc(true);
  assert.is(fake.log.filter((line) => line === "notify 2").length, before);
  vtnet.up();
  assert.ok((vtnet.flags & IFF_RUNNING) !== 0);
  assert.is(fake.log.filter((line) => line === "notify 2").length, before + 1);
});

test("commands offered without their queue are not taken", () => {
  const { fake, vtnet } = rig({ without: [CTRL_VQ], queues: [16, 16] });
  assert.is(vtnet.ctrlvq, null);
  assert.is((fake.driverFeatures >> 18n) & 1n, 0n);
  assert.is((fake.driverFeatures >> 23n) & 1n, 0n);
});

test("down gives every queued frame back, up starts with empty rings", () => {
  const { fake, vtnet, memory, told, received, fill, interrupt, take } = up();
  for (let i = 0; i < 3; i++) vtnet.transmit(frameOf(memory, [60]));
  vtnet.kick();
  vtnet.down();
  assert.is(fake.status, 0);
  assert.equal(told, [3]);
  assert.is(vtnet.counters().oerrors, 3);
  assert.is(vtnet.transmit(frameOf(memory, [60])), false);
  interrupt(); // one that was on its way
  vtnet.up();
  fill([...HEADER, ...FRAME]);
  interrupt();
  assert.equal(received, [FRAME]);
  vtnet.transmit(frameOf(memory, [60]));
  vtnet.kick();
  assert.is(take().length, 1);
});

test("an onReceive that takes the interface down and up is obeyed", () => {
  const { fake, vtnet, received, fill, interrupt } = up();
  const keep = vtnet.onReceive;
  vtnet.onReceive = () => {
    vtnet.down();
    vtnet.up();
    vtnet.onReceive = keep;
  };
  fill([...HEADER, ...FRAME]);
  fill([...HEADER, ...FRAME]);
  interrupt();
  assert.is(fake.ring(0).availIdx, 16);
  assert.equal(received, []);
  fill([...HEADER, ...FRAME]);
  interrupt();
  assert.equal(received, [FRAME]);
});

test("DEVICE_NEEDS_RESET stops the interface until it goes up again", () => {
  const { fake, vtnet, links, fill, interrupt, received } = up();
  fake.status |= 0x40;
  fake.pci.fire(1);
  assert.is(vtnet.flags & IFF_RUNNING, 0);
  assert.equal(links, [true, false]);
  vtnet.up();
  fill([...HEADER, ...FRAME]);
  interrupt();
  assert.equal(received, [FRAME]);
});

test("VIO-365 PRB-068 detach resets the device before any memory that it knows is freed, and frees all of it", () => {
  for (const modern of [true, false])
    for (const goUp of [true, false]) {
      const { fake, vtnet, memory, attached } = rig({ modern });
      if (goUp) vtnet.up();
      const free = memory.free.bind(memory);
      const statuses: number[] = [];
      memory.free = (address, bytes) => {
        statuses.push(fake.status & 4);
        free(address, bytes);
      };
      attached.detach();
      assert.ok(statuses.length >= 5);
      assert.ok(statuses.every((status) => status === 0));
      assert.is(memory.live, 0);
      assert.is(fake.pci.live, 0);
    }
});

test("an attach that fails leaves nothing behind", () => {
  const { fake, vtnet, memory } = rig({ queues: [16, 16], mute: true }); // CTRL_VQ offered, and not there
  assert.is(vtnet, undefined);
  assert.is(memory.live, 0);
  assert.is(fake.status, 1);
});

test("a lying device costs counters and no more: nothing throws, nothing hangs, and a restart makes it good", () => {
  const step = fc.record({
    what: fc.constantFrom("rx", "tx", "scribble", "idx", "config", "send"),
    a: fc.nat(0xffff_ffff),
    b: fc.nat(0xffff),
  });
  fc.assert(
    fc.property(fc.boolean(), fc.boolean(), fc.array(step, { maxLength: 60 }), (modern, offload, steps) => {
      const features = offload ? [...USUAL, ...SENDING, ...RECEIVING, CTRL_GUEST_OFFLOADS] : USUAL;
      const { fake, vtnet, memory, fill, interrupt, received, take } = up({ modern, features, queues: [8, 8, 4] });
      const frame = frameOf(memory, [60]);
      const view = memory.deviceView;
      for (const { what, a, b } of steps) {
        const ring = fake.ring(a & 1);
        if (what === "rx") fake.ring(0).push(a % 12, b);
        if (what === "tx") fake.ring(1).push(a % 12, b);
        if (what === "idx") ring.publish(b);
        if (what === "scribble") view.setUint32((a % (memory.device.length / 4 - 1)) * 4, b, true);
        if (what === "config") fake.config[a % 12] = b;
        if (what === "send") {
          vtnet.transmit(frame);
          vtnet.kick();
        }
        for (const rid of [1, 2, 3]) fake.pci.fire(rid);
        fake.pci.runScheduled();
      }
      fake.config[6] = 1;
      vtnet.down();
      vtnet.up();
      received.length = 0;
      fill([...HEADER, ...FRAME]);
      interrupt();
      assert.equal(received, [FRAME]);
      assert.ok(vtnet.transmit(frame));
      vtnet.kick();
      assert.is(take().length, 1);
    }),
    { numRuns: 60 },
  );
});

test.run();
