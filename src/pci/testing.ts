import { WindowedMemory } from "../bytes/index.js";
import type {
  BarHandler,
  Diagnostic,
  FunctionSeams,
  HostSeams,
  Model,
  QueueRunner,
  ResetKind,
  SavedState,
} from "../contract/index.js";
import type { FunctionDeclaration } from "./declaration.js";
import { PciFunction } from "./function.js";

/** A host for tests: 64 KiB of RAM from 0, and a record of what a function tells it. */
export class RecordingHost implements HostSeams {
  readonly written: [start: number, end: number][] = [];
  readonly ram = new Uint8Array(0x1_0000);
  readonly memory = new WindowedMemory([{ base: 0, bytes: this.ram }], (start, end) => this.written.push([start, end]));
  /** `up`, `down`, `v0 fee00000 41` */
  readonly told: string[] = [];
  readonly diagnostics: Diagnostic[] = [];
  readonly strictness = "strict";
  readonly requested: number[] = [];
  runner: QueueRunner | null = null;
  cleared = 0;

  readonly interrupts = {
    setIntx: (level: boolean) => void this.told.push(level ? "up" : "down"),
    message: (vector: number, address: number, data: number) =>
      void this.told.push(`v${vector} ${address.toString(16)} ${data.toString(16)}`),
  };
  readonly clock = {
    now: () => 0,
    timer: () => ({ deadline: 0, arm: () => {}, cancel: () => {}, [Symbol.dispose]: () => {} }),
  };
  readonly work = {
    bind: (runner: QueueRunner) => {
      this.runner = runner;
    },
    request: (queue: number) => void this.requested.push(queue),
    runNow: (queue: number) => void this.runner?.runQueue(queue, 1),
    clear: () => {
      this.cleared++;
    },
  };
  readonly report = (diagnostic: Diagnostic) => void this.diagnostics.push(diagnostic);

  /** What was told since the last call. */
  take(): string[] {
    return this.told.splice(0);
  }
}

/** A model for tests: sixteen registers of a byte, and its seams in the open. */
export class TestModel implements Model, BarHandler {
  readonly bytes = new Uint8Array(16);
  readonly resets: ResetKind[] = [];
  seams: FunctionSeams | null = null;
  onWrite: (offset: number) => void = () => {};
  onReset: () => void = () => {};

  connect(seams: FunctionSeams): void {
    this.seams = seams;
  }
  disconnect(): void {
    this.seams = null;
  }
  reset(kind: ResetKind): void {
    this.resets.push(kind);
    this.bytes.fill(0);
    this.onReset();
  }
  save(): SavedState {
    return { version: 1, bytes: this.bytes.slice() };
  }
  load(state: SavedState): void {
    const { bytes } = state;
    if (!(bytes instanceof Uint8Array) || bytes.length !== 16) throw new RangeError("bytes");
    this.bytes.set(bytes);
  }
  read(offset: number): number {
    return this.bytes[offset]!;
  }
  write(offset: number, _width: number, value: number): void {
    this.bytes[offset] = value;
    this.onWrite(offset);
  }
}

/** A function with an I/O BAR of sixteen byte registers and a memory BAR of the same. */
export class TestFunction extends PciFunction {
  readonly model: TestModel;

  constructor(more: Partial<FunctionDeclaration> = {}, model: TestModel = new TestModel()) {
    super({
      name: "test-card",
      identity: { vendorId: 0x10ec, deviceId: 0x8169, revisionId: 0x10, classCode: 0x020000 },
      interruptPin: "INTA",
      bars: {
        0: { kind: "io", size: 16, accepts: [1], handler: model },
        1: { kind: "mem32", size: 16, accepts: [1], handler: model },
      },
      model,
      ...more,
    });
    this.model = model;
  }

  master(on: boolean): void {
    this.forceBusMaster(on);
  }
  own(bar: number, offset: number): number {
    return this.ownBarRead(bar, offset, 1);
  }
}
