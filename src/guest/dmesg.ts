import type { DeviceInfo, Errno } from "./types.js";

/** Lines of a BSD kernel's message buffer. Pure functions. */

/** Numbers of errnos on FreeBSD, as `attach returned 6` prints them. */
export const ERRNO: { readonly [code in Errno]: number } = {
  EIO: 5,
  ENXIO: 6,
  ENOMEM: 12,
  EBUSY: 16,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EMSGSIZE: 40,
  EOPNOTSUPP: 45,
  ETIMEDOUT: 60,
  EDOOFUS: 88,
};

type Ranges = DeviceInfo["resources"];

const hex = (n: number): string => `0x${n.toString(16)}`;

const list = (name: string, ranges: Ranges, type: Ranges[number]["type"], print: (n: number) => string): string => {
  const printed = ranges
    .filter((range) => range.type === type)
    .map(({ start, end }) => (start === end ? print(start) : `${print(start)}-${print(end)}`));
  return printed.length === 0 ? "" : ` ${name} ${printed.join(",")}`;
};

/** ` at device 4.0`, where the bus has slots. */
const place = (location: string): string => {
  const slot = /(?:^| )slot=(\d+) function=(\d+)/.exec(location);
  return slot === null ? "" : ` at device ${slot[1]}.${slot[2]}`;
};

/** `re0: <DESC> port 0xc000-0xc0ff mem 0xfebd1000-0xfebd10ff irq 11 at device 4.0 on pci0` */
export const attachLine = (device: DeviceInfo, parent: string): string =>
  `${device.nameunit}: <${device.desc}>${list("port", device.resources, "ioport", hex)}` +
  `${list("mem", device.resources, "memory", hex)}${list("irq", device.resources, "irq", String)}` +
  `${place(device.location)} on ${parent}`;

/** `pci0: <network, ethernet> at device 3.0 (no driver attached)` */
export const nomatchLine = (what: string, location: string, parent: string): string =>
  `${parent}: <${what}>${place(location)} (no driver attached)`;

export const detachedLine = (nameunit: string): string => `${nameunit}: detached`;

export const attachFailedLine = (nameunit: string, code: Errno): string =>
  `device_attach: ${nameunit} attach returned ${ERRNO[code]}`;

export const disabledLine = (nameunit: string): string => `${nameunit}: disabled via hints entry`;
