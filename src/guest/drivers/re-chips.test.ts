import { test } from "uvu";
import * as assert from "uvu/assert";
import { BusError } from "../types.js";
import { multicastTable } from "./ifnet.js";
import { type ReOptions, reDriver } from "./re.js";
import { attachDriver } from "./testing/fake-pci.js";
import { type FakeChip, FakeRtl8169 } from "./testing/fake-rtl8169.js";
import { FRAME, frameOf, listen } from "./testing/rig.js";

/*
 * What `re` does on the other chips, and what it leaves to them. Registers, descriptors and PHY values are raw numbers from
 * the data sheets and from FreeBSD's and DragonFly's drivers.
 */

const CPLUS: FakeChip = { device: 0x8139, revid: 0x20, cplus: true };
const CHIPS = {
  "8169": [0x0000_0000, { phyId2: 0xc910 }],
  "8169S": [0x0080_0000, { phyId2: 0xc910 }],
  "8110S": [0x0400_0000, { phyId2: 0xc910 }],
  "8169SB/8110SB": [0x1000_0000, {}],
  "8169SBL/8110SBL": [0x7cc0_0000, {}],
  "8169SC/8110SC": [0x1800_0000, { device: 0x8167 }],
  "8169SC/8110SC (e)": [0x9800_0000, { device: 0x8167 }],
  "C+": [0x7480_0000, CPLUS],
} as const satisfies { readonly [name: string]: readonly [number, FakeChip] };
type Name = keyof typeof CHIPS;

const rig = (name: Name, options: ReOptions = {}) => {
  const [version, what] = CHIPS[name];
  const chip = new FakeRtl8169(version, what);
  const attached = attachDriver(reDriver({ diagnose: false, ...options }), chip.pci);
  const re = attached.softc;
  const { memory } = chip.pci;
  return { chip, attached, re, memory, ...listen(re, memory) };
};

const up = (name: Name, options: ReOptions = {}) => {
  const r = rig(name, options);
  r.re.up();
  r.chip.setLink(true);
  r.chip.interrupt(0);
  r.chip.log.length = 0;
  return r;
};

const writesTo = (chip: FakeRtl8169, at: string): string[] =>
  chip.log.filter((line) => new RegExp(`^W\\d+ ${at}=`).test(line)).map((line) => line.split("=")[1]!);
const phyCommands = (chip: FakeRtl8169): string[] => writesTo(chip, "60");

for (const name of Object.keys(CHIPS) as Name[])
  test(`${name}: attached, up, a frame each way`, () => {
    const { chip, re, attached, memory, received, links, told } = up(name);
    assert.is(re.chip, name.replace(" (e)", ""));
    assert.is(attached.lines[0], `re0: Chip rev. 0x${CHIPS[name][0].toString(16).padStart(8, "0")}`);
    assert.equal(links, [true]);
    assert.is(re.media().active, name === "C+" ? "100baseTX" : "1000baseT");
    chip.receive(FRAME);
    chip.interrupt(1);
    assert.equal(received, [FRAME]);
    assert.ok(re.transmit(frameOf(memory, [60])));
    re.kick();
    assert.is(chip.send().length, 1);
    chip.interrupt(4);
    assert.equal(told, [1]);
  });

