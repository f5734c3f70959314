import type { BarHandler, FunctionSeams, Model, SavedState } from "../contract/index.js";
import { type FunctionDeclaration, PciFunction } from "../pci/index.js";

/** A model for tests: sixteen registers of a byte, and its seams in the open. */
export class TestModel implements Model, BarHandler {
  readonly bytes = new Uint8Array(16);
  seams: FunctionSeams | null = null;

  connect(seams: FunctionSeams): void {
    this.seams = seams;
  }
  disconnect(): void {
    this.seams = null;
  }
  reset(): void {
    this.bytes.fill(0);
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
  }
}

/** 10ec:8169 on INTA, with an I/O BAR of sixteen byte registers and a memory BAR of the same. */
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
}
