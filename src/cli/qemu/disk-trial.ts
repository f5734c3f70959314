import type { GuestBus } from "../../contract/index.js";
import { type Bio, type Disk, ENOSPC, frameSegments } from "../../guest/index.js";
import type { Prng } from "../../net/index.js";
import { CheckFailure, type Outcome, runChecks, until } from "./trial.js";

/** A disk in a QEMU, its driver, and what is in the file behind it. */
export interface DiskTrialParts {
  readonly machine: GuestBus;
  readonly disk: Disk;
  /** the file's bytes as they are now */
  file(): Uint8Array;
  readonly random: Prng;
  /** what the device calls itself */
  readonly serial: string;
}

const WAIT_MS = 5000;
const TURN_US = 200;
const PARALLEL = 48;
/** bytes */
const LONGEST = 100_000;

/** Reads and writes a disk, and compares with the file that QEMU keeps it in. */
export class DiskTrial {
  bytesRead = 0;
  bytesWritten = 0;
  readonly #parts: DiskTrialParts;

  constructor(parts: DiskTrialParts) {
    this.#parts = parts;
  }

  run(): Outcome[] {
    const { disk, serial } = this.#parts;
    return runChecks([
      ["size", () => equal("blocks", disk.sectors, this.#parts.file().length / disk.blockSize)],
      ["ident", () => equal("name", disk.ident(), serial)],
      ["read", () => this.#read()],
      ["write", () => this.#write()],
      ["flush", () => disk.flush()],
      ["parallel", () => this.#parallel()],
      ["beyond", () => this.#beyond()],
    ]);
  }

  #read(): void {
    const { disk } = this.#parts;
    const file = this.#parts.file();
    for (const [lba, count] of this.#places()) this.#compare(disk.read(lba, count), file, lba);
  }

  #write(): void {
    const { disk, random } = this.#parts;
    for (const [lba, count] of this.#places()) {
      const bytes = Uint8Array.from({ length: count * disk.blockSize }, () => random.next() & 0xff);
      disk.write(lba, bytes);
      disk.flush();
      this.#compare(bytes, this.#parts.file(), lba);
      this.#compare(disk.read(lba, count), this.#parts.file(), lba);
      this.bytesWritten += bytes.length;
    }
  }

  /** Requests of several blocks in flight together, reads and writes of places that do not touch. */
  #parallel(): void {
    const { disk, machine, random } = this.#parts;
    const stride = Math.floor(disk.sectors / PARALLEL);
    const blocks = Math.min(8, stride);
    const size = blocks * disk.blockSize;
    const memory = machine.dma.alloc(PARALLEL * size, 4096, 0xffff_ffff);
    const before = this.#parts.file();
    const written = new Map<number, Uint8Array>();
    let done = 0;
    let failed = 0;
    for (let i = 0; i < PARALLEL; i++) {
      const lba = i * stride;
      const data = frameSegments(2);
      data.count = 2;
      data.paddr[0] = memory + i * size;
      data.len[0] = disk.blockSize;
      data.paddr[1] = memory + i * size + disk.blockSize;
      data.len[1] = size - disk.blockSize;
      const write = random.chance(0.5);
      if (write) {
        const bytes = Uint8Array.from({ length: size }, () => random.next() & 0xff);
        written.set(lba, bytes);
        machine.dma.copyIn(memory + i * size, bytes, 0, size);
      }
      const bio: Bio = {
        command: write ? "write" : "read",
        lba,
        count: blocks,
        data,
        done: (_bio, error) => {
          done++;
          if (error !== 0) failed = error;
        },
      };
      until(
        () => this.#submit(bio),
        () => machine.delay(TURN_US),
        WAIT_MS,
        () => `request ${i} found no room`,
      );
    }
    disk.kick();
    until(
      () => done === PARALLEL,
      () => machine.delay(TURN_US),
      WAIT_MS,
      () => `${done} of ${PARALLEL} requests were answered`,
    );
    equal("error", failed, 0);
    disk.flush();
    const after = this.#parts.file();
    for (let i = 0; i < PARALLEL; i++) {
      const lba = i * stride;
      const bytes = new Uint8Array(size);
      machine.dma.copyOut(memory + i * size, bytes, 0, size);
      this.#compare(bytes, written.has(lba) ? after : before, lba);
    }
    machine.dma.free(memory, PARALLEL * size);
  }

  #submit(bio: Bio): boolean {
    const { disk } = this.#parts;
    const error = disk.submit(bio);
    if (error === ENOSPC) disk.kick();
    else if (error !== 0) throw new CheckFailure(`a request was refused (errno ${error})`);
    return error === 0;
  }

  #beyond(): void {
    const { disk } = this.#parts;
    try {
      disk.read(disk.sectors, 1);
    } catch {
      return;
    }
    throw new CheckFailure("a block beyond the end was read");
  }

  /** The first and the last block, long and short runs between them. */
  #places(): readonly (readonly [lba: number, count: number])[] {
    const { disk, random } = this.#parts;
    const longest = Math.floor(LONGEST / disk.blockSize);
    const some = Array.from({ length: 6 }, () => {
      const count = 1 + random.below(longest);
      return [random.below(disk.sectors - count), count] as const;
    });
    return [[0, 1], [disk.sectors - 1, 1], [3, Math.min(129, longest)], ...some];
  }

  #compare(bytes: Uint8Array, file: Uint8Array, lba: number): void {
    const at = lba * this.#parts.disk.blockSize;
    if (Buffer.compare(bytes, file.subarray(at, at + bytes.length)) !== 0)
      throw new CheckFailure(`blocks from ${lba} on, ${bytes.length} bytes, are not the file's`);
    this.bytesRead += bytes.length;
  }
}

const equal = (what: string, got: number | string, want: number | string): void => {
  if (got !== want) throw new CheckFailure(`${what}: ${got} in place of ${want}`);
};
