import { VirtioPciFunction, type VirtioPciOptions } from "./pci-transport.js";
import { RawDriver, RawRing, TestHost, ToyDevice } from "./testing.js";

export const NO_VECTOR = 0xffff;
export const WRITE = 2;
export const BUFFERS = 0x8_0000;

export const rig = (options: VirtioPciOptions = { personality: "modern" }, sizes: readonly number[] = [16, 16, 4]) => {
  const host = new TestHost();
  const toy = new ToyDevice(sizes);
  const slot = new VirtioPciFunction(toy, options);
  const driver = new RawDriver(slot, host);
  return { host, toy, slot, driver };
};

/** A modern device with queue 0 running, its chain 0 one writable byte. */
export const running = (features = 0) => {
  const r = rig();
  r.driver.negotiate(features, 1);
  const q = new RawRing(r.host, 16, 0x1_0000);
  q.describe(0, BUFFERS, 1, WRITE);
  r.driver.queue(0, q);
  r.driver.driverOk();
  return { ...r, q };
};

/** A legacy device with a ring of 16 at 0x10000. */
export const legacy = (options: VirtioPciOptions = { personality: "legacy" }) => {
  const r = rig(options);
  const q = new RawRing(r.host, 16, 0x1_0000, 0x1_0100, 0x1_1000);
  q.describe(0, BUFFERS, 1, WRITE);
  return { ...r, q };
};

/** Programs and enables MSI-X: entry i sends 0x100 + i to 0xFEE00000 + 4·i. */
export const enableMsix = ({ slot }: ReturnType<typeof rig>, cap: number, vectors: number): void => {
  for (let i = 0; i < vectors; i++) {
    slot.barWrite(1, 16 * i, 4, 0xfee0_0000 + 4 * i);
    slot.barWrite(1, 16 * i + 8, 4, 0x100 + i);
    slot.barWrite(1, 16 * i + 12, 4, 0);
  }
  slot.configWrite(cap + 2, 2, 0x8000);
};

export const RING_RESET = 0x100; // bit 40
