import { createHash } from "node:crypto";
import { type BlkCounters, virtioBlk } from "../../devices/virtio-blk/index.js";
import { ConfigError } from "../bytes/index.js";
import type { Diagnostic } from "../contract/index.js";
import { type Bio, BusError, type Disk, ENOSPC, frameSegments } from "../guest/index.js";
import { FileDisk } from "../hosts/node/index.js";
import { Machine } from "../machine/index.js";
import { UsageError } from "./args.js";
import { Progress } from "./lab/progress.js";
import { probeMachine } from "./lab/world.js";

/** bytes; room for the ring and the buffers */
const RAM = 16 * 2 ** 20;
const BDF = "00:03.0";
/** bytes of one request */
const REQUEST = 0x1_0000;
/** requests in flight */
const DEPTH = 16;
/** Polls without an answer before the disk counts as dead; each lets 1 ms of the machine's time pass. */
const STALL_POLLS = 10_000;

/** A disk that stopped answering, or answered with an error. */
class DiskError extends Error {
  override readonly name = "DiskError";
}

/** What reading a disk from its first block to its last has shown. */
export interface DiskReading {
  readonly file: string;
  /** bytes of the file, which are those that were hashed */
  readonly bytes: number;
  readonly sectors: number;
  readonly blockSize: number;
  readonly ident: string;
  readonly sha256: string;
  /** without the time spent hashing */
  readonly seconds: number;
  /** binary megabytes a second */
  readonly mbPerSecond: number;
  readonly counters: BlkCounters;
  readonly diagnostics: readonly Diagnostic[];
}

type CopyOut = (address: number, target: Uint8Array, length: number) => void;

/** Hashes what arrives, which is in order of the disk however requests are answered. */
class Reader {
  readonly #disk: Disk;
  readonly #bytes: number;
  readonly #hash = createHash("sha256");
  readonly #buffer = new Uint8Array(REQUEST);
  readonly #copyOut: CopyOut;
  readonly #bios: Bio[] = [];
  readonly #ready = new Uint8Array(DEPTH); // by slot: answered, and not yet hashed
  readonly #perRequest: number;
  #next = 0; // requests submitted
  #hashed = 0;
  hashMs = 0;
  failed = 0;

