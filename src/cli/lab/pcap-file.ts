import { closeSync, openSync, writeSync } from "node:fs";
import type { Clock, Nic } from "../../contract/index.js";
import { connect, PcapngWriter, Tap } from "../../net/index.js";
import { UsageError } from "../args.js";
import type { NicName } from "../registry.js";

const ENHANCED_PACKET_BLOCK = 6;

/** A pcapng file with the frames of some cables, as their cards see them. */
export class PcapFile implements Disposable {
  readonly path: string;
  /** frames in the file so far */
  packets = 0;
  readonly #fd: number;
  readonly #writer: PcapngWriter;
  #open = true;

  /** Makes the file. @throws UsageError when it cannot be written */
  constructor(path: string, clock: Clock) {
    this.path = path;
    try {
      this.#fd = openSync(path, "w");
    } catch (error) {
      throw new UsageError(`pcap "${path}": ${(error as Error).message}`);
    }
    this.#writer = new PcapngWriter({ clock, sink: (chunk) => this.#write(chunk) });
  }

  /** Connects a card with its peer through a tap. */
  connect(name: NicName, card: Nic, peer: Nic): void {
    const id = this.#writer.addInterface({ name: `${name}0`, mac: card.mac });
    connect(new Tap(card.net, this.#writer, id), peer.net);
  }

  /** Ends the file; idempotent. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#writer.close();
    closeSync(this.#fd);
  }

  #write(chunk: Uint8Array): void {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    for (let at = 0; at < chunk.length; at += view.getUint32(at + 4, true))
      if (view.getUint32(at, true) === ENHANCED_PACKET_BLOCK) this.packets++;
    for (let done = 0; done < chunk.length; ) done += writeSync(this.#fd, chunk, done);
  }
}
