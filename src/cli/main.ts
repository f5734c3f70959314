#!/usr/bin/env node
import { UsageError } from "./args.js";
import { eeprom } from "./eeprom.js";
import { lab } from "./lab/index.js";
import { lspci } from "./lspci.js";
import { probe } from "./probe.js";
import { qtest } from "./qtest.js";
import { record } from "./record.js";
import { regs } from "./regs.js";

interface Command {
  readonly title: string;
  /** @returns the exit status */
  run(args: string[]): number | Promise<number>;
}

const COMMANDS: { readonly [name: string]: Command } = {
  eeprom: { title: "read a RealTek card's serial EEPROM through its wires", run: eeprom },
  lab: { title: "move the seed's 200 MB through each card, both ways", run: lab },
  lspci: { title: "list the functions of the lab's machine, as lspci does", run: lspci },
  probe: { title: "probe the lab's machine and print what a BSD kernel would", run: probe },
  qtest: { title: "stand in for a QEMU that qtest clients drive", run: qtest },
  record: { title: "write down a conversation with a real QEMU's card", run: record },
  regs: { title: "print a card's registers by name and field", run: regs },
};

const HELP = `usage: barwire COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { title }]) => `  ${name.padEnd(8)}${title}`)
  .join("\n")}

  barwire COMMAND --help   says more`;

const main = (args: string[]): number | Promise<number> => {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h") {
    console.log(HELP);
    return name === undefined ? 2 : 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new UsageError(`no command "${name}"; see barwire --help`);
  return command.run(rest);
};

// A reader that has seen enough (`| head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`barwire: ${error.message}`);
  process.exitCode = 2;
}
