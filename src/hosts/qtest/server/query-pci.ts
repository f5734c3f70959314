import type { BarKind, Slot } from "../../../contract/index.js";
import { PCI_INTERRUPT_LINE, PCI_INTERRUPT_PIN, pciDevice, pciFunction } from "../../../spec/pci.js";
import type { VirtualMachine } from "./vm.js";

const PCI_CLASS = 0x0a;
const SUBSYSTEM_VENDOR = 0x2c;
const SUBSYSTEM = 0x2e;

const region = (slot: Slot, index: number, kind: BarKind, size: number, prefetchable: boolean): object => ({
  bar: index,
  type: kind === "io" ? "io" : "memory",
  address: slot.barBase(index),
  size,
  ...(kind === "io" ? {} : { prefetch: prefetchable, mem_type_64: kind === "mem64" }),
});

/** What is plugged, as `query-pci` lists it. QEMU qapi/pci.json */
export const pciListing = (vm: VirtualMachine): readonly object[] => {
  const machine = vm.board?.machine;
  if (machine === undefined) return [];
  const devices = machine.functions().map(({ bdf, slot }) => {
    const word = (at: number): number => slot.configRead(at, 2);
    const pin = slot.configRead(PCI_INTERRUPT_PIN, 1);
    return {
      bus: 0,
      slot: pciDevice(bdf),
      function: pciFunction(bdf),
      class_info: { class: word(PCI_CLASS), desc: slot.name },
      id: {
        vendor: word(0),
        device: word(2),
        "subsystem-vendor": word(SUBSYSTEM_VENDOR),
        subsystem: word(SUBSYSTEM),
      },
      irq_pin: pin,
      ...(pin === 0 ? {} : { irq: slot.configRead(PCI_INTERRUPT_LINE, 1) }),
      qdev_id: vm.devices.find((device) => device.bdf === bdf)?.id ?? "",
      regions: slot.bars.map(({ index, kind, size, prefetchable }) => region(slot, index, kind, size, prefetchable)),
    };
  });
  return [{ bus: 0, devices }];
};
