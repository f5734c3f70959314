import { StateError, StateReader } from "../bytes/index.js";
import type { AccessWidth, BarHandler, ResetKind, SavedState } from "../contract/index.js";
import { RegisterFile } from "../regs/index.js";
import { PCI_CAP_ID_SHPC } from "../spec/pci.js";
import {
  SHPC_CAP_CIP,
  SHPC_CAP_DWORD_DATA,
  SHPC_CAP_DWORD_SELECT,
  SHPC_CAP_PENDING,
  SHPC_CAP_SIZEOF,
  SHPC_CMD_CODE,
  SHPC_CMD_DETECTED,
  SHPC_CMD_ENABLE_ALL,
  SHPC_CMD_INT_DIS,
  SHPC_CMD_POWER_ONLY_ALL,
  SHPC_CMD_SET_SPEED,
  SHPC_CMD_STATUS,
  SHPC_CMD_STATUS_INVALID_CMD,
  SHPC_CMD_STATUS_INVALID_MODE,
  SHPC_CMD_STATUS_MRL_OPEN,
  SHPC_CMD_TRGT,
  SHPC_INT_COMMAND,
  SHPC_INT_DIS,
  SHPC_INT_LOCATOR,
  SHPC_LED_NO,
  SHPC_LED_OFF,
  SHPC_LED_ON,
  SHPC_MAX_SLOTS,
  SHPC_REGISTERS,
  SHPC_SERR_INT,
  SHPC_SLOT_ATTN_LED,
  SHPC_SLOT_EVENT_BUTTON,
  SHPC_SLOT_EVENT_MRL,
  SHPC_SLOT_EVENT_PRESENCE,
  SHPC_SLOT_EVENTS,
  SHPC_SLOT_MRL_OPEN,
  SHPC_SLOT_PRSNT,
  SHPC_SLOT_PWR_LED,
  SHPC_SLOT_REG,
  SHPC_SLOT_STATE,
  SHPC_STATE_DISABLED,
  SHPC_STATE_ENABLED,
  SHPC_STATE_NO,
  SHPC_STATE_PWRONLY,
} from "../spec/shpc.js";
import type { BarDeclaration, Capability, CapabilityHost } from "./declaration.js";

const STATE_VERSION = 1;
const BAR_SIZE = 0x100;
const DWORD_SELECTS = BAR_SIZE / 4;
/** The mode that every slot can: 33 MHz. */
const SPEED_33 = 0;

const { CMD_CODE = 0 } = SHPC_REGISTERS.hooks;

const slotAt = (slot: number): number => SHPC_SLOT_REG + 4 * (slot - 1);

/** A slot without a card: off, latch open. With one, out of reset: on, latch closed, a card of 7.5 W. */
const EMPTY = SHPC_STATE_DISABLED | (SHPC_LED_OFF << 2) | (SHPC_LED_OFF << 4) | SHPC_SLOT_MRL_OPEN | SHPC_SLOT_PRSNT;
const RUNNING = SHPC_STATE_ENABLED | (SHPC_LED_ON << 2) | (SHPC_LED_OFF << 4);

/**
 * The standard hot-plug controller of a bridge: slots 1 … 31, the devices of these numbers. As a capability a window on its
 * registers, as a BAR handler the registers. SHPC 1.0
 *
 * It commands nothing but its own registers: a card that is plugged in hot waits with its slot off until the guest enables
 * it, and it is the embedder's to pull one whose slot the guest has switched off (`onDisabled`).
 */
export class StandardHotPlug implements Capability, BarHandler {
  readonly id = PCI_CAP_ID_SHPC;
  readonly at?: number;
  readonly image = new Uint8Array(SHPC_CAP_SIZEOF);
  readonly rw = new Uint8Array(SHPC_CAP_SIZEOF);
  readonly live = new Uint8Array(SHPC_CAP_SIZEOF);
  /** Told when the controller's interrupt rises or falls. */
  onInterrupt: ((level: boolean) => void) | null = null;
  /** Told when the guest has switched a slot with a card off, power indicator included. */
  onDisabled: ((device: number) => void) | null = null;

  #host: CapabilityHost | null = null;
  #place = 0;
  readonly #present = new Uint8Array(SHPC_MAX_SLOTS + 1); // the embedder's, not the guest's
  readonly #registers = new RegisterFile(SHPC_REGISTERS);
  #level = false; // follows the registers

  constructor({ at }: { readonly at?: number } = {}) {
    if (at !== undefined) this.at = at;
    this.rw[SHPC_CAP_DWORD_SELECT] = 0xff;
    this.rw.fill(0xff, SHPC_CAP_DWORD_DATA);
    this.live[SHPC_CAP_PENDING] = SHPC_CAP_CIP;
    this.reset("power-on");
  }