test("which registers a chip has: 82h, 7Ch, E2h, DAh, TimerInt, TPPoll", () => {
  const setUp = (name: Name, config2 = 0): FakeRtl8169 => {
    const { chip, re, memory } = rig(name);
    chip.regs[0x53] = config2;
    re.up();
    chip.setLink(true);
    chip.interrupt(0);
    re.transmit(frameOf(memory, [60]));
    re.kick();
    return chip;
  };
  for (const name of Object.keys(CHIPS) as Name[]) {
    const chip = setUp(name);
    const isCplus = name === "C+";
    assert.is(writesTo(chip, "82").length > 0, !isCplus, name);
    assert.equal(writesTo(chip, "da"), isCplus ? [] : ["3fff"], name);
    assert.is(writesTo(chip, "e2").at(-1), isCplus ? undefined : "5100", name);
    assert.equal(writesTo(chip, isCplus ? "54" : "58"), ["0"], name);
    assert.equal(writesTo(chip, isCplus ? "d9" : "38"), ["40"], name);
    assert.equal(writesTo(chip, isCplus ? "38" : "d9"), [], name);
    assert.equal(writesTo(chip, "e0"), ["6b"], name);
    assert.equal(writesTo(chip, isCplus ? "d8" : "56"), ["0"], name); // wake-up frames off
    assert.is(chip.log.filter((line) => line === "R8 53").length > 0, !isCplus, name);
  }
  assert.equal(writesTo(setUp("8169SB/8110SB"), "7c"), []);
  assert.equal(writesTo(setUp("8169SC/8110SC"), "7c"), ["fff00"]);
  assert.equal(writesTo(setUp("8169SC/8110SC (e)"), "7c"), ["ffff00"]);
  assert.equal(writesTo(setUp("8169SC/8110SC", 1), "7c"), ["fffff"]); // 66 MHz
  assert.equal(writesTo(setUp("8169SC/8110SC"), "e2"), ["0", "5100"]);
});

test("RTL-014 the 8169SC is driven by its ports, the others by their memory; either can be asked for", () => {
  const works = (name: Name, options: ReOptions, without: number): boolean => {
    const [version, what] = CHIPS[name];
    const chip = new FakeRtl8169(version, what);
    chip.pci.bars.delete(without);
    try {
      attachDriver(reDriver({ diagnose: false, ...options }), chip.pci);
      return true;
    } catch (error) {
      assert.ok(error instanceof BusError);
      return false;
    }
  };
  const [PORTS, MEMORY] = [0x10, 0x14];
  for (const name of ["8169SC/8110SC", "8169SC/8110SC (e)"] as const) {
    assert.ok(works(name, {}, MEMORY));
    assert.not(works(name, {}, PORTS));
    assert.ok(works(name, { preferIomap: false }, PORTS));
  }
  for (const name of ["8169S", "C+"] as const) {
    assert.ok(works(name, {}, PORTS));
    assert.not(works(name, {}, MEMORY));
    assert.ok(works(name, { preferIomap: true }, MEMORY));
  }
});

test("the C+ has rlphy, and its BMCR is written unlocked", () => {
  const { chip, re } = up("C+");
  re.setMedia("10baseT/UTP");
  assert.equal(
    chip.log.filter((line) => line.startsWith("W")),
    ["W16 66=21", "W8 50=c0", "W16 62=0", "W8 50=0"],
  );
  assert.throws(() => re.setMedia("1000baseT"));
  assert.equal(phyCommands(chip), []);
});

test("rings of the C+ have 64 descriptors, those of the others 256", () => {
  for (const [name, size] of [
    ["C+", 64],
    ["8169S", 256],
  ] as const) {
    const { chip, re, memory } = up(name);
    for (const ring of [0xe4] as const) {
      assert.is(memory.deviceView.getUint32(chip.desc(ring, size - 1), true), 0xc000_0800);
      assert.is(memory.deviceView.getUint32(chip.desc(ring, size - 2), true), 0x8000_0800);
    }
    const frame = frameOf(memory, [60]);
    let queued = 0;
    while (re.transmit(frame)) queued++;
    assert.is(queued, size);
    re.kick();
    assert.is(memory.deviceView.getUint32(chip.desc(0x20, size - 1), true), 0xf000_003c);
  }
});

