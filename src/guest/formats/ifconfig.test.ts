import { test } from "uvu";
import * as assert from "uvu/assert";
import { parseMac } from "../../bytes/index.js";
import type { Media } from "../types.js";
import { type IfconfigOptions, ifconfig, linkLocalAddress } from "./ifconfig.js";

const media = (fields: Partial<Media> = {}): Media => ({
  selected: "autoselect",
  active: "100baseTX",
  options: ["full-duplex"],
  valid: true,
  status: "active",
  ...fields,
});

const re0 = (fields: Partial<IfconfigOptions["ifnet"]> = {}): IfconfigOptions["ifnet"] => ({
  name: "re0",
  flags: 0x8843,
  mtu: 1500,
  lladdr: parseMac("52:54:00:03:99:00"),
  capenable: 0,
  media: () => media(),
  ...fields,
});

const linesOf = (options: IfconfigOptions): string[] => ifconfig(options).split("\n");

test("an interface of DragonFly in 2011", () => {
  const inet = [{ address: "192.168.122.15", prefixLength: 24 }];
  assert.is(
    ifconfig({ ifnet: re0(), index: 1, inet }),
    [
      "re0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500",
      "\tinet6 fe80::5054:ff:fe03:9900%re0 prefixlen 64 scopeid 0x1",
      "\tinet 192.168.122.15 netmask 0xffffff00 broadcast 192.168.122.255",
      "\tether 52:54:00:03:99:00",
      "\tmedia: Ethernet autoselect (100baseTX <full-duplex>)",
      "\tstatus: active",
      "",
    ].join("\n"),
  );
});

test("the second interface of that machine has the sixth scope", () => {
  const ifnet = re0({ name: "vtnet0", lladdr: parseMac("52:54:00:33:3b:d3") });
  assert.is(linesOf({ ifnet, index: 6 })[1], "\tinet6 fe80::5054:ff:fe33:3bd3%vtnet0 prefixlen 64 scopeid 0x6");
});

test("its loopback", () => {
  const ifnet = { name: "lo0", flags: 0x8049, mtu: 16384 };
  const options: IfconfigOptions = {
    ifnet,
    index: 3,
    inet: [{ address: "127.0.0.1", prefixLength: 8 }],
    inet6: [{ address: "::1", prefixLength: 128 }],
    linkLocal: true,
  };
  assert.is(
    ifconfig(options),
    [
      "lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384",
      "\tinet 127.0.0.1 netmask 0xff000000",
      "\tinet6 ::1 prefixlen 128",
      "\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x3",
      "",
    ].join("\n"),
  );
  assert.is(
    ifconfig({ ifnet: { name: "faith0", flags: 0x8002, mtu: 1500 }, index: 2 }),
    "faith0: flags=8002<BROADCAST,MULTICAST> mtu 1500\n",
  );
});

test("PRB-081 flags stand in ascending order of their bits, in hexadecimal without 0x", () => {
  const first = (flags: number, system: "dragonfly" | "freebsd"): string =>
    linesOf({ ifnet: re0({ flags }), index: 1, system })[0]!;
  assert.is(
    first(0x8d43, "freebsd"),
    "re0: flags=8d43<UP,BROADCAST,RUNNING,PROMISC,OACTIVE,SIMPLEX,MULTICAST> metric 0 mtu 1500",
  );
  assert.is(
    first(0x8a63, "dragonfly"),
    "re0: flags=8a63<UP,BROADCAST,SMART,RUNNING,ALLMULTI,SIMPLEX,MULTICAST> mtu 1500",
  );
  assert.is(
    first(0x10_8843, "dragonfly"),
    "re0: flags=108843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST,NPOLLING> mtu 1500",
  );
  assert.is(first(0, "dragonfly"), "re0: flags=0<> mtu 1500");
});

