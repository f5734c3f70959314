import type { RecordingGuest } from "./guest.js";
import { bridge } from "./scenarios-bridge.js";
import { DISK_SECTORS, diskRequests } from "./scenarios-disk.js";
import { eventIndex, indirect, mergeable, msixMask, packed, queueReset } from "./scenarios-net.js";

/** Something that a small guest of ours does, and the machine that it needs. */
export interface RecordScenario {
  readonly title: string;
  /** what stands on QEMU's command line; a network card has the back end `n0` */
  readonly qemu: string;
  /** ids of back ends */
  readonly networks: readonly string[];
  run(guest: RecordingGuest): void;
}

const net = (title: string, properties: string, run: (guest: RecordingGuest) => void): RecordScenario => ({
  title,
  qemu: `-device virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56,addr=04.0,romfile=,ioeventfd=off,${properties}`,
  networks: ["n0"],
  run,
});

const disk = (title: string, properties: string, run: (guest: RecordingGuest) => void): RecordScenario => ({
  title,
  qemu: `-blockdev driver=null-co,node-name=d0,size=${DISK_SECTORS * 512},read-zeroes=on -device virtio-blk-pci,drive=d0,serial=SERIAL-0123456789,addr=04.0,ioeventfd=off,request-merging=off,${properties}`,
  networks: [],
  run,
});

/** Scenarios by their names, which are those of the files in fixtures/qtest-traces. */
export const SCENARIOS: { readonly [name: string]: RecordScenario } = {
  "virtio-net-packed": net(
    "packed ring: laps, chains, tables, event suppression, reset",
    "disable-legacy=on,packed=on",
    packed,
  ),
  "virtio-net-indirect": net(
    "indirect tables both ways, on a legacy and a modern interface",
    "disable-legacy=off",
    indirect,
  ),
  "virtio-net-event-index": net(
    "event index: used_event passed and not, across an index's wrap",
    "disable-legacy=on",
    eventIndex,
  ),
  "virtio-net-msix-mask": net(
    "MSI-X: vectors and function masked, pending bits, unmasking",
    "disable-legacy=on",
    msixMask,
  ),
  "virtio-net-mergeable": net("mergeable receive: exact fill, chains, too little room", "disable-legacy=on", mergeable),
  "virtio-net-queue-reset": net(
    "RING_RESET of both queues, with another size and place",
    "disable-legacy=on",
    queueReset,
  ),
  "virtio-blk-modern": disk("every request, with its configuration", "num-queues=1,disable-legacy=on", (guest) =>
    diskRequests(guest, 1),
  ),
  "virtio-blk-packed": disk("every request, on a packed ring", "num-queues=1,disable-legacy=on,packed=on", (guest) =>
    diskRequests(guest, 1),
  ),
  "virtio-blk-queues": disk("four queues with a vector each", "num-queues=4,disable-legacy=on", (guest) =>
    diskRequests(guest, 4),
  ),
  "pci-bridge": {
    title: "a bridge: type 1 header, windows, a card behind it, secondary bus reset",
    qemu: "-device pci-bridge,id=br1,chassis_nr=1,shpc=off,addr=05.0 -device rtl8139,netdev=n0,mac=52:54:00:12:34:56,bus=br1,addr=02.0,romfile=",
    networks: ["n0"],
    run: bridge,
  },
};
