import { VIRTIO_BLK_ID_BYTES } from "../../spec/virtio-blk.js";
import { type DmaMemory, DriverError } from "../types.js";
import { frameSegments } from "./ifnet.js";
import { ENOSPC, VQ_OK } from "./virtqueue.js";
import { type Bio, DISK_ERRNO, type Disk, EROFS } from "./vtblk-disk.js";

/** bytes of the buffer through which `read` and `write` go, unless a block is longer */
export const BOUNCE = 0x1_0000;
/** A call is given 10 s. */
const WAIT_POLLS = 10_000;
const WAIT_POLL_US = 1000;

/** A disk as blocking calls see it. */
interface Requests extends Pick<Disk, "name" | "sectors" | "blockSize" | "maxBlocks" | "submit" | "kick"> {
  /** Queues a request for the device's name for itself; `data` are VIRTIO_BLK_ID_BYTES. @returns as `submit` */
  submitIdent(bio: Bio): number;
  /** Tells of what the device has answered. */
  reap(): void;
  /** A request was not answered in time: resets the device. */
  unanswered(what: string): void;
  delay(us: number): void;
}

/** The calls of a disk that wait: requests through a buffer of their own, one after the other. */
export class DiskCalls {
  readonly #disk: Requests;
  readonly #bounce: DmaMemory;
  readonly #blocks: number; // that fit
  #busy = false;

  /** @param bounce at least a block */
  constructor(disk: Requests, bounce: DmaMemory) {
    this.#disk = disk;
    this.#bounce = bounce;
    this.#blocks = Math.min(disk.maxBlocks, Math.floor(bounce.size / disk.blockSize));
  }

  /** @see Disk.read */
  read(lba: number, count: number): Uint8Array {
    const { blockSize } = this.#disk;
    const bytes = new Uint8Array(this.#check(lba, count) * blockSize);
    for (let done = 0; done < count; ) {
      const part = Math.min(count - done, this.#blocks);
      this.#alone("read", () => {
        this.#transfer("read", lba + done, part);
        this.#bounce.copyOut(0, bytes, done * blockSize, part * blockSize);
      });
      done += part;
    }
    return bytes;
  }

  /** @see Disk.write */
  write(lba: number, bytes: Uint8Array): void {
    const { blockSize } = this.#disk;
    const count = this.#check(lba, bytes.length / blockSize);
    for (let done = 0; done < count; ) {
      const part = Math.min(count - done, this.#blocks);
      this.#alone("write", () => {
        this.#bounce.copyIn(0, bytes, done * blockSize, part * blockSize);
        this.#transfer("write", lba + done, part);
      });
      done += part;
    }
  }

  /** @see Disk.flush */
  flush(): void {
    this.#wait("flush", (done) => this.#disk.submit({ command: "flush", lba: 0, count: 0, data: null, done }));
  }

  /** @see Disk.ident */
  ident(): string {
    return this.#alone("ident", () => {
      const bounce = this.#bounce;
      // A device that writes less than it should leaves NULs.
      bounce.copyIn(0, new Uint8Array(VIRTIO_BLK_ID_BYTES), 0, VIRTIO_BLK_ID_BYTES);
      bounce.sync(0, VIRTIO_BLK_ID_BYTES, "prewrite");
      const data = this.#data(VIRTIO_BLK_ID_BYTES);
      const error = this.#answer("ident", (done) =>
        this.#disk.submitIdent({ command: "read", lba: 0, count: 0, data, done }),
      );
      if (error !== VQ_OK) return "";
      const bytes = new Uint8Array(VIRTIO_BLK_ID_BYTES);
      bounce.copyOut(0, bytes, 0, VIRTIO_BLK_ID_BYTES);
      const end = bytes.indexOf(0);
      return Array.from(end < 0 ? bytes : bytes.subarray(0, end), (byte) =>
        byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "?",
      ).join("");
    });
  }

  /** @returns `count`; @throws DriverError EINVAL */
  #check(lba: number, count: number): number {
    const { name, sectors } = this.#disk;
    const whole = Number.isSafeInteger(lba) && Number.isSafeInteger(count) && lba >= 0 && count >= 0;
    if (!whole || lba + count > sectors)
      throw new DriverError("EINVAL", `${name}: blocks ${lba}+${count} of ${sectors}`);
    return count;
  }

  /** The start of the buffer as one piece. */
  #data(bytes: number): NonNullable<Bio["data"]> {
    const data = frameSegments(1);
    data.count = 1;
    data.paddr[0] = this.#bounce.paddr;
    data.len[0] = bytes;
    return data;
  }

  #transfer(command: "read" | "write", lba: number, count: number): void {
    const data = this.#data(count * this.#disk.blockSize);
    this.#wait(command, (done) => this.#disk.submit({ command, lba, count, data, done }));
  }

  #alone<T>(what: string, run: () => T): T {
    if (this.#busy) throw new DriverError("EBUSY", `${this.#disk.name}: ${what} within another blocking call`);
    this.#busy = true;
    try {
      return run();
    } finally {
      this.#busy = false;
    }
  }

  /** A request that must be well answered. */
  #wait(what: string, submit: (done: Bio["done"]) => number): void {
    const error = this.#answer(what, submit);
    if (error === VQ_OK) return;
    const code = DISK_ERRNO[error] ?? "EIO";
    throw new DriverError(code, `${this.#disk.name}: ${what} ${error === EROFS ? "to a read-only disk" : "failed"}`);
  }

  /** Submits and waits, at most ten seconds. @returns its result; @throws DriverError ETIMEDOUT, after a reset of the device */
  #answer(what: string, submit: (done: Bio["done"]) => number): number {
    let result = -1;
    const done = (_bio: Bio, error: number): void => {
      result = error;
    };
    let polls = 0;
    for (let taken = submit(done); taken !== VQ_OK; taken = submit(done)) {
      if (taken !== ENOSPC) return taken;
      this.#poll(what, polls++); // the queue is full of others' requests
    }
    this.#disk.kick();
    this.#disk.reap();
    while (result < 0) this.#poll(what, polls++);
    return result;
  }

  #poll(what: string, polls: number): void {
    const disk = this.#disk;
    if (polls === WAIT_POLLS) {
      disk.unanswered(what);
      throw new DriverError("ETIMEDOUT", `${disk.name}: ${what} was not answered`);
    }
    disk.delay(WAIT_POLL_US);
    disk.reap(); // an interrupt may be lost, or not come because we are inside a handler
  }
}
