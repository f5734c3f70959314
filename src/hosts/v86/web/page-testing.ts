import type { Page } from "./chromium.js";

/** What a check that fails throws; anything else that is thrown fails it as well. */
class Failure extends Error {}

interface Outcome {
  readonly name: string;
  readonly ok: boolean;
  readonly detail: string;
  readonly seconds: number;
}

/** Runs checks one after another, prints each, and counts. */
export class Checks {
  readonly #outcomes: Outcome[] = [];
  readonly #json: boolean;

  constructor(json: boolean) {
    this.#json = json;
  }

  /** A line on standard error that the next one replaces, where that is a terminal; every half minute elsewhere. */
  readonly progress = (text: string): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
    else if (performance.now() - this.#told > 30_000) {
      this.#told = performance.now();
      process.stderr.write(`${text}\n`);
    }
  };
  #told = 0;

  /** @returns whether it passed; what `check` returns is shown */
  async run(name: string, check: () => Promise<string>): Promise<boolean> {
    const began = performance.now();
    this.progress(name);
    let [ok, detail] = [true, ""];
    try {
      detail = await check();
    } catch (error) {
      ok = false;
      detail = error instanceof Error ? error.message : String(error);
    }
    const seconds = (performance.now() - began) / 1000;
    this.#outcomes.push({ name, ok, detail, seconds });
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    if (!this.#json)
      process.stdout.write(
        `${ok ? "ok  " : "FAIL"}  ${name.padEnd(46)} ${seconds.toFixed(1).padStart(5)} s  ${detail}\n`,
      );
    return ok;
  }

  equal<T>(actual: T, expected: T, what: string): void {
    if (actual !== expected) throw new Failure(`${what}: ${String(actual)}, expected ${String(expected)}`);
  }

  match(text: string, pattern: RegExp): void {
    if (!pattern.test(text)) throw new Failure(`expected ${String(pattern)} in: ${text.slice(-2000)}`);
  }

  /** Prints the sum. @returns exit status */
  end(): number {
    const failed = this.#outcomes.filter(({ ok }) => !ok).length;
    const passed = this.#outcomes.length - failed;
    if (this.#json) process.stdout.write(`${JSON.stringify({ passed, failed, checks: this.#outcomes })}\n`);
    else process.stdout.write(`\n${passed} passed, ${failed} failed\n`);
    return failed === 0 ? 0 : 1;
  }
}

/** A BAR as the page shows it. */
interface ShownBar {
  readonly index: number;
  readonly base: number;
  readonly decoded: boolean;
}

/** The lab's page, read as a user reads it: off its elements. */
export class LabPage {
  readonly #page: Page;
  #commands = 0;

  constructor(page: Page) {
    this.#page = page;
  }

  /** @throws Failure when `condition` does not come true in time */
  async waitFor(what: string, condition: () => Promise<boolean>, timeoutMs = 90_000): Promise<void> {
    const until = performance.now() + timeoutMs;
    while (!(await condition())) {
      if (performance.now() > until) throw new Failure(`${what}: not in ${timeoutMs / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** Waits for a guest that obeys. @returns the page's word about it */
  async booted(timeoutMs: number, progress: (text: string) => void): Promise<string> {
    let status = "";
    await this.waitFor(
      "a guest that obeys",
      async () => {
        const state = (await this.#page.evaluate(
          `[document.body?.dataset.phase, document.getElementById("status")?.textContent]`,
        )) as [string, string];
        status = state[1];
        progress(status);
        if (state[0] === "failed") throw new Failure(status);
        return state[0] === "ready";
      },
      timeoutMs,
    );
    // The status is written with the next sample.
    await this.waitFor("the status", async () => {
      status = (await this.#page.evaluate(`document.getElementById("status").textContent`)) as string;
      return status.startsWith("running");
    });
    return status;
  }

  /** Types a line into the console, by its keyboard. @returns what came back */
  async shell(line: string, timeoutMs = 120_000): Promise<string> {
    const number = ++this.#commands;
    const from = (await this.#page.evaluate("barwire.lab.transcript.length")) as number;
    await this.enter(`${line}; echo '<<'${number}'>>'`);
    let answer = "";
    await this.waitFor(
      `an answer to: ${line}`,
      async () => {
        const text = (await this.#page.evaluate(`barwire.lab.transcript.slice(${from})`)) as string;
        const end = text.indexOf(`<<${number}>>`);
        answer = text.slice(text.indexOf("'>>'") + 4, Math.max(0, end)).replaceAll("\r", "");
        return end >= 0;
      },
      timeoutMs,
    );
    return answer.trimStart();
  }

  /** Types a line into the console and does not wait for what comes back. */
  async enter(line: string): Promise<void> {
    await this.#page.click("#console .xterm-screen");
    await this.#page.type(`${line}\n`);
  }

  /** What the terminal shows. */
  async consoleText(): Promise<string> {
    return (await this.#page.evaluate("barwire.console.text")) as string;
  }

  /** A field of a card's panel. */
  async text(card: string, field: string): Promise<string> {
    return this.#textOf(`[data-card=${card}] [data-field=${field}]`);
  }

  /** How many pings and transfers the buttons of a card have done. */
  async done(card: string): Promise<number> {
    return Number(
      await this.#page.evaluate(`document.querySelector("[data-card=${card}] [data-field=note]").dataset.done`),
    );
  }

  /** The counters of a card's panel, by name. */
  async counters(card: string): Promise<{ readonly [name: string]: number }> {
    return (await this.#page.evaluate(
      `Object.fromEntries([...document.querySelectorAll("[data-card=${card}] [data-counter]")].map(({ dataset, textContent }) => [dataset.counter, Number(textContent.replaceAll(",", ""))]))`,
    )) as { [name: string]: number };
  }

  /** What the picture of the bus shows of a slot. */
  async busFunction(slot: number): Promise<{ readonly line: number; readonly bars: readonly ShownBar[] }> {
    const shown = (await this.#page.evaluate(`(() => {
      const item = document.querySelector("#bus-tree [data-slot='${slot}']");
      return {
        line: Number(item.querySelector("[data-field=interrupt]").dataset.line),
        bars: [...item.querySelectorAll("[data-bar]")].map(({ dataset }) => ({ ...dataset })),
      };
    })()`)) as { line: number; bars: { bar: string; base: string; decoded: string }[] };
    const bars = shown.bars.map(({ bar, base, decoded }) => ({
      index: Number(bar),
      base: Number.parseInt(base, 16),
      decoded: decoded === "true",
    }));
    return { line: shown.line, bars };
  }

  async hasFunction(slot: number): Promise<boolean> {
    return (await this.#page.evaluate(`document.querySelector("#bus-tree [data-slot='${slot}']") !== null`)) as boolean;
  }

  /** The rows of the packet list that can be seen: protocol, addresses and summary. */
  async rows(): Promise<string[]> {
    return (await this.#page.evaluate(
      `[...document.querySelectorAll(".packet")].map((row) => row.dataset.protocol + " " + row.querySelector(".packet-addresses").textContent + " " + row.querySelector(".packet-summary").textContent)`,
    )) as string[];
  }

  async #textOf(selector: string): Promise<string> {
    return (await this.#page.evaluate(
      `document.querySelector(${JSON.stringify(selector)})?.textContent ?? ""`,
    )) as string;
  }
}
