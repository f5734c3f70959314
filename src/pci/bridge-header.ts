import { ConfigError, hex } from "../bytes/index.js";
import type { AccessWidth } from "../contract/index.js";
import {
  PCI_BRIDGE_CONTROL,
  PCI_BRIDGE_CTL_DISCARD_STATUS,
  PCI_IO_BASE,
  PCI_IO_BASE_UPPER16,
  PCI_IO_LIMIT_UPPER16,
  PCI_IO_RANGE_TYPE_32,
  PCI_MEMORY_BASE,
  PCI_PREF_BASE_UPPER32,
  PCI_PREF_LIMIT_UPPER32,
  PCI_PREF_MEMORY_BASE,
  PCI_PREF_RANGE_TYPE_64,
  PCI_PRIMARY_BUS,
  PCI_SEC_LATENCY_TIMER,
  PCI_SEC_STATUS,
  PCI_STATUS_66MHZ,
  PCI_STATUS_DEVSEL_MASK,
  PCI_STATUS_FAST_BACK,
  PCI_STATUS_W1C,
  PCI_SUBORDINATE_BUS,
} from "../spec/pci.js";
import type { BridgeHeader } from "./declaration.js";

/** A register of a header: value after reset, writable bits, bits that a written 1 clears. */
export interface HeaderField {
  readonly at: number;
  readonly width: AccessWidth;
  readonly value: number;
  readonly rw: number;
  readonly w1c?: number;
}

/** As QEMU's pci-bridge: all but the discard timer's status, and the bits that are reserved. */
const DEFAULT_CONTROL_MASK = 0x0bff;
const SECONDARY_STATUS_FIXED = PCI_STATUS_66MHZ | PCI_STATUS_FAST_BACK | PCI_STATUS_DEVSEL_MASK;

/**
 * What a type 1 header has from 18h on where a type 0 header has BARs 2 … 5 and subsystem. P2P 1.2 §3.2
 * @throws ConfigError `config-field`
 */
export const bridgeFields = (name: string, header: BridgeHeader): readonly HeaderField[] => {
  const { io32 = false, prefetchable = 64, closed = false } = header;
  const { secondaryStatusBits = 0, secondaryLatencyMask = 0, controlMask = DEFAULT_CONTROL_MASK } = header;
  if ((secondaryStatusBits & ~SECONDARY_STATUS_FIXED) !== 0)
    throw new ConfigError(
      "config-field",
      `${name}: secondaryStatusBits ${hex(secondaryStatusBits)}; expected read-only bits 5, 7, 9, 10`,
    );
  if ((controlMask & ~(0x0fff & ~PCI_BRIDGE_CTL_DISCARD_STATUS)) !== 0)
    throw new ConfigError("config-field", `${name}: controlMask ${hex(controlMask)}; expected bits 0 … 9 and 11`);
  const ioType = io32 ? PCI_IO_RANGE_TYPE_32 : 0;
  const prefetchType = prefetchable === 64 ? PCI_PREF_RANGE_TYPE_64 : 0;
  const ioBase = closed ? 0xf0 : 0; // base in the low half, limit in the high one
  const memoryBase = closed ? 0xfff0 : 0;
  const prefetchMask = prefetchable === "none" ? 0 : 0xfff0_fff0;
  const upper32 = prefetchable === 64 ? 0xffff_ffff : 0;
  return [
    { at: PCI_PRIMARY_BUS, width: 2, value: 0, rw: 0xffff },
    { at: PCI_SUBORDINATE_BUS, width: 1, value: 0, rw: 0xff },
    { at: PCI_SEC_LATENCY_TIMER, width: 1, value: 0, rw: secondaryLatencyMask & 0xff },
    { at: PCI_IO_BASE, width: 2, value: ioBase | ioType | (ioType << 8), rw: 0xf0f0 },
    { at: PCI_SEC_STATUS, width: 2, value: secondaryStatusBits, rw: 0, w1c: PCI_STATUS_W1C },
    { at: PCI_MEMORY_BASE, width: 4, value: memoryBase, rw: 0xfff0_fff0 },
    {
      at: PCI_PREF_MEMORY_BASE,
      width: 4,
      value: ((prefetchable === "none" ? 0 : memoryBase) | prefetchType | (prefetchType << 16)) >>> 0,
      rw: prefetchMask,
    },
    { at: PCI_PREF_BASE_UPPER32, width: 4, value: 0, rw: upper32 },
    { at: PCI_PREF_LIMIT_UPPER32, width: 4, value: 0, rw: upper32 },
    { at: PCI_IO_BASE_UPPER16, width: 2, value: 0, rw: io32 ? 0xffff : 0 },
    { at: PCI_IO_LIMIT_UPPER16, width: 2, value: 0, rw: io32 ? 0xffff : 0 },
    // No transaction is ever discarded here, so that bit 10 has nothing to show; it is write-1-to-clear all the same.
    { at: PCI_BRIDGE_CONTROL, width: 2, value: 0, rw: controlMask, w1c: PCI_BRIDGE_CTL_DISCARD_STATUS },
  ];
};
