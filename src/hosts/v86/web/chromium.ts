import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";

/** The browser is missing, went away, or did not do what it was told. */
export class BrowserError extends Error {
  override readonly name = "BrowserError";
}

const NAMES = ["chromium", "chromium-browser", "google-chrome"];
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-extensions",
  "--disable-sync",
  "--mute-audio",
  "--no-default-browser-check",
  "--no-first-run",
  "--password-store=basic",
  "--remote-debugging-pipe",
];
const CALL_MS = 120_000;
const START_MS = 90_000;

/** A browser on this machine: the one that `CHROMIUM` names, or one of the search path. */
export function findChromium(): string | null {
  const named = process.env.CHROMIUM;
  if (named !== undefined && named !== "") return existsSync(named) ? named : null;
  for (const folder of (process.env.PATH ?? "").split(delimiter))
    for (const name of NAMES) if (folder !== "" && existsSync(join(folder, name))) return join(folder, name);
  return null;
}

interface Message {
  readonly id?: number;
  readonly sessionId?: string;
  readonly method?: string;
  readonly params?: { readonly [name: string]: unknown };
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

interface Call {
  resolve(result: unknown): void;
  reject(error: BrowserError): void;
}

/**
 * A headless Chromium, spoken to by its DevTools protocol over a pair of pipes: JSON messages that end with a zero byte.
 * `Chromium.start` → `open(url)` → … → dispose, which ends it and removes its profile.
 */
export class Chromium implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #out: Writable;
  readonly #calls = new Map<number, Call>();
  readonly #listeners = new Set<(message: Message) => void>();
  readonly #ended: Promise<void>;
  #last = 0;
  #gone: BrowserError | null = null;
  #words = "";

  private constructor(child: ChildProcess, profile: string) {
    this.#child = child;
    this.#profile = profile;
    this.#out = child.stdio[3] as Writable;
    const input = child.stdio[4] as Readable;
    let parts: Buffer[] = []; // of the message that is under way
    input.on("data", (chunk: Buffer) => {
      let from = 0;
      for (let end = chunk.indexOf(0); end >= 0; end = chunk.indexOf(0, from)) {
        parts.push(chunk.subarray(from, end));
        this.#receive(JSON.parse(Buffer.concat(parts).toString("utf8")) as Message);
        parts = [];
        from = end + 1;
      }
      parts.push(chunk.subarray(from));
    });
    this.#out.on("error", () => {}); // the end of the process says more
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#words = (this.#words + text).slice(-2000);
    });
    this.#ended = new Promise((resolve) => {
      const end = (why: string): void => {
        this.#gone ??= new BrowserError(`the browser ${why}; its last words:\n${this.#words.trim() || "(none)"}`);
        for (const { reject } of this.#calls.values()) reject(this.#gone);
        this.#calls.clear();
        resolve();
      };
      child.once("error", (error) => end(`does not start: ${error.message}`));
      child.once("close", (code, signal) => end(`ended with ${signal ?? code}`));
    });
  }

  /** @throws BrowserError */
  static async start(path: string): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), "barwire-chromium-"));
    const child = spawn(path, [...FLAGS, `--user-data-dir=${profile}`, "about:blank"], {
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
    });
    const browser = new Chromium(child, profile);
    try {
      await browser.call("Browser.getVersion", {}, undefined, START_MS);
      return browser;
    } catch (error) {
      await browser[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** @returns what the protocol's method returns @throws BrowserError */
  async call(
    method: string,
    params: { readonly [name: string]: unknown } = {},
    sessionId?: string,
    timeoutMs = CALL_MS,
  ): Promise<unknown> {
    if (this.#gone !== null) throw this.#gone;
    const id = ++this.#last;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise((resolve, reject) => {
        this.#calls.set(id, { resolve, reject });
        timer = setTimeout(() => reject(new BrowserError(`${method}: no answer in ${timeoutMs / 1000} s`)), timeoutMs);
        this.#out.write(
          `${JSON.stringify({ id, method, params, ...(sessionId === undefined ? {} : { sessionId }) })}\0`,
        );
      });
    } finally {
      clearTimeout(timer);
      this.#calls.delete(id);
    }
  }

  onMessage(listener: (message: Message) => void): void {
    this.#listeners.add(listener);
  }

  /** Opens a page. @param downloads folder for what it saves */
  async open(url: string, width: number, height: number, downloads: string): Promise<Page> {
    const { targetId } = (await this.call("Target.createTarget", { url: "about:blank" })) as { targetId: string };
    const attached = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, (attached as { sessionId: string }).sessionId);
    await this.call("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: downloads, eventsEnabled: true });
    await page.start(url, width, height);
    return page;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#gone === null) {
      await this.call("Browser.close", {}, undefined, 5000).catch(() => {});
      const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
      await this.#ended;
      clearTimeout(timer);
    }
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  #receive(message: Message): void {
    if (message.id === undefined) {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    const call = this.#calls.get(message.id);
    if (message.error !== undefined) call?.reject(new BrowserError(message.error.message));
    else call?.resolve(message.result);
  }
}

