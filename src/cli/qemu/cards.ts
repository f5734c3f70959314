import { UsageError } from "../args.js";

/** A card on QEMU's command line, with what was missing added. */
export interface QemuCard {
  /** such as `virtio-net-pci` */
  readonly model: string;
  /** value of `-device` */
  readonly device: string;
  readonly kind: "network" | "disk" | "other";
  /** of its back end, if that is ours */
  readonly backend: string | null;
  /** of a network card of ours */
  readonly mac: string | null;
}

export interface QemuCommandLine {
  readonly cards: readonly QemuCard[];
  /** everything but the cards */
  readonly rest: readonly string[];
}

const NETWORK = /^(virtio-net-pci|rtl8139|e1000|e1000e|igb|ne2k_pci|pcnet|vmxnet3|i825\w+|tulip)/;
const DISK = /^virtio-blk-pci/;

/** Serial number of the disks that we add. */
export const DISK_SERIAL = "BARWIRE-0123456789";

/** Words as a shell cuts them: quotes keep blanks. @throws UsageError when a quote does not end */
export const words = (text: string): string[] => {
  const found: string[] = [];
  for (const [, bare, single, double, open] of text.matchAll(/([^\s'"]+)|'([^']*)'|"([^"]*)"|(['"])/g)) {
    if (open !== undefined) throw new UsageError(`--qemu "${text}": a quote does not end`);
    found.push(bare ?? single ?? double ?? "");
  }
  return found;
};

/**
 * Completes cards: a network card without `netdev` gets one of ours and a MAC address, and no boot ROM, and a virtio disk
 * without `drive` one that we know the contents of.
 * @throws UsageError for a `-device` without a value
 */
export const completeCards = (args: readonly string[]): QemuCommandLine => {
  const cards: QemuCard[] = [];
  const rest: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (args[i] !== "-device") {
      rest.push(args[i]!);
      continue;
    }
    const value = args[++i];
    if (value === undefined) throw new UsageError("-device: expected a card and its properties behind it");
    cards.push(complete(value, cards.length));
  }
  return { cards, rest };
};

const complete = (value: string, n: number): QemuCard => {
  const [model = "", ...properties] = value.split(",");
  const has = (name: string) => properties.find((property) => property.startsWith(`${name}=`));
  const more = (...extra: string[]) => [value, ...extra].join(",");
  const given = has("mac")?.slice("mac=".length).toLowerCase();
  if (NETWORK.test(model)) {
    const rom = has("romfile") === undefined ? ["romfile="] : [];
    if (has("netdev") !== undefined)
      return { model, device: more(...rom), kind: "network", backend: null, mac: given ?? null };
    const mac = given ?? `52:54:00:12:34:${(0x56 + n).toString(16)}`;
    const address = given === undefined ? [`mac=${mac}`] : [];
    return { model, device: more(`netdev=n${n}`, ...address, ...rom), kind: "network", backend: `n${n}`, mac };
  }
  if (DISK.test(model) && has("drive") === undefined)
    return { model, device: more(`drive=d${n}`, `serial=${DISK_SERIAL}`), kind: "disk", backend: `d${n}`, mac: null };
  return { model, device: value, kind: "other", backend: null, mac: null };
};