test("revisions 0 and 1 of the PHY get their DSP code after each reset, later ones none", () => {
  const dsp = [
    "801f0001",
    "80151000",
    "801865c7",
    "40000",
    "80040000",
    "40000",
    "80040000",
    "800300a1",
    "80020008",
    "80011020",
    "80001000",
    "40000",
    "80040800",
    "40000",
    "80040000",
    "40000",
    "80047000",
    "8003ff41",
    "8002de60",
    "80010140",
    "80000077",
    "40000",
    "8004a000",
    "8003df01",
    "8002df20",
    "8001ff95",
    "8000fa00",
    "40000",
    "8004b000",
    "8003ff41",
    "8002de20",
    "80010140",
    "800000bb",
    "40000",
    "8004f000",
    "8003df01",
    "8002df20",
    "8001ff95",
    "8000bf00",
    "40000",
    "8004f800",
    "40000",
    "8004f000",
    "801f0000",
  ];
  for (const name of ["8169", "8169S", "8110S"] as const) {
    const commands = phyCommands(rig(name).chip);
    const first = commands.indexOf("801f0001");
    assert.equal(commands.slice(first, first + dsp.length), dsp, name);
    assert.ok(commands.lastIndexOf("80008400") < first, "after the reset");
  }
  for (const name of ["8169SB/8110SB", "8169SC/8110SC"] as const)
    assert.not(phyCommands(up(name).chip).includes("801f0001"), name);
});

test("the 8169S clears PHY register 0Bh after each reset; early PHYs are powered down to lose their link", () => {
  const count = (name: Name, command: string) => phyCommands(rig(name).chip).filter((c) => c === command).length;
  assert.is(count("8169S", "800b0000"), 1);
  assert.is(count("8110S", "800b0000"), 0);
  const negotiate = (name: Name) => {
    const { chip, re } = rig(name);
    chip.log.length = 0;
    re.up();
    return phyCommands(chip);
  };
  assert.ok(negotiate("8169S").includes("80000800"));
  assert.not(negotiate("8169SB/8110SB").includes("80000800"));
});

test("the PHY of the 8169SB and its successors is woken, that of the others left alone", () => {
  for (const name of Object.keys(CHIPS) as Name[]) {
    const wakes = phyCommands(rig(name).chip).slice(0, 2).join() === "801f0000,800e0000";
    assert.is(wakes, name.includes("SB") || name.includes("SC"), name);
  }
});

test("an interrupt that comes while the driver waits for the PHY does not get in its way", () => {
  const { chip, re } = rig("8169SB/8110SB");
  chip.slowPhy = 3;
  let depth = 0;
  chip.pci.whileWaiting = () => {
    if (++depth === 1) chip.interrupt(0x20, 1);
    depth--;
  };
  re.up();
  re.setMedia("100baseTX");
  re.tick();
  assert.is(chip.phyClashes, 0);
});

test("a PHY that stops to answer is told of, and frames go on", () => {
  const { chip, re, attached, received } = up("8169SB/8110SB");
  chip.deadPhy = true;
  chip.receive(FRAME);
  chip.interrupt(0x21, 1);
  assert.match(attached.lines.at(-1)!, /PHY register \d+ was not/);
  assert.equal(received, [FRAME]);
  assert.is(chip.imr, 0xc07f);
  re.down();
  re.up();
  chip.deadPhy = false;
  chip.setLink(true);
  chip.receive(FRAME);
  chip.interrupt(1);
  assert.is(received.length, 2);
  assert.is(re.media().status, "active");
});

// ------------------------------------------------------------------------------------------------ offloads

const TCP = { csumStart: 34, csumOffset: 16, gso: "none", gsoSize: 0, hdrLen: 0, ecn: false } as const;
const UDP = { ...TCP, csumOffset: 6 } as const;
const TSO = { ...TCP, gso: "tcp4", gsoSize: 1460, hdrLen: 54 } as const;
const [RXCSUM, TXCSUM, VLAN_MTU, VLAN_HWTAGGING, VLAN_HWCSUM, TSO4] = [0x1, 0x2, 0x8, 0x10, 0x80, 0x100];

test("what is on at first: checksums and tags, but no TSO; nothing without offload", () => {
  const { re } = rig("8169SB/8110SB");
  assert.is(re.capenable, RXCSUM | TXCSUM | VLAN_MTU | VLAN_HWTAGGING | VLAN_HWCSUM);
  assert.is(re.capabilities, re.capenable | TSO4);
  const plain = rig("8169SB/8110SB", { offload: false });
  assert.is(plain.re.capabilities, VLAN_MTU);
  plain.re.up();
  assert.equal(writesTo(plain.chip, "e0"), ["b"]);
});

