import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { RECORD_SEPARATOR } from "./control.js";
import { element } from "./dom.js";

const RECORD = new RegExp(`${RECORD_SEPARATOR}\\d*\\r?\\n?`, "g");
const MOST_SCROLLBACK = 4000;

/** The guest's first serial port as a terminal. */
export class ConsoleView {
  readonly #terminal: Terminal;
  readonly #fit = new FitAddon();
  readonly #decoder = new TextDecoder();
  #inRecord = false;

  /** @param type sends what is typed; @param resized is told the size in characters */
  constructor(root: HTMLElement, type: (text: string) => void, resized: (columns: number, rows: number) => void) {
    this.#terminal = new Terminal({
      convertEol: true, // until the guest's shell sets its terminal up, its lines end without a carriage return
      cursorBlink: true,
      fontFamily: "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace",
      fontSize: 12.5,
      scrollback: MOST_SCROLLBACK,
      theme: { background: "#14171c", foreground: "#d7dce4", cursor: "#8ab4f8", selectionBackground: "#3b4a63" },
    });
    this.#terminal.loadAddon(this.#fit);
    const place = element("div", { class: "terminal-place" });
    root.append(place);
    this.#terminal.open(place);
    this.#terminal.onData(type);
    this.#terminal.onResize(({ cols, rows }) => resized(cols, rows));
    new ResizeObserver(() => this.fit()).observe(place);
    this.fit();
  }

  get size(): { readonly columns: number; readonly rows: number } {
    return { columns: this.#terminal.cols, rows: this.#terminal.rows };
  }

  fit(): void {
    this.#fit.fit();
  }

  focus(): void {
    this.#terminal.focus();
  }

  /** Shows what came, without the records that end `init`'s answers. */
  write(bytes: Uint8Array): void {
    let text = this.#decoder.decode(bytes, { stream: true });
    // A record may be cut anywhere.
    if (this.#inRecord) {
      const end = text.indexOf("\n");
      if (end < 0) return;
      text = text.slice(end + 1);
      this.#inRecord = false;
    }
    const cut = text.lastIndexOf(RECORD_SEPARATOR);
    if (cut >= 0 && !text.includes("\n", cut)) {
      this.#inRecord = true;
      text = text.slice(0, cut);
    }
    this.#terminal.write(text.replace(RECORD, ""));
  }

  /** What the terminal holds, as lines. */
  get text(): string {
    const { active } = this.#terminal.buffer;
    const lines = Array.from({ length: active.length }, (_, i) => active.getLine(i)?.translateToString(true) ?? "");
    return lines.join("\n").trimEnd();
  }
}
