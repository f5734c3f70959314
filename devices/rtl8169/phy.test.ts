import { test } from "uvu";
import * as assert from "uvu/assert";
import { LINK_TIME, MS, Rig } from "./testing.js";

const linked = (options = {}): Rig => {
  const rig = new Rig(options);
  rig.linkUp();
  rig.phyRead(1); // the loss before power-on's link is seen
  return rig;
};

test("RTL-046 registers 2 and 3 name an RTL8211B", () => {
  const rig = new Rig();
  assert.is(rig.phyRead(2), 0x001c);
  assert.is(rig.phyRead(3), 0xc912);
});

test("RTL-047 a write with Flag 1 clears Flag and stores the value", () => {
  const rig = new Rig({ timing: "immediate" });
  rig.w32(0x60, 0x8004_0de1);
  assert.is(rig.r32(0x60), 0x0004_0de1);
  rig.w32(0x60, 0x0004_0000);
  assert.is(rig.r32(0x60), 0x8004_0de1);
});

test("RTL-048 a read sets Flag, and Flag and data stay until the next command", () => {
  const rig = new Rig({ timing: "immediate" });
  rig.w32(0x60, 0x0002_0000);
  for (let i = 0; i < 3; i++) assert.is(rig.r32(0x60), 0x8002_001c);
  rig.clock.advance(MS);
  assert.is(rig.r32(0x60), 0x8002_001c);
  rig.w32(0x60, 0x0003_0000);
  assert.is(rig.r32(0x60), 0x8003_c912);
});

test("a dword in two words or four bytes is one command, started by the byte with Flag", () => {
  const rig = new Rig({ timing: "immediate" });
  rig.w16(0x60, 0x0000);
  rig.w16(0x62, 0x0002);
  assert.is(rig.r32(0x60), 0x8002_001c);
  for (const [at, value] of [
    [0x60, 0xe1],
    [0x61, 0x0d],
    [0x62, 0x04],
    [0x63, 0x80],
  ] as const)
    rig.w8(at, value);
  assert.is(rig.phyRead(4), 0x0de1);
});

test("by default a strict host has accesses take their time, and a lenient one does not", () => {
  for (const [options, real] of [
    [{ strictness: "strict" }, true],
    [{ strictness: "lenient" }, false],
    [{ strictness: "strict", timing: "immediate" }, false],
    [{ strictness: "lenient", timing: "real" }, true],
  ] as const) {
    const rig = new Rig(options);
    rig.w32(0x60, 0x0002_0000);
    assert.is(rig.r32(0x60), real ? 0x0002_0000 : 0x8002_001c);
    rig.clock.advance(25_600);
    assert.is(rig.r32(0x60), 0x8002_001c);
  }
});

test("with real timing an access takes 25.6 µs, and one that comes too early is lost and reported", () => {
  const rig = new Rig({ timing: "real" });
  rig.w32(0x60, 0x0002_0000);
  assert.is(rig.r32(0x60), 0x0002_0000);
  rig.clock.advance(25_000);
  rig.w32(0x60, 0x8004_ffff);
  assert.is(rig.r32(0x60) >>> 31, 0);
  assert.equal(
    rig.reports.map(({ code }) => code),
    ["phyar-busy"],
  );
  rig.clock.advance(600);
  assert.is(rig.r32(0x60), 0x8002_001c);
  rig.w32(0x60, 0x8004_0001);
  assert.is(rig.r32(0x60) >>> 31, 1);
  rig.clock.advance(25_600);
  assert.is(rig.r32(0x60) >>> 31, 0);
  assert.is(rig.phyRead(4), 0x0001);
});

test("CR.RST gives up an access that has not ended", () => {
  const rig = new Rig({ timing: "real" });
  rig.w32(0x60, 0x0001_0000);
  rig.w8(0x37, 0x10);
  assert.is(rig.r32(0x60), 0);
  rig.w32(0x60, 0x0002_0000);
  assert.equal(rig.reports, []);
  rig.clock.advance(26_000);
  assert.is(rig.r32(0x60), 0x8002_001c);
});