test("command bits and tag stand in every descriptor of a frame, the tag with its bytes exchanged", () => {
  for (const name of ["8169SB/8110SB", "C+"] as const) {
    const { chip, re, memory } = up(name);
    re.setCapenable(re.capabilities);
    const words = (i: number) => [
      memory.deviceView.getUint32(chip.desc(0x20, i), true),
      memory.deviceView.getUint32(chip.desc(0x20, i) + 4, true),
    ];
    re.transmit(frameOf(memory, [54, 100]), TCP);
    re.transmit(frameOf(memory, [60]), UDP, 0x6123);
    re.transmit(frameOf(memory, [54, 3000]), TSO);
    re.transmit(frameOf(memory, [60]), null, 0);
    re.kick();
    assert.equal(words(0), [0xa005_0036, 0]);
    assert.equal(words(1), [0x9005_0064, 0]);
    assert.equal(words(2), [0xb006_003c, 0x0002_2361]);
    assert.equal(words(3), [0xadb4_0036, 0]); // LGSEN and 1460
    assert.equal(words(4), [0x9db4_0bb8, 0]);
    assert.equal(words(5), [0xb000_003c, 0x0002_0000]); // a priority tag of 0 is one, too
    assert.is(re.counters().oerrors, 0);
  }
});

test("what the chip cannot do, or what is switched off, is dropped and counted", () => {
  const { re, memory } = up("8169SB/8110SB");
  const frame = frameOf(memory, [54, 3000]);
  const small = frameOf(memory, [100]);
  const dropped = (...args: Parameters<typeof re.transmit>): boolean => {
    const before = re.counters().oerrors;
    assert.ok(re.transmit(...args));
    return re.counters().oerrors > before;
  };
  assert.ok(dropped(frame, TSO)); // not in use
  re.setCapenable(re.capabilities);
  assert.not(dropped(frame, TSO));
  assert.ok(dropped(frame, { ...TSO, ecn: true }));
  assert.ok(dropped(frame, { ...TSO, gso: "tcp6" }));
  assert.ok(dropped(frame, { ...TSO, gsoSize: 0 }));
  assert.ok(dropped(frame, { ...TSO, gsoSize: 2048 }));
  assert.ok(dropped(frame, TCP)); // too long for one frame
  assert.ok(dropped(small, { ...TCP, csumOffset: 10 })); // neither TCP nor UDP
  assert.ok(dropped(small, { ...TCP, csumStart: 90 })); // beyond the frame
  assert.not(dropped(small, TCP));
  assert.ok(dropped(frameOf(memory, [54, 40_000, 25_483]), TSO)); // 65 537 bytes
  assert.not(dropped(frameOf(memory, [54, 40_000, 25_482]), TSO));
  re.setCapenable(re.capabilities & ~VLAN_HWTAGGING);
  assert.ok(dropped(small, null, 5));
  re.setCapenable(re.capabilities & ~TXCSUM);
  assert.ok(dropped(small, TCP));
});

test("RxChkSum and RxVLAN follow ifconfig while the interface runs", () => {
  const { chip, re } = up("C+");
  re.setCapenable(re.capabilities & ~RXCSUM);
  re.setCapenable(re.capabilities & ~(RXCSUM | VLAN_HWTAGGING));
  re.setCapenable(re.capabilities);
  re.setCapenable(re.capabilities & ~TXCSUM); // nothing of the receiver's
  assert.equal(writesTo(chip, "e0"), ["4b", "b", "6b"]);
});

