import type { DeviceInfo } from "../types.js";

export interface DevinfoOptions {
  /** `-v`: also devices without a driver, and what their bus says of each */
  readonly verbose?: boolean;
  /** `-r`: resources below each device */
  readonly resources?: boolean;
}

const RESOURCES = [
  ["irq", "Interrupt request lines"],
  ["ioport", "I/O ports"],
  ["memory", "I/O memory addresses"],
] as const;

/**
 * Prints a device tree as devinfo(8) does: two spaces a level, the root itself left out; each line ends with a line feed.
 * @param root as `Newbus.tree` gives it
 */
export const devinfo = (root: DeviceInfo, options: DevinfoOptions = {}): string =>
  root.children.map((child) => device(child, 0, options)).join("");

const device = (info: DeviceInfo, indent: number, options: DevinfoOptions): string => {
  const { verbose = false, resources = false } = options;
  const isAttached = info.nameunit !== null && (info.state === "attached" || info.state === "busy");
  let text = "";
  if (verbose || isAttached) {
    text = `${" ".repeat(indent)}${info.nameunit ?? "unknown"}`;
    if (verbose) {
      if (info.pnpinfo !== "") text += ` pnpinfo ${info.pnpinfo}`;
      if (info.location !== "") text += ` at ${info.location}`;
      for (const flag of info.flags ?? []) text += ` (${flag})`;
    }
    text += "\n";
    if (resources) text += resourcesOf(info, indent + 4);
  }
  for (const child of info.children) text += device(child, indent + 2, options);
  return text;
};

const resourcesOf = (info: DeviceInfo, indent: number): string => {
  let text = "";
  for (const [type, title] of RESOURCES) {
    const ranges = info.resources.filter((resource) => resource.type === type);
    if (ranges.length === 0) continue;
    text += `${" ".repeat(indent)}${title}:\n`;
    for (const { start, end } of ranges) {
      const range = start === end ? hex(start) : `${hex(start)}-${hex(end)}`;
      text += `${" ".repeat(indent + 4)}${range}\n`;
    }
  }
  return text;
};

const hex = (value: number): string => `0x${value.toString(16)}`;