test("RTL-049 RTL-050 register 31 selects pages and reads back on each; page 1 has registers of its own", () => {
  const rig = linked();
  const bmcr = rig.phyRead(0);
  for (const page of [0, 1, 2, 5, 7, 0x1f, 0x20, 0xa43, 0xffff]) {
    rig.phyWrite(31, page);
    assert.is(rig.phyRead(31), page);
  }
  rig.phyWrite(31, 1);
  rig.phyWrite(0, 0xfa00);
  rig.phyWrite(4, 0x9999);
  assert.is(rig.phyRead(0), 0xfa00);
  rig.phyWrite(31, 2);
  rig.phyWrite(0, 0x90d0);
  rig.phyWrite(31, 0);
  assert.is(rig.phyRead(0), bmcr);
  assert.is(rig.phyRead(4), 0x01e1);
  rig.phyWrite(31, 1);
  assert.is(rig.phyRead(0), 0xfa00);
});

test("the last page that is kept is 31; those beyond read 0, and take nothing", () => {
  const rig = new Rig();
  for (const [page, kept] of [
    [31, 0x1234],
    [32, 0],
    [0xffff, 0],
  ] as const) {
    rig.phyWrite(31, page);
    rig.phyWrite(0, 0x1234);
    assert.is(rig.phyRead(0), kept, `page ${page}`);
    assert.is(rig.phyRead(31), page);
  }
});

test("RTL-051 a vendor script on page 1 leaves link and autonegotiation alone", () => {
  const rig = linked();
  rig.phyWrite(31, 1);
  // The shape of the 8169S script: the low registers of page 1, among them what would be reset, power-down and isolate.
  for (let value = 0; value <= 0xff00; value += 0x1100) for (let reg = 0; reg < 5; reg++) rig.phyWrite(reg, value);
  for (const reg of [6, 21, 24, 25]) rig.phyWrite(reg, 0xffff);
  rig.phyWrite(31, 0);
  assert.is(rig.phyRead(1), 0x796d);
  assert.is(rig.r8(0x6c), 0x13);
  assert.is(rig.r16(0x3e) & 0x0020, 0);
});

test("reset values are those of a real chip: 7949h down, 796Dh up, 01E1h, 0300h, 3000h", () => {
  const rig = new Rig();
  assert.is(rig.phyRead(0), 0x1000);
  assert.is(rig.phyRead(1), 0x7949);
  assert.is(rig.phyRead(4), 0x01e1);
  assert.is(rig.phyRead(5), 0x0000);
  assert.is(rig.phyRead(6), 0x0000);
  assert.is(rig.phyRead(9), 0x0300);
  assert.is(rig.phyRead(10), 0x0000);
  assert.is(rig.phyRead(15), 0x3000);
  rig.linkUp();
  rig.phyRead(1);
  assert.is(rig.phyRead(1), 0x796d);
  assert.is(rig.phyRead(5), 0x45e1);
  assert.is(rig.phyRead(6), 0x0001);
  assert.is(rig.phyRead(10), 0x3c00);
});

test("registers that only tell are not written", () => {
  const rig = linked();
  for (const reg of [1, 2, 3, 5, 6, 10, 15]) {
    const before = rig.phyRead(reg);
    rig.phyWrite(reg, ~before & 0xffff);
    assert.is(rig.phyRead(reg), before, `register ${reg}`);
  }
});

test("RTL-052 RTL-053 BMCR reset and restart clear themselves", () => {
  const rig = linked();
  for (const [written, read] of [
    [0x8000, 0x1000],
    [0x9200, 0x1000],
    [0x8400, 0x1000],
    [0x1200, 0x1000],
    [0x1340, 0x1140],
  ] as const) {
    rig.phyWrite(0, written);
    assert.is(rig.phyRead(0), read);
  }
});

test("RTL-054 after a reset or a restart the link is seen lost, and comes back in its time", () => {
  for (const written of [0x9000, 0x1200]) {
    const rig = linked();
    assert.is(rig.phyRead(1), 0x796d);
    rig.phyWrite(0, written);
    assert.is(rig.phyRead(1), 0x7949);
    assert.is(rig.r8(0x6c), 0x04);
    rig.clock.advance(9 * MS);
    assert.is(rig.phyRead(1) & 0x0024, 0, "not at once");
    rig.clock.advance(42 * MS);
    assert.is(rig.phyRead(1) & 0x0024, 0x0020, "the loss, once more: nobody read since");
    assert.is(rig.phyRead(1), 0x796d);
  }
});

