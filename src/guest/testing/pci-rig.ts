import {
  BusError,
  type BusEvent,
  type Device,
  type DeviceInfo,
  Newbus,
  type NewbusOptions,
  PCI,
  type PciAttach,
  type PciProbe,
} from "../index.js";
import { FakeBus, type FakeFunction } from "./fake-bus.js";
import { BDF, CARD } from "./fake-card.js";

export const codeOf = (fn: () => unknown): string => {
  try {
    fn();
    return "ok";
  } catch (error) {
    return error instanceof BusError ? error.code : String(error);
  }
};
export const find = (info: DeviceInfo, test: (d: DeviceInfo) => boolean): DeviceInfo | undefined =>
  test(info) ? info : info.children.map((child) => find(child, test)).find((found) => found !== undefined);

/** Attaches `story` to the card. */
export const rig = (story: (dev: Device<PciAttach>) => unknown = () => null, options: NewbusOptions = {}, f = CARD) => {
  const bus = new FakeBus([f]);
  const log: string[] = [];
  const events: BusEvent[] = [];
  const newbus = new Newbus(bus, { log: (line) => log.push(line), ...options });
  newbus.on((e) => events.push(e));
  let held: Device<PciAttach> | null = null;
  newbus.register<PciProbe, PciAttach, unknown>({
    name: "re",
    bus: PCI,
    probe: () => ({ priority: -20, desc: "RealTek" }),
    attach: (dev) => {
      held = dev;
      return story(dev);
    },
  });
  newbus.scan();
  const dev = held as Device<PciAttach> | null;
  if (dev === null) throw new Error(log.join("\n"));
  return { bus, newbus, log, events, dev, pci: dev.bus, command: () => bus.config(f.bdf, 0x04, 2) };
};

export const withCaps = (config: FakeFunction["config"], status = 0x0010) =>
  rig(() => null, {}, { bdf: BDF, config: { 0: 0x816810ec, 4: status * 0x10000, ...config } }).pci;
