import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { V86 } from "v86";
import { reloadOnReset } from "./loader.js";

/** A guest that did not come up, went down, or did not answer. */
export class GuestError extends Error {
  override readonly name = "GuestError";
  readonly code: "images-missing" | "timeout" | "panic" | "stopped" | "busy";
  constructor(code: GuestError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface EmulatorOptions {
  /** folder that `build.sh` filled */
  readonly images: string;
  /** bytes of RAM; default 192 MiB, at least 96 MiB (v86 puts the initramfs at 64 MiB) */
  readonly memorySize?: number;
  /** more words for the kernel's command line */
  readonly cmdline?: string;
  /** a card of v86's own, in its slot; default none */
  readonly netDevice?: "ne2k" | "virtio";
}

export interface BootOptions extends EmulatorOptions {
  /** ms until the guest must have answered for the first time; default 120 000 */
  readonly timeoutMs?: number;
  /** Called once, before the first instruction of the BIOS or, with `state`, of the guest that goes on: attach cards here. */
  readonly attach?: (emulator: V86) => void;
  /** what `saveState` gave of a guest with the same images and memory: it goes on from there, which spares the boot */
  readonly state?: ArrayBuffer;
  /** Sees every byte that the guest sends to its serial port, as text. */
  readonly onConsole?: (text: string) => void;
}

export interface CommandResult {
  /** exit status of the shell line */
  readonly status: number;
  readonly output: string;
}

/**
 * The kernel's command line. What it leaves out (speculation guards, self tests, plug and play for ISA) costs seconds
 * of an emulated boot; `tsc=reliable` spares the check of a clock that is the host's own, and the two watchdogs would
 * bark whenever the host is busy elsewhere.
 */
export const CMDLINE = [
  "console=ttyS0 quiet panic=0",
  "tsc=reliable mitigations=off nosmp nokaslr cryptomgr.notests noisapnp",
  "nowatchdog rcupdate.rcu_cpu_stall_suppress=1",
  "initcall_blacklist=init_kprobe_trace,load_system_certificate_list,crypto_kdf108_init,init_encrypted",
].join(" ");

/** What `init` puts before the exit status that ends each answer. */
const RECORD_SEPARATOR = "\x1e";
const PANIC = /Kernel panic[^\n]*/;
const TAIL_LINES = 12;

/** Images of the guest as v86 wants them: private buffers of the exact size, since it writes into the kernel's. */
async function image(folder: string, name: string): Promise<{ buffer: ArrayBuffer }> {
  try {
    return { buffer: new Uint8Array(await readFile(join(folder, name))).buffer };
  } catch (cause) {
    throw new GuestError("images-missing", `cannot read ${name} of the guest: build it first`, { cause });
  }
}

/**
 * A Linux guest in a headless v86, obeying through its first serial port.
 *
 * Made by `bootGuest`, which resolves when the guest is ready → `command(line)`, one at a time → `stop()`, after which
 * nothing of it keeps the process alive. A panic or a missed deadline stops it as well.
 */
export class Guest {
  #emulator: V86;
  /** exit status of `init`: the number of drivers that did not load */
  failedModules = 0;
  readonly #onConsole: ((text: string) => void) | undefined;
  readonly #decoder = new TextDecoder();
  readonly #byte = new Uint8Array(1);
  #transcript = "";
  #answer = "";
  #waiting: { resolve(result: CommandResult): void; reject(error: GuestError): void } | null = null;
  #stopped: Promise<void> | null = null;

  constructor(emulator: V86, onConsole?: (text: string) => void) {
    this.#emulator = emulator;
    this.#onConsole = onConsole;
    emulator.add_listener("serial0-output-byte", this.#receive);
  }

  /** The emulator that it runs in now. */
  get emulator(): V86 {
    return this.#emulator;
  }

  /** Everything the serial port said so far. */
  get transcript(): string {
    return this.#transcript;
  }

  /** The last lines of the serial port, for messages. */
  get tail(): string {
    const text = this.#transcript.replaceAll("\r", "").replaceAll(RECORD_SEPARATOR, "#").trimEnd();
    return text.split("\n").slice(-TAIL_LINES).join("\n") || "(none)";
  }

  /**
   * Runs one line of shell in the guest.
   * @param timeoutMs how long it may take; default 30 000
   * @throws GuestError when the guest panics, is stopped, does not answer in time, or is still at another line
   */
  async command(line: string, options: { timeoutMs?: number } = {}): Promise<CommandResult> {
    if (this.#stopped !== null) throw new GuestError("stopped", "the guest is stopped");
    if (this.#waiting !== null) throw new GuestError("busy", "the guest is still at another command");
    const answer = this.answer(options.timeoutMs ?? 30_000, `the guest did not finish: ${line}`);
    this.#emulator.serial0_send(`${line}\n`);
    return answer;
  }

  /** Waits for an answer without asking: the first one says that the guest is ready. */
  async answer(timeoutMs: number, complaint: string): Promise<CommandResult> {
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<CommandResult>((resolve, reject) => {
        this.#waiting = { resolve, reject };
        timer = setTimeout(() => {
          reject(new GuestError("timeout", `${complaint}, in ${timeoutMs / 1000} s; its last words:\n${this.tail}`));
        }, timeoutMs);
      });
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
    }
  }

  /**
   * Starts the machine again and waits until the guest obeys.
   * @param how `guest`: Linux reboots, without ending anything first; `host`: the reset button
   * @param timeoutMs default 120 000 @throws GuestError as `command`
   */
  async reboot(how: "guest" | "host", options: { timeoutMs?: number } = {}): Promise<void> {
    if (this.#stopped !== null) throw new GuestError("stopped", "the guest is stopped");
    if (this.#waiting !== null) throw new GuestError("busy", "the guest is still at another command");
    const ready = this.answer(options.timeoutMs ?? 120_000, "the guest did not come up again");
    if (how === "guest") this.#emulator.serial0_send("reboot -f\n");
    else this.#emulator.restart();
    this.failedModules = (await ready).status;
  }

  /** The whole emulator between two commands, for `BootOptions.state`; some 50 MB. Knows of v86's own devices only. */
  async saveState(): Promise<ArrayBuffer> {
    if (this.#waiting !== null) throw new GuestError("busy", "the guest is still at another command");
    return await this.#emulator.save_state();
  }

  /**
   * Goes on in another emulator from where it stands, in the middle of a command or not.
   * @param leave takes the cards out of the old emulator, after it was saved with them; @param attach plugs the same cards in
   */
  async move(options: EmulatorOptions, leave: () => void, attach: (emulator: V86) => void): Promise<void> {
    const old = this.#emulator;
    await old.stop();
    const state = await old.save_state();
    leave();
    old.remove_listener("serial0-output-byte", this.#receive);
    await old.destroy();
    const next = await createEmulator(options);
    attach(next);
    await next.restore_state(state);
    next.add_listener("serial0-output-byte", this.#receive);
    this.#emulator = next;
    await next.run();
  }

  /** Ends the emulator and gives everything back. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(): Promise<void> {
    this.#emulator.remove_listener("serial0-output-byte", this.#receive);
    this.#waiting?.reject(new GuestError("stopped", "the guest was stopped"));
    await this.#emulator.destroy();
  }

  readonly #receive = (byte: number): void => {
    this.#byte[0] = byte;
    const text = this.#decoder.decode(this.#byte, { stream: true });
    this.#transcript += text;
    this.#answer += text;
    this.#onConsole?.(text);
    if (text !== "\n") return;
    const panic = PANIC.exec(this.#answer);
    if (panic !== null) {
      this.#waiting?.reject(new GuestError("panic", `${panic[0]}; its last words:\n${this.tail}`));
      return;
    }
    const end = this.#answer.lastIndexOf(RECORD_SEPARATOR);
    if (end < 0) return;
    const output = this.#answer.slice(0, end);
    const status = Number.parseInt(this.#answer.slice(end + 1), 10);
    this.#answer = "";
    this.#waiting?.resolve({ status, output });
  };
}

/** An emulator that has not run yet. @throws GuestError `images-missing` */
async function createEmulator(options: EmulatorOptions): Promise<V86> {
  const [bzimage, initrd, bios] = await Promise.all(
    ["bzimage", "initrd", "bios.bin"].map((name) => image(options.images, name)),
  );
  const emulator = new V86({
    wasm_path: createRequire(import.meta.url).resolve("v86/build/v86.wasm"),
    memory_size: options.memorySize ?? 192 << 20,
    bzimage: bzimage!,
    initrd: initrd!,
    bios: bios!,
    cmdline: `${CMDLINE} ${options.cmdline ?? ""}`.trim(),
    autostart: false,
    net_device: { type: options.netDevice ?? ("none" as never) }, // any name that v86 does not know means no card
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
  });
  await new Promise<void>((resolve) => emulator.add_listener("emulator-loaded", () => resolve()));
  reloadOnReset(emulator);
  return emulator;
}

/** Boots the guest; resolves when its shell obeys. @throws GuestError */
export async function bootGuest(options: BootOptions): Promise<Guest> {
  const { timeoutMs = 120_000 } = options;
  const emulator = await createEmulator(options);
  const guest = new Guest(emulator, options.onConsole);
  try {
    if (options.state !== undefined) await emulator.restore_state(options.state);
    options.attach?.(emulator);
    const ready = guest.answer(timeoutMs, "the guest did not come up");
    await emulator.run();
    // A guest that goes on says nothing by itself: it waits for a line.
    if (options.state !== undefined) emulator.serial0_send("true\n");
    guest.failedModules = (await ready).status;
    return guest;
  } catch (error) {
    await guest.stop();
    throw error;
  }
}