test("RTL-055 the link bit is latched low: a loss that is over is read once", () => {
  const rig = linked();
  assert.is(rig.phyRead(1) & 4, 4);
  rig.card.setLink(false);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.phyRead(1) & 4, 0);
  assert.is(rig.phyRead(1) & 4, 4);
  assert.is(rig.phyRead(1) & 4, 4);
});

test("RTL-056 autonegotiation ends with BMSR bit 5 and the partner's abilities", () => {
  const rig = new Rig();
  assert.is(rig.phyRead(1) & 0x20, 0);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.phyRead(1) & 0x20, 0x20);
  assert.is.not(rig.phyRead(5), 0);
});

test("RTL-057 RTL-060 each rise and each fall of the link sets ISR bit 5", () => {
  const rig = linked();
  rig.w16(0x3c, 0x0020);
  const edge = (what: string) => {
    assert.is(rig.r16(0x3e) & 0x20, 0x20, what);
    assert.is(rig.irq, true, what);
    rig.w16(0x3e, 0x0020);
    assert.is(rig.irq, false, what);
  };
  rig.card.setLink(false);
  edge("cable pulled");
  rig.card.setLink(true);
  assert.is(rig.r16(0x3e), 0);
  rig.clock.advance(LINK_TIME);
  edge("cable plugged in");
  rig.phyWrite(0, 0x1200);
  edge("restart");
  rig.clock.advance(LINK_TIME);
  edge("renegotiated");
  rig.phyWrite(0, 0x1800);
  edge("power-down");
  assert.is(rig.r8(0x6c), 0x04);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r16(0x3e), 0, "and down it stays");
  rig.phyWrite(0, 0x1000);
  rig.clock.advance(LINK_TIME);
  edge("woken");
  rig.phyWrite(0, 0x1000);
  assert.is(rig.r16(0x3e), 0, "nothing changed");
});

test("RTL-058 RTL-059 PHYStatus agrees with BMSR at every moment; 04h without link, 13h at gigabit", () => {
  const rig = new Rig();
  const agree = () => {
    rig.phyRead(1);
    assert.is((rig.r8(0x6c) & 2) !== 0, (rig.phyRead(1) & 4) !== 0);
    return rig.r8(0x6c);
  };
  assert.is(agree(), 0x04);
  rig.clock.advance(LINK_TIME);
  assert.is(agree(), 0x13);
  rig.card.setLink(false);
  assert.is(agree(), 0x04);
});

test("RTL-061 register 14 bit 9 keeps the link down until it is cleared", () => {
  const rig = linked();
  rig.phyWrite(14, 0x0200);
  assert.is(rig.r8(0x6c), 0x04);
  rig.phyWrite(0, 0x1200);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x6c), 0x04, "a restart does not help");
  rig.phyWrite(14, 0x0000);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x6c), 0x13);
});

test("the highest common ability wins; forced speeds come up without negotiation", () => {
  const rig = linked();
  const advertise = (anar: number, gtcr: number): number => {
    rig.phyWrite(4, anar);
    rig.phyWrite(9, gtcr);
    rig.phyWrite(0, 0x1200);
    rig.clock.advance(LINK_TIME);
    return rig.r8(0x6c);
  };
  assert.is(advertise(0x01e1, 0x0300), 0x13);
  assert.is(advertise(0x0de1, 0x0200), 0x73, "with pause");
  assert.is(advertise(0x01e1, 0x0100), 0x12);
  assert.is(advertise(0x01e1, 0x0000), 0x0b);
  assert.is(advertise(0x00a1, 0x0000), 0x0a);
  assert.is(advertise(0x0061, 0x0000), 0x07);
  assert.is(advertise(0x0021, 0x0000), 0x06);
  assert.is(advertise(0x0001, 0x0000), 0x04, "nothing in common");
  assert.is(rig.phyRead(1) & 0x24, 0x20);
  rig.phyWrite(0, 0x2100);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x6c), 0x0b);
  assert.is(rig.phyRead(1) & 0x20, 0, "nothing was negotiated");
  assert.is(rig.phyRead(5), 0);
  rig.phyWrite(0, 0x0000);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x6c), 0x06);
});

