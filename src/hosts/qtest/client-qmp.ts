import { QtestError } from "./client-error.js";
import type { Lines } from "./client-lines.js";

export interface QmpEvent {
  readonly event: string;
  readonly data?: { readonly [key: string]: unknown };
}

interface QmpReply extends Partial<QmpEvent> {
  readonly QMP?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

/** QEMU's monitor protocol, synchronously. QEMU docs/interop/qmp-spec */
export class QmpLink implements Disposable {
  readonly #lines: Lines;
  #events: QmpEvent[] = [];

  /** Reads the greeting and leaves negotiation. */
  constructor(lines: Lines) {
    this.#lines = lines;
    const greeting = JSON.parse(lines.read()) as QmpReply;
    if (greeting.QMP === undefined) throw new QtestError("refused", "the monitor sent no QMP greeting");
    this.execute("qmp_capabilities");
  }

  /** @returns what the command returned. @throws QtestError `refused` with QMP's class and text */
  execute(command: string, args?: { readonly [key: string]: unknown }): unknown {
    this.#lines.write(`${JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }) })}\n`);
    for (;;) {
      const reply = JSON.parse(this.#lines.read()) as QmpReply;
      if (reply.event !== undefined) this.#events.push(reply as QmpEvent);
      else if (reply.error === undefined) return reply.return;
      else throw new QtestError("refused", `${command}: ${reply.error.class}: ${reply.error.desc}`);
    }
  }

  /** The events since the last call. */
  events(): readonly QmpEvent[] {
    this.execute("query-status"); // what happened before has been told when this is answered
    const events = this.#events;
    this.#events = [];
    return events;
  }

  [Symbol.dispose](): void {
    this.#lines[Symbol.dispose]();
  }
}
