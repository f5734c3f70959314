/** A frame of a pcapng file. */
export interface FileFrame {
  readonly interface: number;
  /** ns since 1970-01-01 UTC */
  readonly at: bigint;
  readonly direction: "inbound" | "outbound" | "unknown";
  readonly bytes: Uint8Array;
}

export interface PcapngFile {
  /** names */
  readonly interfaces: readonly string[];
  readonly frames: readonly FileFrame[];
}

// draft-ietf-opsawg-pcapng §4; numbers from there, not from our writer, which this is to judge.
const [SHB, IDB, EPB] = [0x0a0d_0d0a, 1, 6];
const IF_NAME = 2;
const IF_TSRESOL = 9;
const IF_TSOFFSET = 14;
const EPB_FLAGS = 2;

/** Reads a little-endian pcapng file of one section. @throws Error where it is none */
export function readPcapng(file: Uint8Array): PcapngFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const interfaces: { name: string; digits: number; offset: bigint }[] = [];
  const frames: FileFrame[] = [];
  for (let at = 0; at < file.length; ) {
    if (at + 12 > file.length) throw new Error(`half a block at ${at}`);
    const [type, length] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    if (length % 4 !== 0 || length < 12 || at + length > file.length) throw new Error(`block of ${length} at ${at}`);
    if (view.getUint32(at + length - 4, true) !== length)
      throw new Error(`the block at ${at} ends with another length`);
    const end = at + length - 4;
    if ((type === SHB) !== (at === 0)) throw new Error(`block ${type} at ${at}: one section, at the beginning`);
    if (type === SHB) {
      if (view.getUint32(8, true) !== 0x1a2b_3c4d) throw new Error("no byte-order magic");
      if (view.getUint16(12, true) !== 1) throw new Error("not version 1");
    } else if (type === IDB) {
      if (view.getUint16(at + 8, true) !== 1) throw new Error("a link that is not Ethernet");
      const options = optionsIn(file, at + 16, end);
      const offset = options.get(IF_TSOFFSET);
      interfaces.push({
        name: new TextDecoder().decode(options.get(IF_NAME)),
        digits: options.get(IF_TSRESOL)?.[0] ?? 6,
        offset: offset === undefined ? 0n : new DataView(offset.buffer, offset.byteOffset, 8).getBigInt64(0, true),
      });
    } else if (type === EPB) {
      const id = view.getUint32(at + 8, true);
      const known = interfaces[id];
      if (known === undefined) throw new Error(`frame of interface ${id}, which there is not`);
      const units = (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 16, true));
      const [kept, whole] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
      if (kept > whole || at + 28 + kept > end) throw new Error(`frame of ${kept} bytes at ${at}`);
      const flags = optionsIn(file, at + 28 + ((kept + 3) & ~3), end).get(EPB_FLAGS);
      frames.push({
        interface: id,
        at: units * 10n ** BigInt(9 - known.digits) + known.offset * 1_000_000_000n,
        direction: (["unknown", "inbound", "outbound"] as const)[(flags?.[0] ?? 0) & 3] ?? "unknown",
        bytes: file.subarray(at + 28, at + 28 + kept),
      });
    }
    at += length;
  }
  return { interfaces: interfaces.map(({ name }) => name), frames };
}

function optionsIn(file: Uint8Array, from: number, end: number): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  const word = (at: number): number => file[at]! | (file[at + 1]! << 8);
  for (let at = from; at + 4 <= end && word(at) !== 0; at += 4 + ((word(at + 2) + 3) & ~3))
    found.set(word(at), file.subarray(at + 4, at + 4 + word(at + 2)));
  return found;
}