test("master and slave resolve without a fault", () => {
  const rig = linked();
  assert.is(rig.phyRead(10) & 0xc000, 0);
  rig.phyWrite(9, 0x1b00);
  rig.phyWrite(0, 0x1200);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.phyRead(10), 0x7c00);
});

test("register 10 tells of both receivers at 1000 Mb/s only, and of the partner as soon as that was negotiated", () => {
  const rig = linked();
  assert.is(rig.phyRead(10), 0x3c00);
  rig.phyWrite(9, 0);
  rig.phyWrite(0, 0x1200);
  assert.is(rig.phyRead(10), 0);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x6c) & 0x0a, 0x0a, "100 Mb/s");
  assert.is(rig.phyRead(10), 0x0c00);
});

test("a snapshot holds any value of any page", () => {
  const rig = linked();
  rig.phyWrite(31, 31);
  for (let reg = 0; reg < 31; reg++) rig.phyWrite(reg, 0xffff);
  rig.phyWrite(31, 0xffff);
  const other = new Rig();
  other.card.load(rig.card.save());
  assert.is(other.phyRead(31), 0xffff);
  other.phyWrite(31, 31);
  assert.is(other.phyRead(30), 0xffff);
  assert.is(other.phyRead(0), 0xffff);
});

test("INSR tells of link and negotiation, and clears when read", () => {
  const rig = linked();
  rig.phyRead(19);
  assert.is(rig.phyRead(19), 0);
  rig.card.setLink(false);
  assert.is(rig.phyRead(19), 0x0400);
  assert.is(rig.phyRead(19), 0);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.phyRead(19), 0x0c00, "link, and negotiation is over");
});

test("register 16 begins with automatic MDI crossover on, as FreeBSD wants it, and takes what is written", () => {
  const rig = linked();
  assert.is(rig.phyRead(16), 0x0040);
  rig.phyWrite(16, 0x0168);
  assert.is(rig.phyRead(16), 0x0168);
  rig.phyWrite(0, 0x8000);
  assert.is(rig.phyRead(16), 0x0040);
});

test("register 17 mirrors speed, duplex and link", () => {
  const rig = linked();
  assert.is(rig.phyRead(17), 0xac00);
  rig.phyWrite(0, 0x2100);
  assert.is(rig.phyRead(17), 0);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.phyRead(17), 0x6c00);
});

test("without a cable nothing ever comes up", () => {
  const rig = new Rig({ link: false });
  rig.clock.advance(10 * LINK_TIME);
  assert.is(rig.r8(0x6c), 0x04);
  assert.is(rig.phyRead(1), 0x7949);
  assert.is(rig.r16(0x3e), 0);
  rig.card.setLink(true);
  rig.clock.advance(LINK_TIME);
  assert.is(rig.r8(0x6c), 0x13);
});

test("RTL-063 U-Boot's wait for the end of autonegotiation ends well before 10000 polls", () => {
  const rig = new Rig();
  rig.phyWrite(4, 0x01e0 | (rig.phyRead(4) & 0x1f));
  rig.phyWrite(9, 0x0200);
  rig.phyWrite(0, 0x1200);
  let polls = 0;
  while ((rig.phyRead(1) & 0x20) === 0) {
    assert.ok(++polls < 10_000);
    rig.clock.advance(100_000);
  }
  assert.ok(polls > 0);
});

test("CR.RST does not touch the PHY", () => {
  const rig = linked();
  rig.phyWrite(31, 2);
  rig.phyWrite(1, 0x90d0);
  rig.w8(0x37, 0x10);
  assert.is(rig.phyRead(31), 2);
  assert.is(rig.phyRead(1), 0x90d0);
  assert.is(rig.r8(0x6c), 0x13);
  assert.is(rig.r16(0x3e), 0);
});

test.run();
