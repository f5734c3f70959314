import type { V86, V86Options } from "v86";
import { ConfigError } from "../../bytes/index.js";
import { attachV86, type V86Attachment } from "./index.js";
import { bios, CODE, IO, MAILBOX, MEMORY, out8, out32, RESULT_END, RESULTS, RET, TestSlot } from "./testing.js";
import { reachCpu, type V86Cpu } from "./v86.js";

// For tests that run in v86 itself, as npm delivers it: a copy of v86 made for tests would prove what we believe of it.

/** What a test with v86 has, given its class and the place of its WebAssembly: neither may be imported here. */
export function rigs(Emulator: new (options: V86Options) => V86, wasmPath: string) {
  const create = (options: Partial<V86Options> = {}): V86 =>
    new Emulator({
      wasm_path: wasmPath,
      bios: { buffer: bios() },
      memory_size: 4 << 20,
      autostart: false,
      net_device: { type: "none" as never }, // any name that v86 does not know means no card
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true,
      ...options,
    });

  /** A machine whose guest waits for what `run` gives it. */
  const boot = async (options: Partial<V86Options> = {}): Promise<V86> => {
    const emulator = create(options);
    await new Promise<void>((resolve) => emulator.add_listener("emulator-loaded", () => resolve()));
    // As a BIOS that sizes BARs leaves the four of the IDE controller that are none; else v86 cannot restore a state.
    reachCpu(emulator).devices.pci.device_spaces[30 << 3]?.fill(0, 4, 8);
    return emulator;
  };

  /** The same with one card of ours in slot 15, its BARs where SeaBIOS would put them. */
  const rig = async (): Promise<{ emulator: V86; cpu: V86Cpu; card: TestSlot; attachment: V86Attachment }> => {
    const emulator = await boot();
    const card = new TestSlot();
    const attachment = attachV86(emulator, { cards: [{ slot: SLOT, card }] });
    card.move(IO, PORTS);
    card.move(MEMORY, WINDOW);
    return { emulator, cpu: reachCpu(emulator), card, attachment };
  };

  return { create, boot, rig };
}

/** `setTimeout` is no name of the language, but browsers, workers and Node all have it. */
const { setTimeout } = globalThis as unknown as { setTimeout(act: () => void, ms: number): void };
export const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

export const ram = (cpu: V86Cpu): DataView =>
  new DataView(cpu.wasm_memory.buffer, cpu.mem8.byteOffset, cpu.memory_size[0]);

/** Lets the guest carry out `code`. @returns what it read, one number per reading instruction */
export async function run(emulator: V86, code: number[]): Promise<number[]> {
  const cpu = reachCpu(emulator);
  let view = ram(cpu);
  for (const [i, byte] of [...code, RET].entries()) view.setUint8(CODE + i, byte);
  cpu.jit_dirty_cache(CODE, CODE + code.length + 1);
  view.setUint32(MAILBOX, CODE, true);
  await emulator.run();
  for (let turns = 0; ram(cpu).getUint32(MAILBOX, true) !== 0; turns++) {
    if (turns > 5000) throw new Error("the guest does not come back");
    await turn();
  }
  await emulator.stop();
  view = ram(cpu);
  const results = [];
  for (let at = RESULTS; at < view.getUint32(RESULT_END, true); at += 4) results.push(view.getUint32(at, true));
  return results;
}

export const SLOT = 15;
export const PORTS = 0xc000;
export const WINDOW = 0xfebf_0000; // negative as v86 hands it over
export const CF8 = 0xcf8;
export const CFC = 0xcfc;
export const OURS = 0x8000_0000 + (SLOT << 11);
export const HOST_BRIDGE = 0x8000_0000;
export const ISA_BRIDGE = 0x8000_0800;
export const NOBODY = 0x8000_0000 + (20 << 11);

export const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof ConfigError) return error.code;
    throw error;
  }
  return "no error";
};

/** Byte of the record of v86's second interrupt controller that holds the requests of 8 … 15. */
export const requested = (cpu: V86Cpu): number =>
  new Uint8Array(cpu.wasm_memory.buffer, cpu.get_pic_addr_slave(), 13)[3]!;
export const IRQ11 = 1 << 3;

/** Interrupt 11 for the card, level triggered, as SeaBIOS does it. */
export const routeTo11 = (): number[] => [
  ...out32(CF8, ISA_BRIDGE + 0x60),
  ...out8(CFC + ((SLOT - 1) & 3), 11),
  ...out8(0x4d1, 0x0c),
];