  /** @param memory DMA memory of DEPTH × REQUEST bytes */
  constructor(disk: Disk, bytes: number, memory: number, copyOut: CopyOut) {
    this.#disk = disk;
    this.#bytes = bytes;
    this.#copyOut = copyOut;
    this.#perRequest = Math.floor(REQUEST / disk.blockSize);
    for (let slot = 0; slot < DEPTH; slot++) {
      const data = frameSegments(1);
      data.count = 1;
      data.paddr[0] = memory + slot * REQUEST;
      this.#bios.push({
        command: "read",
        lba: 0,
        count: 0,
        data,
        done: (_bio, error) => {
          this.#ready[slot] = 1;
          if (error !== 0) this.failed = error;
        },
      });
    }
  }

  get requests(): number {
    return Math.ceil(this.#disk.sectors / this.#perRequest);
  }

  get hashed(): number {
    return Math.min(this.#hashed * this.#perRequest * this.#disk.blockSize, this.#bytes);
  }

  get finished(): boolean {
    return this.#hashed === this.requests;
  }

  /** Keeps the queue full. */
  pump(): void {
    const disk = this.#disk;
    while (this.#next < this.requests && this.#next < this.#hashed + DEPTH) {
      const lba = this.#next * this.#perRequest;
      const count = Math.min(this.#perRequest, disk.sectors - lba);
      const slot = this.#next % DEPTH;
      const bio: Bio = { ...this.#bios[slot]!, lba, count };
      bio.data!.len[0] = count * disk.blockSize;
      const error = disk.submit(bio);
      if (error === ENOSPC) break;
      if (error !== 0) throw new DiskError(`${disk.name}: blocks ${lba}+${count} were refused (errno ${error})`);
      this.#next++;
    }
    disk.kick();
  }

  /** Hashes what has arrived without a gap. @returns whether anything had */
  take(): boolean {
    const before = this.#hashed;
    for (let slot = before % DEPTH; this.#ready[slot] === 1; slot = this.#hashed % DEPTH) {
      if (this.failed !== 0)
        throw new DiskError(`${this.#disk.name}: read failed after ${this.hashed} bytes (errno ${this.failed})`);
      this.#ready[slot] = 0;
      const at = this.#hashed * this.#perRequest * this.#disk.blockSize;
      const { data } = this.#bios[slot]!;
      // The last sector is longer than the file; its padding is none of the file's bytes.
      const length = Math.min(data!.len[0]!, this.#bytes - at);
      this.#copyOut(data!.paddr[0]!, this.#buffer, length);
      const started = performance.now();
      this.#hash.update(length === REQUEST ? this.#buffer : this.#buffer.subarray(0, length));
      this.hashMs += performance.now() - started;
      this.#hashed++;
    }
    return this.#hashed !== before;
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}

/** Opens the file. @throws UsageError */
const openDisk = (path: string): FileDisk => {
  let disk: FileDisk;
  try {
    disk = new FileDisk(path);
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(error.message);
    throw error;
  }
  if (disk.fileSize > 0) return disk;
  disk[Symbol.dispose]();
  throw new UsageError(`disk "${path}": empty`);
};

/** Reads the whole disk. @param json prints nothing itself @throws UsageError, DiskError, BusError */
export const readDisk = (path: string, json: boolean): DiskReading => {
  const backend = openDisk(path);
  try {
    const diagnostics: Diagnostic[] = [];
    const machine = new Machine({ ram: RAM, strictness: "strict", report: (d) => diagnostics.push(d) });
    const card = virtioBlk({ backend });
    machine.plug(BDF, card);
    const { newbus, bus, lines } = probeMachine(machine);
    if (!json) console.log(`${lines.join("\n")}\n`);
    const disk = newbus.softc<{ readonly disk: Disk }>("vtblk0")?.disk;
    if (disk === undefined) throw new DiskError("no driver attached vtblk0");
    const ident = disk.ident();
    const memory = bus.dma.alloc(DEPTH * REQUEST, 4096, 0xffff_ffff);
    const reader = new Reader(disk, backend.fileSize, memory, (address, target, length) =>
      bus.dma.copyOut(address, target, 0, length),
    );
    const bar = new Progress(process.stdout, disk.name, backend.fileSize);
    const started = performance.now();
    try {
      for (let still = 0; !reader.finished; ) {
        reader.pump();
        bus.poll();
        if (reader.take()) still = 0;
        else if (++still > STALL_POLLS) throw new DiskError(`${disk.name}: no answer after ${reader.hashed} bytes`);
        else bus.delay(1000);
        if (!json) bar.show(reader.hashed);
      }
    } finally {
      bar.end();
    }
    const seconds = (performance.now() - started - reader.hashMs) / 1000;
    return {
      file: path,
      bytes: backend.fileSize,
      sectors: disk.sectors,
      blockSize: disk.blockSize,
      ident,
      sha256: reader.digest(),
      seconds,
      mbPerSecond: backend.fileSize / 2 ** 20 / seconds,
      counters: card.counters(),
      diagnostics,
    };
  } finally {
    backend[Symbol.dispose]();
  }
};

/** Reads a file as a disk and prints its SHA-256. @returns the exit status: 1 when a read failed or the driver erred; @throws UsageError */
export const diskLab = (path: string, json: boolean): number => {
  try {
    const reading = readDisk(path, json);
    if (json) console.log(JSON.stringify(reading, null, 1));
    else {
      const { counters, diagnostics, mbPerSecond } = reading;
      console.log(`SHA-256 (${path}) = ${reading.sha256}`);
      console.log(
        `${reading.bytes} bytes at ${mbPerSecond.toFixed(1)}MB/s: ${counters.reads} reads, ${counters.doorbells} doorbells, ${counters.interrupts} interrupts`,
      );
      for (const d of diagnostics) console.log(`${d.source}: ${d.code} (0x${d.value.toString(16)})`);
    }
    return reading.diagnostics.length === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof DiskError || error instanceof BusError)) throw error;
    console.error(`barwire: ${error.message}`);
    return 1;
  }
};
