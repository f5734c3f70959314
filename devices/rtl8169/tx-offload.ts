import type { Offload } from "../../src/contract/index.js";
import { OffloadRecord, Segmenter } from "../../src/net/index.js";
import { bits, field } from "../../src/regs/index.js";
import { RTL8169_TX_OPTS1 } from "../../src/spec/rtl8169.js";
import { completeLargeSend, insertChecksums } from "./checksum.js";

const LGSEN = bits(RTL8169_TX_OPTS1.LGSEN);
/** What large send does in each segment whatever the command says; with LGSEN the bits are part of MSS. */
const IP_AND_TCP = bits(RTL8169_TX_OPTS1.IPCS) | bits(RTL8169_TX_OPTS1.TCPCS);

/** What the offloads need of their card. */
export interface OffloadCard {
  readonly leavesChecksums: boolean;
  report(code: string, value: number): void;
}

/** Large send and checksums: what a transmit descriptor asks for, done in the packet or handed on as an `Offload`. */
export class TxOffload {
  readonly #card: OffloadCard;
  readonly #record = new OffloadRecord();
  readonly #segmenter = new Segmenter();
  /** frames that the prepared packet is on the wire */
  frames = 1;

  constructor(card: OffloadCard) {
    this.#card = card;
  }

  /**
   * Prepares a packet of `length` bytes at `start`, its tag inserted; may be done again with the same bytes.
   * @param command opts1 of the first descriptor
   * @returns what is left to who takes the frame, valid until the next call; null: nothing
   */
  prepare(bytes: Uint8Array, view: DataView, start: number, length: number, command: number): Offload | null {
    const record = this.#record;
    record.needsCsum = record.ecn = false;
    record.gso = "none";
    record.gsoSize = 0;
    this.frames = 1;
    if ((command & LGSEN) !== 0)
      return this.#largeSend(bytes, view, start, length, field(command, RTL8169_TX_OPTS1.MSS));
    return this.#checksums(view, start, length, command);
  }

  /** What cannot be cut goes out as it is. These chips know no IPv6. */
  #largeSend(bytes: Uint8Array, view: DataView, start: number, length: number, mss: number): Offload | null {
    const record = this.#record;
    record.gso = "tcp4";
    record.gsoSize = mss;
    const segmenter = this.#segmenter;
    if (mss === 0 || !segmenter.begin(bytes, start, length, record)) {
      this.#card.report(mss === 0 ? "tx-mss-zero" : "tx-not-tcp", length);
      return null;
    }
    this.frames = segmenter.count;
    segmenter.end();
    completeLargeSend(view, start, length, record);
    if (this.frames > 1) return record;
    // One segment is a frame like any other.
    record.gso = "none";
    record.gsoSize = 0;
    record.needsCsum = record.ecn = false;
    return this.#checksums(view, start, length, IP_AND_TCP);
  }

  #checksums(view: DataView, start: number, length: number, command: number): Offload | null {
    const record = this.#record;
    insertChecksums(view, start, length, command, this.#card.leavesChecksums ? record : null);
    return record.needsCsum ? record : null;
  }
}
