import type { AccessWidth } from "../../contract/index.js";
import type { RecordingGuest } from "./guest.js";

const BRIDGE = 5 << 3;
const SECONDARY = 1;
const CARD = (SECONDARY << 8) | (2 << 3);
const MEMORY = 0xe010_0000;
const IO = 0xd000;
/** what the RTL8139's address begins with, at its first register */
const MSR = 0x58;

/** Configures a bridge as firmware does, reaches the card behind it, and shuts its windows one by one. */
export const bridge = (guest: RecordingGuest): void => {
  const read = (offset: number, width: AccessWidth, bdf = BRIDGE): number => guest.configRead(bdf, offset, width);
  const write = (offset: number, width: AccessWidth, value: number, bdf = BRIDGE): void =>
    guest.configWrite(bdf, offset, width, value);
  guest.note("type 1 header after reset");
  for (let at = 0; at < 0x40; at += 4) read(at, 4);
  guest.note("what sticks in the windows and in bridge control");
  for (const [at, width] of [
    [0x1c, 2],
    [0x20, 4],
    [0x24, 4],
    [0x28, 4],
    [0x2c, 4],
    [0x30, 4],
  ] as const) {
    write(at, width, 0xffff_ffff);
    read(at, width);
    write(at, width, 0);
    read(at, width);
  }
  guest.note("no bus number yet: nobody behind");
  read(0, 4, CARD);
  guest.note("bus 1 behind the bridge");
  write(0x18, 4, 0x0001_0100);
  read(0x18, 4);
  read(0, 4, CARD);
  read(0, 4, CARD + 8);
  read(0x2c, 4, CARD);
  guest.note("windows: I/O D000h–DFFFh, memory E0100000h–E01FFFFFh; the card in them");
  write(0x1c, 2, 0xd0d0);
  write(0x20, 4, 0xe010_e010);
  write(0x24, 4, 0x0000_fff0);
  write(0x04, 2, 0x0007);
  read(0x1c, 2);
  read(0x20, 4);
  read(0x24, 4);
  read(0x04, 2);
  write(0x10, 4, IO, CARD);
  write(0x14, 4, MEMORY, CARD);
  write(0x04, 2, 0x0007, CARD);
  read(0x10, 4, CARD);
  read(0x14, 4, CARD);
  const look = (): void => {
    guest.in(4, IO);
    guest.in(1, IO + MSR);
    guest.read(4, MEMORY);
  };
  look();
  guest.note("I/O decoding of the bridge off, then memory");
  write(0x04, 2, 0x0006);
  look();
  write(0x04, 2, 0x0005);
  look();
  write(0x04, 2, 0x0007);
  look();
  guest.note("the memory window elsewhere: the card is out of reach, and back");
  write(0x20, 4, 0xe030_e030);
  guest.read(4, MEMORY);
  write(0x20, 4, 0xe010_e010);
  guest.read(4, MEMORY);
  guest.note("the windows shut: base above limit");
  write(0x1c, 2, 0xc0d0);
  guest.in(4, IO);
  write(0x1c, 2, 0xd0d0);
  guest.in(4, IO);
  guest.note("an interrupt from behind: INTA# of device 2 behind slot 5 is INTC# there");
  guest.out(2, IO + 0x3c, 0x4000);
  guest.out(4, IO + 0x54, 0x1000);
  guest.out(4, IO + 0x48, 0);
  guest.clockStep(1_000_000);
  guest.in(2, IO + 0x3e);
  read(0x06, 2, CARD);
  guest.out(4, IO + 0x54, 0);
  guest.out(2, IO + 0x3e, 0xffff);
  guest.in(2, IO + 0x3e);
  guest.note("secondary bus reset: the card forgets, the bridge does not");
  write(0x3e, 2, 0x0040);
  read(0x3e, 2);
  write(0x3e, 2, 0);
  guest.settle();
  read(0x04, 2, CARD);
  read(0x10, 4, CARD);
  read(0x18, 4);
  read(0x20, 4);
};