test("received: a checksum counts as good when protocol, header and sum are; the tag comes with the frame", () => {
  const S = 0x3000_0040; // FS, LS, 64 bytes
  const table: readonly (readonly [status: number, csum: string])[] = [
    [0x0000_0000, "none"], // no IP
    [0x0002_0000, "valid"], // TCP
    [0x0004_0000, "valid"], // UDP
    [0x0006_0000, "none"], // another protocol
    [0x0002_4000, "none"], // TCPF
    [0x0004_8000, "none"], // UDPF
    [0x0003_0000, "none"], // IPF
    [0x0002_8000, "valid"], // UDPF says nothing about TCP
  ];
  for (const name of ["8169SB/8110SB", "C+"] as const) {
    const { chip, re, csums, tags, received } = up(name);
    for (const [status] of table) {
      chip.receive(FRAME, S | (name === "C+" ? status >>> 1 : status), 0x0001_2361);
      chip.interrupt(1);
    }
    assert.equal(
      csums,
      table.map(([, csum]) => csum),
      name,
    );
    assert.equal(new Set(tags), new Set([0x6123]));
    chip.receive(FRAME);
    chip.interrupt(1);
    assert.is(tags.at(-1), -1);
    assert.is(received.length, table.length + 1);
    assert.is(re.counters().ierrors, 0);
  }
});

test("the C+ has its error bits one lower, and a length of 13 bits", () => {
  for (const error of [0x0010_0000 | 0x0004_0000, 0x0010_0000 | 0x0008_0000, 0x0010_0000 | 0x0020_0000]) {
    const { chip, re, received } = up("C+");
    chip.receive(FRAME, 0x3000_0040 | error);
    chip.interrupt(1);
    assert.equal(received, []);
    assert.is(re.counters().ierrors, 1);
  }
  const { chip, received } = up("C+");
  chip.receive(FRAME, 0x3000_2040); // bit 13 is TCPF
  chip.interrupt(1);
  assert.equal(received, [FRAME]);
});

test("jumbo frames: 7418 bytes on gigabit chips, in pieces of 2048; TSO goes off where MSS is too short", () => {
  const { chip, re, memory, received } = up("8169S");
  re.setCapenable(re.capabilities);
  assert.throws(
    () => {
      re.mtu = 7419;
    },
    (error: unknown) => error instanceof BusError,
  );
  re.mtu = 2029;
  assert.is(re.capenable & TSO4, TSO4);
  re.mtu = 7418;
  assert.is(re.capenable & TSO4, 0);
  re.setCapenable(re.capabilities);
  assert.is(re.capenable & TSO4, 0);
  assert.ok(re.transmit(frameOf(memory, [7436])));
  re.transmit(frameOf(memory, [7437]));
  assert.is(re.counters().oerrors, 1);
  re.kick();
  assert.is(chip.send()[0]!.length, 7436);
  const long = Array.from({ length: 7436 }, (_, i) => (i * 7) & 0xff);
  for (let at = 0; at < 7440; at += 2048)
    chip.receive(
      [...long, 0, 0, 0, 0].slice(at, at + 2048),
      (at === 0 ? 0x2000_0000 : 0) | (at + 2048 >= 7440 ? 0x1000_0000 | 7440 : 2048),
    );
  chip.interrupt(1);
  assert.equal(received, [long]);
  assert.throws(() => {
    up("C+").re.mtu = 1501;
  });
});

// ------------------------------------------------------------------------------------------------ moderation, filter

test("moderation by the timer: TimeOut in place of TOK, TCTR from 0 at each doorbell and while something is left", () => {
  for (const [name, at, count] of [
    ["8169SB/8110SB", "58", "800"],
    ["C+", "54", "400"],
  ] as const) {
    const { chip, re, memory, told } = rig(name, { moderation: "timer" });
    re.up();
    assert.equal(writesTo(chip, at), [count]);
    assert.is(chip.imr, 0xc07b);
    if (name !== "C+") assert.is(writesTo(chip, "e2").at(-1), "0");
    chip.setLink(true);
    chip.interrupt(0);
    chip.log.length = 0;
    for (let i = 0; i < 3; i++) re.transmit(frameOf(memory, [60]));
    re.kick();
    assert.equal(writesTo(chip, "48"), ["1"]);
    chip.interrupt(0x4000); // nothing was sent yet
    assert.equal(writesTo(chip, "48"), ["1", "1"]);
    assert.is(chip.send().length, 3);
    chip.interrupt(4);
    assert.equal(told, []);
    chip.interrupt(0x4000);
    assert.equal(told, [3]);
    assert.equal(writesTo(chip, "48"), ["1", "1"]);
  }
  const { chip } = up("8169SB/8110SB", { moderation: "none" });
  assert.is(chip.view.getUint16(0xe2, true), 0);
});

