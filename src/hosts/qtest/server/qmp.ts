import { type Commands, QmpError } from "./commands.js";
import { JsonSplitter, parseJson } from "./json.js";
import { messageOf, StartupError } from "./startup-error.js";
import { NotFound } from "./vm.js";

/** The QEMU whose manners the server has. */
export const VERSION = { qemu: { micro: 0, minor: 2, major: 7 }, package: "" } as const;

const NEGOTIATE = "qmp_capabilities";
const KEYS = ["execute", "arguments", "id"];

/** A request as it was understood. */
interface Request {
  readonly execute: string;
  readonly arguments: { readonly [key: string]: unknown };
  readonly id: unknown;
}

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** @throws QmpError */
const requestOf = (text: string | null): Request => {
  const value = text === null ? undefined : parseJson(text);
  if (value === undefined) throw new QmpError("GenericError", "JSON parse error");
  if (!isObject(value)) throw new QmpError("GenericError", "QMP input must be a JSON object");
  const unexpected = Object.keys(value).find((key) => !KEYS.includes(key));
  if (unexpected !== undefined)
    throw new QmpError("GenericError", `QMP input member '${unexpected}' is unexpected`, value.id);
  const { execute, id } = value;
  if (execute === undefined) throw new QmpError("GenericError", "QMP input lacks member 'execute'", id);
  if (typeof execute !== "string")
    throw new QmpError("GenericError", "QMP input member 'execute' must be a string", id);
  const given = value.arguments ?? {};
  if (!isObject(given)) throw new QmpError("GenericError", "QMP input member 'arguments' must be an object", id);
  return { execute, arguments: given, id };
};

/** One client of QEMU's monitor protocol: requests in, replies and events out. QEMU docs/interop/qmp-spec */
export class QmpSession {
  readonly #commands: Commands;
  readonly #send: (text: string) => void;
  readonly #splitter = new JsonSplitter();
  #negotiated = false;

  /** Sends the greeting. @param send takes whole lines */
  constructor(commands: Commands, send: (text: string) => void) {
    this.#commands = commands;
    this.#send = send;
    this.#write({ QMP: { version: VERSION, capabilities: [] } });
  }

  /** Takes what came from the client. */
  push(text: string): void {
    this.#splitter.push(text, (request) => this.#answer(request));
  }

  /** Tells the client, once it has negotiated. @param now ms since 1970 */
  event(event: string, data: { readonly [key: string]: unknown } | undefined, now: number): void {
    if (!this.#negotiated) return;
    const timestamp = { seconds: Math.floor(now / 1000), microseconds: Math.floor((now % 1000) * 1000) };
    this.#write({ timestamp, event, ...(data === undefined ? {} : { data }) });
  }

  #answer(text: string | null): void {
    let id: unknown;
    const withId = (reply: object): object => (id === undefined ? reply : { ...reply, id });
    try {
      const request = requestOf(text);
      id = request.id;
      const { reply, after } = this.#execute(request);
      this.#write(withId({ return: reply }));
      after?.();
    } catch (error) {
      if (error instanceof QmpError) {
        id ??= error.id;
        this.#write(withId({ error: { class: error.errorClass, desc: error.message } }));
      } else if (error instanceof StartupError) {
        const errorClass = error instanceof NotFound ? "DeviceNotFound" : "GenericError";
        this.#write(withId({ error: { class: errorClass, desc: messageOf(error) } }));
      } else throw error;
    }
  }

  #execute({ execute, arguments: given }: Request): { reply: unknown; after?: () => void } {
    if (execute === NEGOTIATE) {
      if (this.#negotiated)
        throw new QmpError("CommandNotFound", "Capabilities negotiation is already complete, command ignored");
      this.#negotiated = true;
      return { reply: {} };
    }
    if (!this.#negotiated)
      throw new QmpError("CommandNotFound", `Expecting capabilities negotiation with '${NEGOTIATE}'`);
    return this.#commands.execute(execute, given);
  }

  #write(message: object): void {
    this.#send(`${JSON.stringify(message)}\r\n`);
  }
}
