/** Configuration space: a read and a write of a function, past the ports and through them. */
import assert from "node:assert/strict";
import { bench, do_not_optimize } from "mitata";
import { virtioNet } from "../devices/virtio-net/index.js";
import { Plugged } from "./rig/machine.js";
import { report } from "./rig/report.js";

const { machine, card } = new Plugged(virtioNet());
const BDF = 3 << 3;
const NOBODY = 4 << 3;
/** Device and vendor of a transitional virtio-net. */
const ID = 0x1000_1af4;

bench("32 bits of the slot itself", function* () {
  assert.equal(card.configRead(0x00, 4), ID);
  yield () => do_not_optimize(card.configRead(0x00, 4));
});
bench("32 bits", function* () {
  assert.equal(machine.configRead(BDF, 0x00, 4), ID);
  yield () => do_not_optimize(machine.configRead(BDF, 0x00, 4));
});
bench("8 bits", function* () {
  assert.equal(machine.configRead(BDF, 0x0b, 1), 0x02); // class: network
  yield () => do_not_optimize(machine.configRead(BDF, 0x0b, 1));
});
bench("a BAR, above 2^31", function* () {
  assert.ok(machine.configRead(BDF, 0x20, 4) >= 2 ** 31);
  yield () => do_not_optimize(machine.configRead(BDF, 0x20, 4));
});
bench("virtio's window, which reads a BAR", function* () {
  for (const [at, value] of [
    [0x88, 4], // BAR
    [0x8c, 0x14], // offset: device_status
    [0x90, 1], // length
  ] as const)
    machine.configWrite(BDF, at, 4, value);
  machine.configWrite(BDF, 0x94, 1, 0x03);
  assert.equal(machine.configRead(BDF, 0x94, 1), 0x03);
  yield () => do_not_optimize(machine.configRead(BDF, 0x94, 1));
});
bench("nobody", function* () {
  assert.equal(machine.configRead(NOBODY, 0x00, 4), 0xffff_ffff);
  yield () => do_not_optimize(machine.configRead(NOBODY, 0x00, 4));
});
bench("through CONFIG_ADDRESS and CONFIG_DATA", function* () {
  let register = 0;
  const read = (): number => {
    register ^= 0x08;
    machine.ioWrite(0xcf8, 4, 0x8000_0000 + (BDF << 8) + register);
    return machine.ioRead(0xcfc, 4);
  };
  read();
  assert.equal(read(), ID);
  yield () => do_not_optimize(read());
});
bench("a write", function* () {
  let line = 0;
  yield () => {
    line = (line + 1) & 0x0f;
    machine.configWrite(BDF, 0x3c, 1, line);
  };
  assert.equal(machine.configRead(BDF, 0x3c, 1), line);
});
await report();