test("RTL-094 the hash table as two words, all groups as all ones", () => {
  const groups = [
    [1, 0, 0x5e, 0, 0, 1],
    [0x33, 0x33, 0, 0, 0, 1],
  ].map((group) => Uint8Array.from(group));
  assert.equal(multicastTable(groups), [0x8000_0000, 0x4000_0000]);
  assert.equal(multicastTable([]), [0, 0]);
  assert.equal(multicastTable(null), [0xffff_ffff, 0xffff_ffff]);
});

// ------------------------------------------------------------------------------------------------ diagnostic

/** A chip that loops frames, as TCR and RCR say, once it is told to send. */
const looping = (name: Name, spoil: (frame: number[]) => number[] = (frame) => frame): FakeRtl8169 => {
  const [version, what] = CHIPS[name];
  const chip = new FakeRtl8169(version, what);
  const loop = name === "C+" ? 0x0006_0000 : 0x0002_0000;
  let sent = 0;
  chip.onPoll = () => {
    if ((chip.view.getUint32(0x40, true) & 0x0006_0000) !== loop || (chip.view.getUint32(0x44, true) & 1) === 0) return;
    for (const frame of chip.send()) chip.receive(spoil(frame));
    chip.isr |= 1;
    sent = chip.pci.ns;
  };
  chip.pci.whileWaiting = () => {
    const timer = chip.view.getUint32(name === "C+" ? 0x54 : 0x58, true);
    if (timer !== 0 && sent > 0 && chip.pci.ns - sent > 30 * timer) chip.isr |= 0x4000;
  };
  return chip;
};

test("the diagnostic on the original 8169, unasked: PHY and MAC looped, acknowledged as read", () => {
  const chip = looping("8169");
  const { softc, lines } = attachDriver(reDriver(), chip.pci);
  assert.equal(lines.length, 2);
  assert.ok(chip.log.includes("W32 40=3020700"));
  assert.ok(chip.log.includes("W16 3c=0"));
  assert.ok(phyCommands(chip).includes("80004000"));
  assert.ok(writesTo(chip, "3e").includes("4001"));
  assert.is(chip.imr, 0);
  assert.is(chip.view.getUint32(0x44, true) & 0xf, 0);
  softc.up();
  assert.is(chip.view.getUint32(0x40, true), 0x0300_0700);
  assert.is(chip.view.getUint32(0x44, true), 0xff0a);
});

test("the diagnostic on the C+ as DragonFly runs it: twice initialised, the PHY left alone, causes only read", () => {
  const chip = looping("C+");
  attachDriver(reDriver({ diagnose: true }), chip.pci);
  assert.is(writesTo(chip, "40").filter((value) => value === "3060700").length, 2);
  assert.not(writesTo(chip, "3e").includes("4001"));
  assert.not(writesTo(chip, "62").includes("4000"));
  assert.equal(writesTo(chip, "54"), ["400", "400"]);
});

test("the diagnostic fails where nothing comes back, a part of it, or other bytes; attach gives everything back", () => {
  for (const [spoil, why] of [
    [(frame: number[]) => frame.slice(0, 40), /short packet/],
    [(frame: number[]) => frame.map((byte, i) => (i === 3 ? byte ^ 1 : byte)), /DMA FAILURE/],
  ] as const) {
    const chip = looping("8169", spoil);
    assert.throws(() => attachDriver(reDriver(), chip.pci), why);
    assert.is(chip.pci.live, 0);
    assert.is(chip.pci.memory.live, 0);
    assert.is(chip.regs[0x37], 0);
  }
  const deaf = looping("8169");
  deaf.onPoll = () => {};
  assert.throws(() => attachDriver(reDriver(), deaf.pci), /EIO.*loopback/);
});

test.run();
