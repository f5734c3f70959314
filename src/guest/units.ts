import { ConfigError } from "../bytes/index.js";
import type { DeviceNode } from "./device-node.js";

/** Hints by driver and unit. */
type Hints = ReadonlyMap<string, ReadonlyMap<number, { at?: string; disabled?: string }>>;

const parseHints = (hints: Readonly<Record<string, string>>): Hints => {
  const parsed = new Map<string, Map<number, Record<string, string>>>();
  for (const [key, value] of Object.entries(hints)) {
    const match = /^hint\.([^.]+)\.(\d+)\.(\w+)$/.exec(key);
    if (match === null) throw new ConfigError("hint", `${key}: expected hint.NAME.UNIT.KEY`);
    const [, name = "", unit = "", what = ""] = match;
    const units = parsed.get(name) ?? new Map<number, Record<string, string>>();
    parsed.set(name, units.set(Number(unit), { ...units.get(Number(unit)), [what]: value }));
  }
  return parsed;
};

/** Which device has which unit of which driver; unit numbers are unique over all buses of a driver. device.hints(5) */
export class Units {
  readonly #hints: Hints;
  readonly #units = new Map<string, Map<number, DeviceNode>>();

  /** @throws ConfigError `hint` */
  constructor(hints: Readonly<Record<string, string>>) {
    this.#hints = parseHints(hints);
  }

  /** Whether a hint says that this unit is never attached. */
  isDisabled(name: string, unit: number): boolean {
    return Number(this.#hints.get(name)?.get(unit)?.disabled ?? 0) !== 0;
  }

  /** Gives a device a name and the unit that is wired by a hint, asked for by the bus, or the lowest free one wired nowhere else. */
  take(node: DeviceNode, name: string): void {
    node.className = name;
    node.unit = this.#unitFor(node, name);
    const units = this.#units.get(name) ?? new Map<number, DeviceNode>();
    this.#units.set(name, units.set(node.unit, node));
  }

  free(node: DeviceNode): void {
    this.#units.get(node.className)?.delete(node.unit);
    node.unit = -1;
    node.className = "";
    node.disabled = false;
    node.desc = "";
  }

  #unitFor(node: DeviceNode, name: string): number {
    const taken = this.#units.get(name);
    const hints = this.#hints.get(name);
    const places = node.bus?.wiring?.(node.view) ?? [];
    for (const [unit, { at }] of hints ?? [])
      if (at !== undefined && places.includes(at) && taken?.has(unit) !== true) return unit;
    const asked = node.hooks.unit;
    if (asked !== undefined && taken?.has(asked) !== true) return asked;
    for (let unit = 0; ; unit++) {
      const at = hints?.get(unit)?.at;
      if (taken?.has(unit) !== true && (at === undefined || at === node.parent?.nameunit)) return unit;
    }
  }
}
