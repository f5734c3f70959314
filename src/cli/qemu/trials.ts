import type { DeviceInfo, Ifnet, Newbus, VirtioPci, Vtnet } from "../../guest/index.js";
import { Prng } from "../../net/index.js";
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
} from "../../spec/virtio.js";
import {
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
} from "../../spec/virtio-net.js";
import { DISK_SERIAL } from "./cards.js";
import { DiskTrial } from "./disk-trial.js";
import type { QemuMachine } from "./machine.js";
import { NetTrial } from "./net-trial.js";
import type { Outcome } from "./trial.js";

/** What a card and its driver went through. */
export interface Trial {
  /** such as `vtnet0`, `vtblk0` */
  readonly unit: string;
  /** what was negotiated, in words */
  readonly mode: readonly string[];
  readonly outcomes: readonly Outcome[];
  /** what arrived as it was sent: `120 frames out, 130 in` */
  readonly moved: string;
}

/** The virtio transport that a child hangs on; null for what is no virtio. */
const transportOf = (newbus: Newbus, unit: string): VirtioPci | null => {
  const walk = (node: DeviceInfo): string | null =>
    node.children.some(({ nameunit }) => nameunit === unit)
      ? node.nameunit
      : (node.children.map(walk).find((name) => name !== null) ?? null);
  const parent = walk(newbus.tree());
  return parent?.startsWith("virtio_pci") === true ? newbus.softc<VirtioPci>(parent) : null;
};

/** What driver and device agreed on. */
export const modeOf = (newbus: Newbus, unit: string): string[] => {
  const transport = transportOf(newbus, unit);
  if (transport === null) return [];
  const has = (bit: number): boolean => transport.withFeature(bit);
  return [
    transport.modern ? "modern" : "legacy",
    transport.modern && has(VIRTIO_F_RING_PACKED) ? "packed" : "split",
    ...(transport.interruptScheme === null ? [] : [transport.interruptScheme]),
    ...(has(VIRTIO_F_EVENT_IDX) ? ["event-idx"] : []),
    ...(has(VIRTIO_F_INDIRECT_DESC) ? ["indirect"] : []),
    ...(transport.modern && has(VIRTIO_F_ACCESS_PLATFORM) ? ["iommu"] : []),
    ...(transport.modern && has(VIRTIO_F_RING_RESET) ? ["ring-reset"] : []),
    ...(unit.startsWith("vtnet") && has(VIRTIO_NET_F_MRG_RXBUF) ? ["mergeable"] : []),
    ...(unit.startsWith("vtnet") && has(VIRTIO_NET_F_CTRL_VQ) ? ["ctrl-vq"] : []),
    ...(unit.startsWith("vtnet") && has(VIRTIO_NET_F_MQ) ? ["mq"] : []),
  ];
};

/** Whether a card leaves out what is not for it: a virtio one without commands for that hands up everything. */
const filters = (newbus: Newbus, { name }: Ifnet): boolean =>
  transportOf(newbus, name)?.withFeature(VIRTIO_NET_F_CTRL_RX) ?? true;

/** Has every card of a machine go through its checks. @param again detaches all, attaches them and looks once more */
export const runTrials = (machine: QemuMachine, seed: number, again: boolean): Trial[] => {
  const random = new Prng(seed);
  const trials = [...netTrials(machine, random, false), ...diskTrials(machine, random)];
  if (!again) return trials;
  const failures = reattach(machine);
  const second = [...netTrials(machine, random, true), ...diskTrials(machine, random)];
  return trials.map((trial) => {
    const later = second.find(({ unit }) => unit === trial.unit);
    const wrong = later?.outcomes.find(({ failure }) => failure !== null);
    const failure =
      failures ??
      (later === undefined ? "did not attach again" : wrong === undefined ? null : `${wrong.check}: ${wrong.failure}`);
    return { ...trial, outcomes: [...trial.outcomes, { check: "again", failure }] };
  });
};

const netTrials = (machine: QemuMachine, random: Prng, brief: boolean): Trial[] =>
  machine.interfaces().map(({ ifnet, peer, card }) => {
    const mode = modeOf(machine.newbus, ifnet.name);
    const trial = new NetTrial({
      machine: machine.newbus.machine,
      ifnet,
      peer,
      setLink: (up) => machine.setLink(card, up),
      random,
      filters: filters(machine.newbus, ifnet),
      ...(mode.includes("ring-reset")
        ? { restartQueues: () => machine.newbus.softc<Vtnet>(ifnet.name).restartQueues(0) }
        : {}),
    });
    const outcomes = brief ? trial.brief() : trial.run();
    const moved = `${trial.framesOut} frames out, ${trial.framesIn} in`;
    trial[Symbol.dispose]();
    return { unit: ifnet.name, mode, outcomes, moved };
  });

const diskTrials = (machine: QemuMachine, random: Prng): Trial[] =>
  machine.disks().map(({ disk, file }, i) => {
    const trial = new DiskTrial({ machine: machine.newbus.machine, disk, file, random, serial: DISK_SERIAL });
    const unit = `vtblk${i}`;
    const outcomes = trial.run();
    return {
      unit,
      mode: modeOf(machine.newbus, unit),
      outcomes,
      moved: `${trial.bytesRead} bytes read, ${trial.bytesWritten} written`,
    };
  });

/** Detaches all cards and has them attach once more. @returns what was wrong with that; null when nothing was */
const reattach = ({ newbus, bus }: QemuMachine): string | null => {
  const leaks: string[] = [];
  const listening = newbus.on((event) => {
    if (event.kind === "leak") leaks.push(`${event.nameunit} kept ${event.resource}`);
  });
  const walk = (node: DeviceInfo): DeviceInfo[] => [node, ...node.children.flatMap(walk)];
  const units = walk(newbus.tree()).flatMap(({ nameunit, state }) =>
    nameunit !== null && state === "attached" && /^(virtio_pci|re|rl)\d+$/.test(nameunit) ? [nameunit] : [],
  );
  for (const unit of units) newbus.detach(unit);
  if (bus.dma.live > 0) leaks.push(`${bus.dma.live} pieces of DMA memory are not free`);
  newbus.scan();
  listening[Symbol.dispose]();
  return leaks.length === 0 ? null : leaks.join(", ");
};
