/**
 * virtio-input: a mouse, modern only.
 *
 * Life: `virtioMouse(options)` → plugged into a slot (`connect`) → a driver negotiates, asks what there is, posts buffers and
 * sets DRIVER_OK → `move`, `wheel`, `button`, each with a `sync` behind it → `counters`, `save`/`load` → `disconnect`.
 */
import { ConfigError } from "../../src/bytes/index.js";
import {
  BTN_EXTRA,
  BTN_LEFT,
  BTN_MIDDLE,
  BTN_RIGHT,
  BTN_SIDE,
  EV_KEY,
  EV_REL,
  REL_WHEEL,
  REL_X,
  REL_Y,
  VIRTIO_INPUT_CFG_DATA_SIZE,
} from "../../src/spec/virtio-input.js";
import { VirtioPciFunction, type VirtioPciOptions } from "../../src/virtio/index.js";
import { type InputCounters, VirtioInputModel } from "./model.js";

export type { InputCounters } from "./model.js";

const BUTTONS = { left: BTN_LEFT, right: BTN_RIGHT, middle: BTN_MIDDLE, side: BTN_SIDE, extra: BTN_EXTRA } as const;

export type MouseButton = keyof typeof BUTTONS;

export interface VirtioMouseOptions extends Omit<VirtioPciOptions, "personality" | "legacyBusMaster"> {
  /** what the driver is told; printable ASCII, up to 127 characters; default `barwire Virtio Mouse` */
  readonly title?: string;
}

/** The mouse in its slot. */
export class VirtioMouseFunction extends VirtioPciFunction {
  readonly #model: VirtioInputModel;

  constructor(model: VirtioInputModel, options: VirtioPciOptions) {
    super(model, options);
    this.#model = model;
  }

  /** Adds a movement to the report. @param dx, dy counts, right and down. @returns false: the report is full, `sync` first */
  move(dx: number, dy: number): boolean {
    return (dx === 0 || this.#model.add(EV_REL, REL_X, dx)) && (dy === 0 || this.#model.add(EV_REL, REL_Y, dy));
  }

  /** Adds turns of the wheel to the report. @param clicks away from the user */
  wheel(clicks: number): boolean {
    return this.#model.add(EV_REL, REL_WHEEL, clicks);
  }

  /** Adds a button that went down or up to the report. */
  button(name: MouseButton, down: boolean): boolean {
    return this.#model.add(EV_KEY, BUTTONS[name], down ? 1 : 0);
  }

  /** Sends the report. @returns false: the driver had no room for it, and it is lost as a whole */
  sync(): boolean {
    return this.#model.send();
  }

  /** A copy of the counters. */
  counters(): InputCounters {
    return this.#model.counters(this.core.doorbells, this.core.interrupts);
  }
}

/** A virtio mouse, ready to plug into a slot. @throws ConfigError `virtio-input-title`, `virtio-vectors` */
export const virtioMouse = (options: VirtioMouseOptions = {}): VirtioMouseFunction => {
  const { title = "barwire Virtio Mouse" } = options;
  if (!/^[ -~]+$/.test(title) || title.length >= VIRTIO_INPUT_CFG_DATA_SIZE)
    throw new ConfigError(
      "virtio-input-title",
      `virtio-input: title ${JSON.stringify(title)}; expected 1 … 127 printable ASCII characters`,
    );
  // One vector for the queues, as QEMU's; there is no legacy form of this type.
  return new VirtioMouseFunction(new VirtioInputModel(title), { vectors: 2, ...options, personality: "modern" });
};