/** A tab. */
export class Page {
  /** what the page's console had to complain of, and requests that were refused or went elsewhere */
  readonly complaints: string[] = [];
  /** addresses of everything that was asked for */
  readonly requests: string[] = [];
  readonly #browser: Chromium;
  readonly #session: string;

  constructor(browser: Chromium, session: string) {
    this.#browser = browser;
    this.#session = session;
    browser.onMessage(({ sessionId, method, params }) => {
      if (sessionId === session && method !== undefined) this.#hear(method, params ?? {});
    });
  }

  async start(url: string, width: number, height: number): Promise<void> {
    for (const domain of ["Page", "Runtime", "Log"]) await this.call(`${domain}.enable`);
    await this.call("Network.enable", { maxPostDataSize: 1 }); // a saved state is large
    await this.resize(width, height);
    await this.call("Page.navigate", { url });
  }

  call(method: string, params: { readonly [name: string]: unknown } = {}): Promise<unknown> {
    return this.#browser.call(method, params, this.#session);
  }

  async resize(width: number, height: number): Promise<void> {
    await this.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  }

  async setScheme(scheme: "light" | "dark"): Promise<void> {
    await this.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  }

  /** Value of an expression in the page, which must be plain data; a promise is waited for. @throws BrowserError */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = (await this.call("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    })) as {
      result: { value?: unknown };
      exceptionDetails?: { text: string; exception?: { description?: string } };
    };
    if (exceptionDetails !== undefined)
      throw new BrowserError(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** A real click in the middle of the element. @throws BrowserError when it is not there, or covered */
  async click(selector: string): Promise<void> {
    const at = (await this.evaluate(`(() => {
      const found = document.querySelector(${JSON.stringify(selector)});
      if (found === null) return null;
      found.scrollIntoView({ block: "center" });
      const { left, top, width, height } = found.getBoundingClientRect();
      const [x, y] = [left + width / 2, top + height / 2];
      const hit = document.elementFromPoint(x, y);
      return found === hit || found.contains(hit) ? { x, y } : null;
    })()`)) as { x: number; y: number } | null;
    if (at === null) throw new BrowserError(`nothing to click at ${selector}`);
    for (const type of ["mousePressed", "mouseReleased"])
      await this.call("Input.dispatchMouseEvent", { type, ...at, button: "left", clickCount: 1 });
  }

  /** Has a file input choose a file of this machine. @throws BrowserError when it is not there */
  async choose(selector: string, path: string): Promise<void> {
    const { root } = (await this.call("DOM.getDocument")) as { root: { nodeId: number } };
    const { nodeId } = (await this.call("DOM.querySelector", { nodeId: root.nodeId, selector })) as { nodeId: number };
    await this.call("DOM.setFileInputFiles", { nodeId, files: [path] });
  }

  /** Types into what has the focus; a line feed is the Enter key. */
  async type(text: string): Promise<void> {
    for (const [i, line] of text.split("\n").entries()) {
      if (i > 0) await this.key("Enter", "Enter", 13, "\r");
      if (line !== "") await this.call("Input.insertText", { text: line });
    }
  }

  /** Presses a key and lets it go, as the DOM names it. @param text what it writes */
  async key(key: string, code: string, windowsVirtualKeyCode: number, text = key): Promise<void> {
    const event = { key, code, windowsVirtualKeyCode };
    await this.call("Input.dispatchKeyEvent", { type: "keyDown", ...event, text });
    await this.call("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  /** A PNG of what is in the window. */
  async screenshot(): Promise<Buffer> {
    const { data } = (await this.call("Page.captureScreenshot", { format: "png" })) as { data: string };
    return Buffer.from(data, "base64");
  }

  #hear(method: string, params: { readonly [name: string]: unknown }): void {
    if (method === "Runtime.exceptionThrown") {
      const { exceptionDetails: d } = params as {
        exceptionDetails: { text: string; exception?: { description?: string } };
      };
      this.complaints.push(d.exception?.description ?? d.text);
    } else if (method === "Runtime.consoleAPICalled") {
      const { type, args } = params as { type: string; args: readonly { value?: unknown; description?: string }[] };
      const text = args.map(({ value, description }) => String(value ?? description)).join(" ");
      if (type === "error" || type === "warning" || type === "assert") this.complaints.push(text);
    } else if (method === "Log.entryAdded") {
      const { entry } = params as { entry: { level: string; text: string; url?: string } };
      if (entry.level === "error") this.complaints.push(`${entry.text} ${entry.url ?? ""}`.trim());
    } else if (method === "Network.requestWillBeSent") {
      this.requests.push((params as { request: { url: string } }).request.url);
    }
  }
}
