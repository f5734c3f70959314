type Child = Node | string;
type Attributes = { readonly [name: string]: string | number | boolean };

/** An element with its attributes (`false` leaves one out) and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  made.append(...children);
  return made;
}

/** The element with this id. @throws Error when the page has none, or one of another kind */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`no ${kind.name} with the id ${id}`);
  return found;
}

/** Sets a text only where it changed: everything here is written several times a second. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export const setAttribute = (node: Element, name: string, value: string): void => {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
};

export const setDisabled = (button: HTMLButtonElement, disabled: boolean): void => {
  if (button.disabled !== disabled) button.disabled = disabled;
};

export const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");

/** With thousands apart. */
export const count = (value: number): string => value.toLocaleString("en-US");

const UNITS = ["B", "KiB", "MiB", "GiB"];

/** A size in binary units. */
export function size(bytes: number): string {
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < UNITS.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Three digits or so. */
export const brief = (value: number): string =>
  value === 0 ? "0" : value < 0.01 ? value.toFixed(4) : value < 10 ? value.toFixed(2) : value.toFixed(1);
