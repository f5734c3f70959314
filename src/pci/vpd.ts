import { ConfigError } from "../bytes/index.js";
import { PCI_CAP_ID_VPD } from "../spec/pci.js";
import type { Capability, CapabilityHost } from "./declaration.js";

const SIZE = 8;
const ADDRESS = 2;
const DATA = 4;
/** of the address register: a transfer is done */
const FLAG = 0x8000;
const ADDRESS_MASK = 0x7ffc;
const LARGEST = 0x8000;

// Resource tags. PCI 3.0 appendix I.1
const TAG_IDENTIFIER = 0x82;
const TAG_READ_ONLY = 0x90;
const TAG_END = 0x78;

export interface VitalProductDataOptions {
  /** product name */
  readonly identifier: string;
  /** read-only fields by their two letters, such as PN (part number) and SN (serial number); RV is added */
  readonly fields?: { readonly [keyword: string]: string };
  /** fixed offset in configuration space */
  readonly at?: number;
}

const latin = (text: string): number[] => Array.from(text, (char) => char.charCodeAt(0) & 0xff);
const large = (tag: number, bytes: readonly number[]): number[] => [
  tag,
  bytes.length & 0xff,
  bytes.length >>> 8,
  ...bytes,
];

/** The bytes: identifier, read-only fields that end with the checksum, end. */
const compose = (identifier: string, fields: { readonly [keyword: string]: string }): Uint8Array => {
  const body: number[] = [];
  for (const [keyword, text] of Object.entries(fields)) {
    if (!/^[A-Z][A-Z0-9]$/.test(keyword) || keyword === "RV" || text.length > 0xff)
      throw new ConfigError(
        "vpd-field",
        `VPD field ${keyword} of ${text.length} bytes; expected two letters and 0 … 255`,
      );
    body.push(...latin(keyword), text.length, ...latin(text));
  }
  const before = [
    ...large(TAG_IDENTIFIER, latin(identifier)),
    // The tag's length counts the checksum's field, too.
    ...large(TAG_READ_ONLY, [...body, ...latin("RV"), 1, 0]).slice(0, -1),
  ];
  // All bytes up to and with this one add up to 0. I.3.1.1
  const sum = before.reduce((total, byte) => total + byte, 0);
  const bytes = [...before, -sum & 0xff, TAG_END];
  if (bytes.length > LARGEST)
    throw new ConfigError("vpd-size", `${bytes.length} bytes of VPD; expected at most ${LARGEST}`);
  return Uint8Array.from(bytes);
};

/**
 * Vital product data: name, part and serial number of a card, read through an address and a data register, read-only.
 * A transfer is done before the guest looks: its flag shows at the next read. PCI 3.0 appendix I
 */
export class VitalProductData implements Capability {
  readonly id = PCI_CAP_ID_VPD;
  readonly at?: number;
  readonly image = new Uint8Array(SIZE);
  readonly rw = new Uint8Array(SIZE);
  readonly live = new Uint8Array(SIZE);
  /** what a guest reads, from address 0 on */
  readonly bytes: Uint8Array;
  #host: CapabilityHost | null = null;
  #place = 0;

  /** @throws ConfigError `vpd-field`, `vpd-size` */
  constructor({ identifier, fields = {}, at }: VitalProductDataOptions) {
    if (at !== undefined) this.at = at;
    this.bytes = compose(identifier, fields);
    this.rw.fill(0xff, ADDRESS);
    this.live.fill(0xff, DATA);
  }

  bind(host: CapabilityHost, at: number): void {
    this.#host = host;
    this.#place = at;
  }

  /** The address register starts a transfer: a read with its flag clear, a write, which changes nothing, with it set. */
  written(first: number, last: number): void {
    const host = this.#host;
    if (host === null || first > ADDRESS + 1 || last < ADDRESS) return;
    const register = host.get(this.#place + ADDRESS, 2);
    const address = register & ADDRESS_MASK;
    if ((register & FLAG) !== 0) {
      host.set(this.#place + ADDRESS, 2, address);
      return;
    }
    let value = 0;
    for (let i = 3; i >= 0; i--) value = value * 0x100 + (this.bytes[address + i] ?? 0);
    host.set(this.#place + DATA, 4, value);
    host.set(this.#place + ADDRESS, 2, address | FLAG);
  }
}
