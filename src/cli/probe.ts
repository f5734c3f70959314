import { devinfo } from "../guest/index.js";
import { parse } from "./args.js";
import { CARD_HELP, machineWith } from "./machine.js";

const HELP = `usage: barwire probe [options]

Probes a machine through the public probe interface and prints what a BSD kernel would, then the tree of its devices.

${CARD_HELP}
  --json         print data
  --help         print this`;

/** Probes the machine. @returns the exit status: 1 when a card found no driver */
export const probe = (args: string[]): number => {
  const { values } = parse({
    args,
    options: {
      card: { type: "string", multiple: true },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) {
    console.log(HELP);
    return 0;
  }
  const { lines, newbus } = machineWith(values.card);
  const tree = newbus.tree();
  console.log(
    values.json === true ? JSON.stringify({ lines, tree }, null, 1) : `${lines.join("\n")}\n\n${devinfo(tree)}`,
  );
  return 0;
};