test("PRB-082 the medium in use stands in parentheses only where it differs; a status only where it is valid", () => {
  const shown = (fields: Partial<Media>): string[] =>
    linesOf({ ifnet: re0({ media: () => media(fields) }), index: 1 }).filter((line) => /media|status/.test(line));
  assert.equal(shown({}), ["\tmedia: Ethernet autoselect (100baseTX <full-duplex>)", "\tstatus: active"]);
  assert.equal(shown({ selected: "100baseTX" }), ["\tmedia: Ethernet 100baseTX <full-duplex>", "\tstatus: active"]);
  assert.equal(shown({ active: "none", options: [], status: "no carrier" }), [
    "\tmedia: Ethernet autoselect (none)",
    "\tstatus: no carrier",
  ]);
  assert.equal(shown({ active: "1000baseT", options: ["full-duplex", "flowcontrol"], valid: false }), [
    "\tmedia: Ethernet autoselect (1000baseT <full-duplex,flowcontrol>)",
  ]);
  assert.equal(shown({ active: null, options: [], valid: false }), ["\tmedia: Ethernet autoselect"]);
});

test("capabilities in use, and none where there are none", () => {
  const second = (capenable: number, system?: "freebsd"): string =>
    linesOf({ ifnet: re0({ capenable }), index: 1, ...(system === undefined ? {} : { system }) })[1]!;
  assert.is(second(0x28), "\toptions=28<VLAN_MTU,JUMBO_MTU>");
  assert.is(second(0x8_0028, "freebsd"), "\toptions=80028<VLAN_MTU,JUMBO_MTU,LINKSTATE>");
  assert.is(second(0x143, "freebsd"), "\toptions=143<RXCSUM,TXCSUM,POLLING,TSO4>");
  assert.is(second(0x143), "\toptions=143<RXCSUM,TXCSUM,RSS,TSO>");
  assert.is(second(0), "\tinet6 fe80::5054:ff:fe03:9900%re0 prefixlen 64 scopeid 0x1");
});

test("FreeBSD has a metric, and the card's address first", () => {
  const inet = [{ address: "10.0.2.15", prefixLength: 24 }];
  assert.equal(linesOf({ ifnet: re0(), index: 1, inet, system: "freebsd" }).slice(0, 4), [
    "re0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500",
    "\tether 52:54:00:03:99:00",
    "\tinet 10.0.2.15 netmask 0xffffff00 broadcast 10.0.2.255",
    "\tinet6 fe80::5054:ff:fe03:9900%re0 prefixlen 64 scopeid 0x1",
  ]);
});

test("netmask and broadcast address of prefixes at both ends", () => {
  const inet = (address: string, prefixLength: number): string =>
    linesOf({ ifnet: re0(), index: 1, inet: [{ address, prefixLength }], linkLocal: false })[1]!;
  assert.is(inet("10.1.2.3", 0), "\tinet 10.1.2.3 netmask 0x00000000 broadcast 255.255.255.255");
  assert.is(inet("10.1.2.3", 32), "\tinet 10.1.2.3 netmask 0xffffffff broadcast 10.1.2.3");
  assert.is(inet("10.1.2.3", 9), "\tinet 10.1.2.3 netmask 0xff800000 broadcast 10.127.255.255");
  assert.is(inet("255.255.255.254", 31), "\tinet 255.255.255.254 netmask 0xfffffffe broadcast 255.255.255.255");
});

test("link-local addresses have the universal bit turned round, and zeros left out", () => {
  assert.is(linkLocalAddress(parseMac("52:54:00:12:34:56")), "fe80::5054:ff:fe12:3456");
  assert.is(linkLocalAddress(parseMac("00:00:5e:00:53:01")), "fe80::200:5eff:fe00:5301");
  assert.is(linkLocalAddress(parseMac("02:00:00:00:00:01")), "fe80::ff:fe00:1");
  assert.is(linkLocalAddress(parseMac("fe:ff:ff:ff:ff:ff")), "fe80::fcff:ffff:feff:ffff");
});

test.run();
