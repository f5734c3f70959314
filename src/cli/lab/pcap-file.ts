import { closeSync, openSync, writeSync } from "node:fs";
import type { Clock, NetPort, Nic } from "../../contract/index.js";
import { connect, PcapngWriter, Tap, type Wire } from "../../net/index.js";
import { UsageError } from "../args.js";

const ENHANCED_PACKET_BLOCK = 6;

/** A pcapng file with the frames of some cables, as their cards see them. */
export class PcapFile implements Disposable {
  readonly path: string;
  /** frames in the file so far */
  packets = 0;
  readonly #fd: number;
  readonly #writer: PcapngWriter;
  #open = true;

  /** Makes the file. @param epochSeconds the clock's zero, since 1970 @throws UsageError when it cannot be written */
  constructor(path: string, clock: Clock, epochSeconds = 0) {
    this.path = path;
    try {
      this.#fd = openSync(path, "w");
    } catch (error) {
      throw new UsageError(`pcap "${path}": ${(error as Error).message}`);
    }
    this.#writer = new PcapngWriter({ clock, epochSeconds, sink: (chunk) => this.#write(chunk) });
  }

  /** Connects a card with a far end through a tap. @param name of the interface in the file */
  connect(name: string, card: Nic, far: NetPort): Wire {
    const id = this.#writer.addInterface({ name, mac: card.mac });
    return connect(new Tap(card.net, this.#writer, id), far);
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
