import { type DeviceInfo, type LspciOptions, lspci as lspciText, type PciListing } from "../guest/index.js";
import { formatBdf, PCI_CONFIG_SIZE, pciBdf } from "../spec/pci.js";
import { parse } from "./args.js";
import type { ProbedMachine } from "./lab/world.js";
import { CARD_HELP, machineWith } from "./machine.js";

const HELP = `usage: barwire lspci [options]

Lists the functions of a machine as lspci does, after its resources were assigned and its drivers attached.

  -v, -vv        flags and regions; everything
  -x, -xxx       the first 64 bytes of configuration space, or all 256; lspci -F reads this
  -n, -nn        numbers for names; names and numbers
  -t             a tree
${CARD_HELP}
  --json         print data
  --help         print this`;

/** Driver names by function, out of the device tree: the unit number is no part of them. */
const driversByFunction = (device: DeviceInfo, found = new Map<number, string>()): Map<number, string> => {
  const place = /\bdbsf=pci\d+:(\d+):(\d+):(\d+)/.exec(device.location);
  if (place !== null && device.nameunit !== null)
    found.set(pciBdf(Number(place[1]), Number(place[2]), Number(place[3])), device.nameunit.replace(/\d+$/, ""));
  for (const child of device.children) driversByFunction(child, found);
  return found;
};

/** What lspci learns from an operating system, out of a probed machine. */
export const pciListings = ({ machine, newbus }: ProbedMachine): PciListing[] => {
  const drivers = driversByFunction(newbus.tree());
  const reached = machine.functions().filter(({ bdf }) => bdf >= 0);
  return reached.map(({ bdf, slot }) => {
    const config = Uint8Array.from({ length: PCI_CONFIG_SIZE }, (_, at) => slot.configRead(at, 1));
    const sizes = Object.fromEntries(slot.bars.map(({ index, size }) => [index, size]));
    const driver = drivers.get(bdf);
    return { bdf, config, sizes, ...(driver === undefined ? {} : { driver }) };
  });
};

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Lists the machine. @returns the exit status */
export const lspci = (args: string[]): number => {
  const { values } = parse({
    args,
    options: {
      verbose: { type: "boolean", short: "v", multiple: true },
      hex: { type: "boolean", short: "x", multiple: true },
      numbers: { type: "boolean", short: "n", multiple: true },
      tree: { type: "boolean", short: "t", default: false },
      card: { type: "string", multiple: true },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const listings = pciListings(machineWith(values.card));
  if (values.json === true) {
    const functions = listings.map(({ bdf, config, sizes, driver }) => ({
      bdf: formatBdf(bdf),
      driver: driver ?? null,
      sizes,
      config: hex(config),
    }));
    console.log(JSON.stringify(functions, null, 1));
    return 0;
  }
  const count = (given: readonly boolean[] | undefined): number => given?.length ?? 0;
  const options: LspciOptions = {
    verbose: Math.min(count(values.verbose), 3) as 0 | 1 | 2 | 3,
    ids: (["names", "numbers", "both"] as const)[Math.min(count(values.numbers), 2)]!,
    tree: values.tree === true,
    ...(count(values.hex) === 0 ? {} : { hex: count(values.hex) === 1 ? "x" : "xxx" }),
  };
  process.stdout.write(lspciText(listings, options));
  return 0;
};
