import type { V86 } from "v86";

/** What is used here of v86's CPU object; the adapter checks at attach that these names are there. */
interface Cpu {
  readonly wasm_memory: { readonly buffer: ArrayBuffer };
  readonly mem8: { readonly byteOffset: number };
  readonly memory_size: { readonly [index: number]: number };
  reboot_internal(): void;
  jit_dirty_cache(start: number, end: number): void;
}

const PAGE = 0x1000;
/** what a reset gives back by itself: VGA memory, option ROMs and the BIOS */
const ROM_START = 0xa_0000;
const ROM_END = 0x10_0000;

/**
 * Has kernel and initramfs in RAM again after each reset, as firmware that loads them from a disk would.
 *
 * v86 puts what `bzimage` and `initrd` name into RAM once, when it is made. Linux unpacks itself over it, so that after a
 * reboot, with cards or without, the option ROM jumps into what is left and v86 ends with "Unimplemented: #GP handler".
 * Call it between `emulator-loaded` and the first instruction or `restore_state`, while nothing else is in RAM.
 */
export function reloadOnReset(emulator: V86): void {
  const { cpu } = (emulator as unknown as { v86: { cpu: Cpu } }).v86;
  const ram = (): Uint8Array => new Uint8Array(cpu.wasm_memory.buffer, cpu.mem8.byteOffset, cpu.memory_size[0]);
  const loaded: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  const bytes = ram();
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let at = 0; at < bytes.length; at += PAGE) {
    if (at >= ROM_START && at < ROM_END) continue;
    if (words.subarray(at / 4, (at + PAGE) / 4).some((word) => word !== 0))
      loaded.push({ at, bytes: bytes.slice(at, at + PAGE) });
  }
  const reboot = cpu.reboot_internal;
  cpu.reboot_internal = () => {
    const target = ram();
    for (const page of loaded) {
      target.set(page.bytes, page.at);
      cpu.jit_dirty_cache(page.at, page.at + PAGE);
    }
    reboot.call(cpu);
  };
}