  /** The BAR with the working registers. */
  bar(): BarDeclaration {
    return { kind: "mem64", size: BAR_SIZE, registers: SHPC_REGISTERS, handler: this };
  }

  /**
   * A card came or went. @param device 1 … 31; another has no slot here
   * @param hot the guest is to be told, by button, latch and presence, and to enable the slot itself
   */
  occupy(device: number, present: boolean, hot: boolean): void {
    if (!(device >= 1 && device <= SHPC_MAX_SLOTS) || present === (this.#present[device] === 1)) return;
    this.#present[device] = present ? 1 : 0;
    if (!hot) {
      this.#setStatus(device, 0xffff, present ? RUNNING : EMPTY);
      return;
    }
    this.#setStatus(device, SHPC_SLOT_MRL_OPEN | SHPC_SLOT_PRSNT, present ? 0 : SHPC_SLOT_MRL_OPEN | SHPC_SLOT_PRSNT);
    if (!present) this.#setStatus(device, SHPC_SLOT_STATE, SHPC_STATE_DISABLED);
    this.#latch(device, SHPC_SLOT_EVENT_MRL | SHPC_SLOT_EVENT_PRESENCE | (present ? SHPC_SLOT_EVENT_BUTTON : 0));
  }

  /** Somebody pressed a slot's attention button: asks the guest to let go of its card, or to take it. */
  pressAttentionButton(device: number): void {
    if (!(device >= 1 && device <= SHPC_MAX_SLOTS)) return;
    this.#latch(device, SHPC_SLOT_EVENT_BUTTON);
  }

  // ---------------------------------------------------------------------------------------------- the registers

  read(offset: number, width: AccessWidth): number {
    return this.#registers.guestRead(offset, width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const touched = this.#registers.guestWrite(offset, width, value);
    if ((touched & CMD_CODE) !== 0) this.#command();
    this.#follow();
  }

  /** Done before the write returns, so that nobody ever sees it busy. §4.10, §4.11 */
  #command(): void {
    const code = this.#registers.get(SHPC_CMD_CODE, 1);
    let status = SHPC_CMD_STATUS_INVALID_CMD;
    if (code < SHPC_CMD_SET_SPEED) status = this.#operate(code);
    else if (code < SHPC_CMD_POWER_ONLY_ALL) status = (code & 7) === SPEED_33 ? 0 : SHPC_CMD_STATUS_INVALID_MODE;
    else if (code === SHPC_CMD_POWER_ONLY_ALL) status = this.#all(SHPC_STATE_PWRONLY);
    else if (code === SHPC_CMD_ENABLE_ALL) status = this.#all(SHPC_STATE_ENABLED);
    this.#registers.set(SHPC_CMD_STATUS, 2, status);
    this.#registers.set(SHPC_SERR_INT, 4, this.#registers.get(SHPC_SERR_INT, 4) | SHPC_CMD_DETECTED);
  }

  /** One slot: state and indicators. @returns Command Status */
  #operate(code: number): number {
    const slot = this.#registers.get(SHPC_CMD_TRGT, 1);
    if (slot < 1 || slot > SHPC_MAX_SLOTS) return SHPC_CMD_STATUS_INVALID_CMD;
    const status = this.#status(slot);
    const was = status & SHPC_SLOT_STATE;
    const state = code & SHPC_SLOT_STATE;
    if (state === SHPC_STATE_PWRONLY && was === SHPC_STATE_ENABLED) return SHPC_CMD_STATUS_INVALID_CMD;
    const goesOn = state === SHPC_STATE_PWRONLY || state === SHPC_STATE_ENABLED;
    if (goesOn && (status & SHPC_SLOT_MRL_OPEN) !== 0) return SHPC_CMD_STATUS_MRL_OPEN;
    for (const indicator of [SHPC_SLOT_PWR_LED, SHPC_SLOT_ATTN_LED]) {
      const wanted = code & indicator;
      if (wanted !== SHPC_LED_NO) this.#setStatus(slot, indicator, wanted);
    }
    if (state !== SHPC_STATE_NO) this.#setStatus(slot, SHPC_SLOT_STATE, state);
    const isOff = (this.#status(slot) & SHPC_SLOT_PWR_LED) >> 2 === SHPC_LED_OFF;
    const goesOff = was !== SHPC_STATE_DISABLED && state === SHPC_STATE_DISABLED;
    if (goesOff && isOff && this.#present[slot] === 1) this.onDisabled?.(slot);
    return 0;
  }

  /** All slots whose latch is closed; none of them may be enabled already where power alone is wanted. */
  #all(state: number): number {
    const slots = Array.from({ length: SHPC_MAX_SLOTS }, (_, i) => i + 1);
    if (slots.some((slot) => (this.#status(slot) & SHPC_SLOT_STATE) === SHPC_STATE_ENABLED))
      return SHPC_CMD_STATUS_INVALID_CMD;
    for (const slot of slots)
      if ((this.#status(slot) & SHPC_SLOT_MRL_OPEN) === 0) {
        this.#setStatus(slot, SHPC_SLOT_STATE, state);
        this.#setStatus(slot, SHPC_SLOT_PWR_LED, SHPC_LED_ON << 2);
        this.#setStatus(slot, SHPC_SLOT_ATTN_LED, SHPC_LED_OFF << 4);
      }
    return 0;
  }

  #status(slot: number): number {
    return this.#registers.get(slotAt(slot), 2);
  }

  #setStatus(slot: number, mask: number, value: number): void {
    this.#registers.set(slotAt(slot), 2, (this.#status(slot) & ~mask) | value);
  }

  #latch(slot: number, events: number): void {
    this.#registers.set(slotAt(slot) + 2, 1, this.#registers.get(slotAt(slot) + 2, 1) | events);
    this.#follow();
  }

  /** Who has an event that may interrupt, and from it the interrupt. §4.12, §4.14 */
  #locate(): boolean {
    const registers = this.#registers;
    const serrInt = registers.get(SHPC_SERR_INT, 4);
    let locator = (serrInt & SHPC_CMD_DETECTED) !== 0 && (serrInt & SHPC_CMD_INT_DIS) === 0 ? SHPC_INT_COMMAND : 0;
    for (let slot = 1; slot <= SHPC_MAX_SLOTS; slot++) {
      const events = registers.get(slotAt(slot) + 2, 1) & ~registers.get(slotAt(slot) + 3, 1) & SHPC_SLOT_EVENTS;
      if (events !== 0) locator |= 1 << slot;
    }
    registers.set(SHPC_INT_LOCATOR, 4, locator >>> 0);
    return locator !== 0 && (serrInt & SHPC_INT_DIS) === 0;
  }

  #follow(): void {
    const level = this.#locate();
    if (level === this.#level) return;
    this.#level = level;
    this.onInterrupt?.(level);
  }

  // ---------------------------------------------------------------------------------------------- as a capability

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  /** The data register shows the dword that is selected; one that is not there reads 0. */
  beforeRead(): void {
    const select = this.#host?.get(this.#place + SHPC_CAP_DWORD_SELECT, 1) ?? 0;
    const value = select < DWORD_SELECTS ? this.#registers.get(4 * select, 4) : 0;
    this.#host?.set(this.#place + SHPC_CAP_DWORD_DATA, 4, value);
    this.#host?.set(this.#place + SHPC_CAP_PENDING, 1, this.#level ? SHPC_CAP_CIP : 0);
  }

  written(first: number, last: number): void {
    const host = this.#host;
    if (host === null || last < SHPC_CAP_DWORD_DATA) return;
    const select = host.get(this.#place + SHPC_CAP_DWORD_SELECT, 1);
    if (select >= DWORD_SELECTS) return;
    const from = Math.max(first, SHPC_CAP_DWORD_DATA);
    const lane = from - SHPC_CAP_DWORD_DATA;
    if (last - from === 3) this.write(4 * select, 4, host.get(this.#place + from, 4));
    else if (last - from === 1 && lane % 2 === 0) this.write(4 * select + lane, 2, host.get(this.#place + from, 2));
    else
      for (let i = from; i <= last; i++)
        this.write(4 * select + i - SHPC_CAP_DWORD_DATA, 1, host.get(this.#place + i, 1));
  }

  reset(_kind: ResetKind): void {
    this.#registers.reset();
    for (let slot = 1; slot <= SHPC_MAX_SLOTS; slot++)
      this.#setStatus(slot, 0xffff, this.#present[slot] === 1 ? RUNNING : EMPTY);
    this.#follow();
  }

  save(): SavedState {
    return { version: STATE_VERSION, registers: this.#registers.image() };
  }

  load(state: SavedState): void {
    const image = new StateReader(state, "shpc", STATE_VERSION).bytes("registers", BAR_SIZE);
    const { resetImage, rw, w1c, list } = SHPC_REGISTERS;
    for (const { name, at, width, live } of list)
      for (let i = at; i < at + width; i++) {
        const own = live || name.endsWith("STATUS") ? 0xff : 0; // the controller's, or a command's
        if (((image[i]! ^ resetImage[i]!) & ~(rw[i]! | w1c[i]! | own) & 0xff) !== 0)
          throw new StateError(`shpc.${name}`, "its read-only bits differ");
      }
    this.#registers.restore(image);
  }

  restored(): void {
    this.#level = this.#locate();
  }
}
