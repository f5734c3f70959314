import { test } from "uvu";
import * as assert from "uvu/assert";
import { decodeFrame } from "./decode.js";

const bytesOf = (hex: string): Uint8Array =>
  Uint8Array.from(hex.match(/[0-9a-f]{2}/g) ?? [], (byte) => Number.parseInt(byte, 16));

const decode = (hex: string) => {
  const bytes = bytesOf(hex.replaceAll(/\s/g, ""));
  return decodeFrame(bytes, bytes.length);
};

const ETHERNET = "525400123456 52550a000202";

test("ARP: who asks for whom, who is where, and who announces itself", () => {
  const arp = (operation: string, sender: string, target: string): string =>
    decode(`${ETHERNET} 0806 0001 0800 06 04 ${operation} 52550a000202 ${sender} 000000000000 ${target}`).summary;
  assert.is(arp("0001", "0a000202", "0a00020f"), "Who has 10.0.2.15? Tell 10.0.2.2");
  assert.is(arp("0002", "0a000202", "0a00020f"), "10.0.2.2 is at 52:55:0a:00:02:02");
  assert.is(arp("0001", "0a000202", "0a000202"), "10.0.2.2 announces itself");
});

/** An IPv4 packet without options. RFC 791 §3.1 */
const ipv4 = (protocol: string, payload: string, flags = "4000"): string => {
  const length = 20 + payload.replaceAll(/\s/g, "").length / 2;
  return `${ETHERNET} 0800 4500 ${length.toString(16).padStart(4, "0")} 0001 ${flags} 40 ${protocol} 0000 0a000202 0a00020f ${payload}`;
};

test("ICMP echo, with its identifier and number", () => {
  const { protocol, source, destination, summary } = decode(ipv4("01", `0000 0000 002a 0007 ${"00".repeat(56)}`));
  assert.equal([protocol, source, destination], ["ICMP", "10.0.2.2", "10.0.2.15"]);
  assert.is(summary, "Echo reply, id 42, seq 7, 56 bytes");
});

test("TCP: ports, flags, numbers, and bytes behind the options; padding does not count", () => {
  const syn = decode(`${ipv4("06", "1389 c350 00000001 00000000 60 02 ffff 0000 0000 020405b4")} 0000`);
  assert.is(syn.summary, "5001 → 50000 [SYN] seq 1 win 65535, 0 bytes");
  const data = decode(ipv4("06", "1389 c350 fffffff0 00000010 50 18 1000 0000 0000 616263"));
  assert.is(data.summary, "5001 → 50000 [ACK PSH] seq 4294967280 ack 16 win 4096, 3 bytes");
});

test("UDP: the service by either port", () => {
  assert.is(decode(ipv4("11", "0044 0043 000c 0000 00000000")).summary, "68 → 67 DHCP, 4 bytes");
  assert.is(decode(ipv4("11", "0035 8000 000a 0000 0000")).summary, "53 → 32768 DNS, 2 bytes");
});

test("a fragment says where it belongs", () => {
  assert.is(decode(ipv4("11", "00".repeat(8), "00b9")).summary, "Fragment at 1480, 8 bytes");
});

test("a segment that is still to be cut has the bytes of the frame, though the list has only its beginning", () => {
  const bytes = bytesOf(
    ipv4("06", `1389 c350 00000001 00000001 50 10 ffff 0000 0000 ${"61".repeat(40)}`).replaceAll(/\s/g, ""),
  );
  assert.match(decodeFrame(bytes, 14 + 40 + 64_240).summary, /, 64240 bytes$/);
});

test("IPv6: addresses in their short form, options passed over", () => {
  const ipv6 = (next: string, payload: string): string =>
    `${ETHERNET} 86dd 60000000 0018 ${next} ff fe800000000000005054000000123456 ff0200000000000000000000000000 16 ${payload}`;
  const solicitation = decode(ipv6("3a", `8700 0000 00000000 fe80000000000000 0000000000000001`));
  assert.equal([solicitation.protocol, solicitation.source], ["ICMPv6", "fe80::5054:0:12:3456"]);
  assert.is(solicitation.summary, "Neighbor solicitation for fe80::1");
  assert.is(decode(ipv6("00", "3a00 050200000100 8f00 0000 0000 0001")).summary, "Multicast listener report");
});

test("a VLAN's number stands before the rest", () => {
  const { summary } = decode(
    `525400123456 52550a000202 8100 2005 ${ipv4("11", "0044 0043 0008 0000").replace(`${ETHERNET} `, "")}`,
  );
  assert.is(summary, "VLAN 5 · 68 → 67 DHCP, 0 bytes");
});

test("what is not known, or cut short anywhere, is told without a fault", () => {
  assert.is(decode(`${ETHERNET} 88cc 0000`).protocol, "0x88cc");
  const whole = bytesOf(ipv4("06", "1389 c350 00000001 00000001 50 10 ffff 0000 0000").replaceAll(/\s/g, ""));
  for (let length = 14; length <= whole.length; length++) {
    const { summary } = decodeFrame(whole.subarray(0, length), length);
    assert.type(summary, "string");
    assert.not.match(summary, /NaN|undefined/);
  }
});

test.run();
