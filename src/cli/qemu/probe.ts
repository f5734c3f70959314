import { devinfo, Newbus, registerDrivers } from "../../guest/index.js";
import { connectQtest, type NetworkKind, QtestBus, QtestError, type QtestLink } from "../../hosts/qtest/index.js";
import { UsageError } from "../args.js";
import { words } from "./cards.js";
import { QemuMachine } from "./machine.js";
import { runTrials, type Trial } from "./trials.js";

export interface QemuProbeOptions {
  /** as the command line has it: `-device virtio-net-pci` */
  readonly qemu: string;
  readonly network: NetworkKind;
  readonly seed: number;
  /** takes transitional virtio devices by their modern registers */
  readonly modern: boolean;
  /** has `rl` take the 8139C+, in the mode of the older chips */
  readonly oldMode: boolean;
  readonly json: boolean;
}

const OLD_REVISION = 0x10;

/** Starts a machine. @throws UsageError when there is no QEMU, or it does not take the command line */
export const started = <T>(start: () => T): T => {
  try {
    return start();
  } catch (error) {
    if (error instanceof QtestError && (error.code === "qemu-missing" || error.code === "qemu-start"))
      throw new UsageError(error.message);
    throw error;
  }
};

const text = ({ unit, mode, outcomes, moved }: Trial): string => {
  const wrong = outcomes.filter(({ failure }) => failure !== null);
  const held = outcomes.filter(({ failure }) => failure === null).map(({ check }) => check);
  return [
    `${unit}:${mode.length === 0 ? "" : ` ${mode.join(", ")};`} ${moved}, equal byte for byte; ok: ${held.join(", ")}`,
    ...wrong.map(({ check, failure }) => `${unit}: ${check} FAILED: ${failure}`),
  ].join("\n");
};

/** Probes a QEMU, moves frames and blocks. @returns the exit status: 1 when a card found no driver, or a check failed */
export const probeQemu = ({ qemu, network, seed, modern, oldMode, json }: QemuProbeOptions): number => {
  const lines: string[] = [];
  let probing = true; // detaching and attaching later would say it all again
  const log = (line: string): void => {
    if (!probing) return;
    lines.push(line);
    if (!json) console.log(line);
  };
  const machine = started(
    () =>
      new QemuMachine({
        args: words(qemu),
        network,
        drivers: { virtioPci: { modern } },
        ...(oldMode ? { revision8139: OLD_REVISION } : {}),
        log,
      }),
  );
  try {
    const tree = machine.newbus.tree();
    if (!json) console.log(`\n${devinfo(tree)}`);
    probing = false;
    const trials = runTrials(machine, seed, true);
    const expected = machine.cards.filter(({ kind }) => kind !== "other").length;
    if (json) console.log(JSON.stringify({ args: machine.qemu.args, lines, tree, trials }, null, 1));
    else for (const trial of trials) console.log(text(trial));
    const failed = trials.some(({ outcomes }) => outcomes.some(({ failure }) => failure !== null));
    if (trials.length < expected && !json)
      console.log(`${expected - trials.length} of ${expected} cards found no driver`);
    return failed || trials.length < expected ? 1 : 0;
  } finally {
    machine[Symbol.dispose]();
  }
};

/** Whether time moves by request only, which only QEMU's qtest accelerator has. */
const hasVirtualClock = (link: QtestLink): boolean => {
  try {
    link.clockStep(0);
    return true;
  } catch (error) {
    if (error instanceof QtestError && error.code === "refused") return false;
    throw error;
  }
};

/** Probes a machine that somebody else has started, and gives its cards back. @returns the exit status */
export const probeQtest = (address: string, modern: boolean, json: boolean): number => {
  const lines: string[] = [];
  const link = started(() => connectQtest(address));
  try {
    const bus = new QtestBus(link, { time: hasVirtualClock(link) ? "virtual" : "real" });
    const newbus = new Newbus(bus, { log: (line) => lines.push(line) });
    registerDrivers(newbus, { virtioPci: { modern } });
    newbus.scan();
    const tree = newbus.tree();
    console.log(json ? JSON.stringify({ lines, tree }, null, 1) : `${lines.join("\n")}\n\n${devinfo(tree)}`);
    newbus.shutdown();
    return 0;
  } finally {
    link[Symbol.dispose]();
  }
};
