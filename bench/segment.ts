/** A frame of 64 KiB cut into segments of 1460 bytes: what one of them costs, against a copy of a full frame. */
import assert from "node:assert/strict";
import { bench, do_not_optimize } from "mitata";
import { copyBytes, internetChecksum, sumWordsView } from "../src/bytes/index.js";
import { Segmenter } from "../src/net/index.js";
import { noise } from "./rig/machine.js";
import { report } from "./rig/report.js";

const START = 0x1002; // as in guest memory, two bytes off a word
const MSS = 1460;
const HEADERS = 54;
const LENGTH = 65_550;
const FULL = HEADERS + MSS;

const ram = noise(0x2_0000);
const view = new DataView(ram.buffer);
ram.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], START);
const ip4 = [0x08, 0x00, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];

/** The segmenter that has a frame of that protocol before it: the next segment, from the beginning after the last one. */
const benchCut = (name: string, gso: "tcp4" | "tcp6", headers: readonly number[], transport: number): void => {
  bench(name, function* () {
    ram.set(headers, START + 12);
    ram[START + transport + 12] = 0x50;
    const segmenter = new Segmenter();
    const offload = { gso, gsoSize: MSS };
    const next = (): void => {
      if (segmenter.next()) return;
      segmenter.begin(ram, START, LENGTH, offload);
      segmenter.next();
    };
    let payload = 0;
    for (let i = 0; i < Math.ceil((LENGTH - transport - 20) / MSS); i++) {
      next();
      const length = segmenter.length - transport;
      const addresses = gso === "tcp4" ? 8 : 32;
      const pseudo = internetChecksum(segmenter.bytes, transport - addresses, addresses, 6 + length) ^ 0xffff;
      assert.equal(internetChecksum(segmenter.bytes, transport, length, pseudo), 0);
      payload += length - 20;
    }
    assert.equal(payload, LENGTH - transport - 20);
    yield next;
  });
};

bench("copy of a full frame", function* () {
  const target = new Uint8Array(2048);
  yield () => copyBytes(ram, START, FULL, target, 0);
});
bench("sum of its payload", function* () {
  yield () => do_not_optimize(sumWordsView(view, START + HEADERS, MSS));
});
benchCut("segment, tcp4", "tcp4", ip4, 34);
benchCut("segment, tcp6", "tcp6", [0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64], 54);
await report();
