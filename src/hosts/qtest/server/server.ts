import { appendFileSync, writeFileSync } from "node:fs";
import type { Diagnostic } from "../../../contract/index.js";
import type { ServerCards } from "./cards.js";
import { type Conversation, openChannel } from "./channel.js";
import type { ChardevConfig, ServerConfig } from "./command-line.js";
import { Commands } from "./commands.js";
import { NoBoard } from "./no-board.js";
import { QtestProtocol } from "./protocol.js";
import { QmpSession } from "./qmp.js";
import { QtestSession, type SessionLog } from "./qtest-session.js";
import { messageOf, StartupError } from "./startup-error.js";
import type { QtestTarget } from "./target.js";
import { VirtualMachine } from "./vm.js";

export interface ServerHost {
  /** Ends the process. */
  exit(status: number): void;
  /** Prints a line for whoever started it. */
  print(line: string): void;
}

/** ms since 1970, by the host's clock */
const wallClock = (): number => performance.timeOrigin + performance.now();

const logTo = (path: string | null): SessionLog => {
  if (path === null) return () => {};
  try {
    writeFileSync(path, "");
  } catch (error) {
    throw new StartupError(`-qtest-log: ${messageOf(error)}`);
  }
  const began = performance.now();
  return (direction, line) =>
    appendFileSync(path, `[${direction} +${((performance.now() - began) / 1000).toFixed(6)}] ${line}\n`);
};

const listens = ({ server }: ChardevConfig): boolean => server;

/**
 * Stands in for a QEMU: builds the machine of a command line, connects where it says, and answers. Resolves when everybody
 * it is to connect to is connected. It ends the process when one of them leaves; those it listens for may come and go.
 * @throws StartupError before anything was answered
 */
export const startServer = async (
  config: ServerConfig,
  cards: ServerCards,
  { exit, print }: ServerHost,
): Promise<VirtualMachine> => {
  const report = ({ source, code, value }: Diagnostic): void => {
    if (config.guestErrors) print(`${source}: ${code} 0x${value.toString(16)}`);
  };
  const vm = await VirtualMachine.start(config, cards, report);
  const commands = new Commands(vm);
  const monitors = new Set<QmpSession>();
  vm.onEvent = (event, data) => {
    for (const monitor of monitors) monitor.event(event, data, wallClock());
  };
  vm.onQuit = () => setImmediate(() => exit(0)); // behind the replies that are on their way

  const target: QtestTarget = vm.board ?? new NoBoard();
  const log = logTo(config.qtestLog);
  const qtest =
    (chardev: ChardevConfig): Conversation =>
    ({ send }) => {
      const session = new QtestSession(new QtestProtocol(target), send, log);
      if (vm.board !== null) vm.board.irqs.onChange = (line, level) => session.irq(line, level);
      return {
        received: (chunk) => session.push(chunk),
        gone: () => {
          if (!listens(chardev)) exit(0);
        },
      };
    };
  const qmp =
    (chardev: ChardevConfig): Conversation =>
    ({ send }) => {
      const session = new QmpSession(commands, send);
      monitors.add(session);
      const decoder = new TextDecoder();
      return {
        received: (chunk) => session.push(decoder.decode(chunk, { stream: true })),
        gone: () => {
          monitors.delete(session);
          if (!listens(chardev)) exit(0);
        },
      };
    };

  const byId = new Map(config.chardevs.map((chardev) => [chardev.id, chardev]));
  const opening: Promise<void>[] = [];
  if (config.qtest !== null) {
    const chardev = byId.get(config.qtest)!;
    opening.push(openChannel(chardev, qtest(chardev), print));
  }
  for (const id of config.monitors) {
    const chardev = byId.get(id)!;
    opening.push(openChannel(chardev, qmp(chardev), print));
  }
  await Promise.all(opening);
  return vm;
};
