import { devinfo } from "../guest/index.js";
import { parse, parseUint32, UsageError } from "./args.js";
import { CARD_HELP, machineWith } from "./machine.js";
import { probeQemu, probeQtest } from "./qemu/probe.js";

const HELP = `usage: barwire probe [options]

Probes a machine through the public probe interface and prints what a BSD kernel would, then the tree of its devices.

${CARD_HELP}

  --qemu ARGS    the machine is a QEMU with these words on its command line, such as
                 '-device virtio-net-pci,disable-legacy=on -device rtl8139 -device virtio-blk-pci'. The same drivers
                 probe its cards and move frames and blocks through them, which are compared byte for byte. A network
                 card without netdev= and a disk without drive= get one. Needs Debian's package qemu-system-x86
  --qtest ADDR   the machine is one that somebody has started with -qtest unix:ADDR,server=on (or tcp:HOST:PORT,server=on);
                 its cards are probed, and no more
  --net KIND     how QEMU's netdev of such a card is made: stream (default), dgram or pair
  --modern       takes transitional virtio devices by their modern registers
  --old-mode     has rl take QEMU's rtl8139, which else is re's, in the mode of the older chips
  --seed N       of lengths and contents, 0 … 4294967295; default 2011

  --json         print data
  --help         print this`;

const NETWORKS = ["stream", "dgram", "pair"] as const;
const isNetwork = (name: string): name is (typeof NETWORKS)[number] => NETWORKS.some((kind) => kind === name);
const DEFAULT_SEED = "2011";

/** `--qemu -device …`: what begins with a dash is that option's value all the same. */
const joined = (args: readonly string[]): string[] => {
  const at = args.indexOf("--qemu");
  return at < 0 || args[at + 1] === undefined
    ? [...args]
    : [...args.slice(0, at), `--qemu=${args[at + 1]}`, ...args.slice(at + 2)];
};

/** Probes the machine. @returns the exit status: 1 when a card found no driver, or did not do what it should */
export const probe = (args: string[]): number => {
  const { values } = parse({
    args: joined(args),
    options: {
      card: { type: "string", multiple: true },
      qemu: { type: "string" },
      qtest: { type: "string" },
      net: { type: "string" },
      modern: { type: "boolean" },
      "old-mode": { type: "boolean" },
      seed: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  if (values.qtest !== undefined) {
    const other = (["card", "qemu", "net", "old-mode", "seed"] as const).find((name) => values[name] !== undefined);
    if (other !== undefined) throw new UsageError(`--qtest only looks: --${other} means nothing with it`);
    return probeQtest(values.qtest, values.modern === true, values.json === true);
  }
  if (values.qemu !== undefined) {
    if (values.card !== undefined) throw new UsageError("--qemu names the cards itself: --card means nothing with it");
    const network = values.net ?? "stream";
    if (!isNetwork(network)) throw new UsageError(`no network "${network}"; there are ${NETWORKS.join(", ")}`);
    return probeQemu({
      qemu: values.qemu,
      network,
      seed: parseUint32("seed", values.seed ?? DEFAULT_SEED),
      modern: values.modern === true,
      oldMode: values["old-mode"] === true,
      json: values.json === true,
    });
  }
  const other = (["net", "modern", "old-mode", "seed"] as const).find((name) => values[name] !== undefined);
  if (other !== undefined) throw new UsageError(`--${other} means nothing without --qemu`);
  const { lines, newbus } = machineWith(values.card);
  const tree = newbus.tree();
  console.log(
    values.json === true ? JSON.stringify({ lines, tree }, null, 1) : `${lines.join("\n")}\n\n${devinfo(tree)}`,
  );
  return 0;
};
