import {
  ConfigError,
  crc32View,
  Door,
  ETHER_HDR_LEN,
  ETHER_MIN_LEN,
  StateError,
  StateReader,
} from "../../src/bytes/index.js";
import type {
  AccessWidth,
  BarHandler,
  Clock,
  EndpointLimits,
  FunctionSeams,
  Model,
  NetEndpoint,
  NetPort,
  NicCounters,
  Offload,
  QueueRunner,
  ResetKind,
  SavedState,
  Timer,
  Verdict,
} from "../../src/contract/index.js";
import { bits, field, RegisterFile, type RegisterMap } from "../../src/regs/index.js";
import {
  EEM_AUTOLOAD,
  EEM_CONFIG_WRITE,
  EEM_NORMAL,
  EEM_PROGRAM,
  EEPROM_SIGNATURE,
  EEPROM_TYPES,
  EEPROM_WORDS,
  PCI_CLOCK_NS,
  PCICLKF_33,
  PCICLKF_66,
  RTL8169,
  RTL8169_RX_STATUS,
  RTL8169_TALLY_SIZE,
  type Rtl8169Chip,
} from "../../src/spec/rtl8169.js";
import { RINGS_8169 } from "./descriptor.js";
import { Eeprom, type EepromContents } from "./eeprom.js";
import { AddressFilter, NOT_FOR_US } from "./filter.js";
import type { CheckedOptions, ChipName } from "./options.js";
import { Phy } from "./phy.js";
import { type RxCard, RxRing } from "./rx-ring.js";
import {
  TALLY_MISS_PKT,
  TALLY_RX_ERR,
  TALLY_RX_OK,
  TALLY_RX_OK_BRD,
  TALLY_RX_OK_MUL,
  TALLY_RX_OK_PHY,
  TALLY_TX_ABT,
  TALLY_TX_ERR,
  TALLY_TX_OK,
  Tally,
} from "./tally.js";
import { type TxCard, TxRing } from "./tx-ring.js";

/** One member of the family: a row of data and its register map. */
export interface Variant {
  readonly key: ChipName;
  readonly chip: Rtl8169Chip;
  readonly registers: RegisterMap<keyof typeof RTL8169.regs>;
}

/** Queues as the host's Work numbers them. */
export const TX_QUEUE = 0;
export const TX_HIGH_QUEUE = 1;
export const RX_QUEUE = 2;

const STATE_VERSION = 2;

// A variant spreads the 8169's declarations and replaces values only, so that hooks keep their bits.
const { regs: R, hooks: H } = RTL8169;
const BLOCK_SIZE = RTL8169.size;
const IDR_LEN = 6;

const CR_RST = bits(R.CR.fields.RST!);
const CR_RE = bits(R.CR.fields.RE!);
const CR_TE = bits(R.CR.fields.TE!);
const HPQ = bits(R.TPPoll.fields.HPQ!);
const NPQ = bits(R.TPPoll.fields.NPQ!);
const FSWINT = bits(R.TPPoll.fields.FSWInt!);
const TCR_LBK = bits(R.TCR.fields.LBK!);
const TCR_NOCRC = bits(R.TCR.fields.NoCRC!);
const RCR_9356SEL = bits(R.RCR.fields["9356SEL"]!);
const RMS_LIMIT = bits(R.RMS.fields.RMS!);
const DTCCR_CMD = bits(R.DTCCR_L.fields.Cmd!);
const MPC_COUNT = bits(R.MPC.fields.Count!);
const PHYAR_FLAG = bits(R.PHYAR.fields.Flag!);
const { EEM, EECS, EESK, EEDI } = R.Cr9346.fields as {
  readonly [N in "EEM" | "EECS" | "EESK" | "EEDI"]: [number, number];
};
const WIRES_HELD = bits(EEM) | bits(EECS) | bits(EESK) | bits(EEDI);

const ISR_ROK = bits(R.ISR.fields.ROK!);
const ISR_RER = bits(R.ISR.fields.RER!);
const ISR_RDU = bits(R.ISR.fields.RDU!);
const ISR_LINKCHG = bits(R.ISR.fields.LinkChg!);
const ISR_FOVW = bits(R.ISR.fields.FOVW!);
const ISR_SWINT = bits(R.ISR.fields.SWInt!);
const ISR_TIMEOUT = bits(R.ISR.fields.TimeOut!);
const ISR_SERR = bits(R.ISR.fields.SERR!);

const RX_MAR = bits(RTL8169_RX_STATUS.MAR);
const RX_PAM = bits(RTL8169_RX_STATUS.PAM);
const RX_BAR = bits(RTL8169_RX_STATUS.BAR);
const RX_TOO_LONG = bits(RTL8169_RX_STATUS.RWT) | bits(RTL8169_RX_STATUS.RES);
/** Frames above this are flagged RWT whatever RMS says; Observed: the BSDs take them all the same. */
const RWT_LIMIT = 8191;
const FCS_LEN = 4;
/** CRC-32 over a frame and its own FCS. */
const CRC32_RESIDUE = 0x2144_df1c;
const VLAN_TAG_LEN = 4;

/** A PHY access with real timing: 64 bits at 2.5 MHz. IEEE 802.3 §22.2.2.11, §22.3.4 */
const PHYAR_NS = 25_600;
/** Programming a word of the EEPROM with real timing; data sheets of the 93C46 say 1 to 3 ms. */
const PROGRAM_NS = 1_000_000;
/** How often a card looks by itself whether what it waits for has come. */
const RETRY_NS = 500_000;

// Indices of the counters.
const TX_FRAMES = 0;
const TX_BYTES = 1;
const RX_FRAMES = 2;
const RX_BYTES = 3;
const RX_NO_BUFFER = 4;
const RX_FILTERED = 5;
const TX_DROPPED = 6;
const DESCRIPTORS_READ = 7;
const BYTES_COPIED = 8;
const DOORBELLS = 9;
const INTERRUPTS = 10;
const COUNTERS = 11;

/** What CR.RST leaves alone: IDR, MAR and the configuration registers, which come from the EEPROM and the driver once. */
const survivesReset = (at: number): boolean =>
  at < IDR_LEN || (at >= R.MAR0.at && at < R.MAR4.at + 4) || (at >= R.CONFIG0.at && at <= R.CONFIG5.at);

/** Per byte: bits that the chip sets itself and that the map shows as read-only. */
const OWN_BITS = new Uint8Array(BLOCK_SIZE);
OWN_BITS.fill(0xff, R.TCTR.at, R.TCTR.at + 4);
OWN_BITS.fill(0xff, R.MPC.at, R.MPC.at + 3);
OWN_BITS[R.RCR.at] = RCR_9356SEL;
OWN_BITS[R.Cr9346.at] = bits(R.Cr9346.fields.EEDO!);
OWN_BITS[R.PHYStatus.at] = 0x7f;

const IDLE_CLOCK: Clock = {
  now: () => 0,
  timer: () => ({ deadline: Number.POSITIVE_INFINITY, arm: () => {}, cancel: () => {}, [Symbol.dispose]: () => {} }),
};

/** What stands in for a host while the card is not plugged in. */
const UNPLUGGED: FunctionSeams = {
  dma: new Door(),
  interrupts: { setIntx: () => {}, signal: () => {} },
  clock: IDLE_CLOCK,
  work: { bind: () => {}, request: () => {}, runNow: () => {}, clear: () => {} },
  report: () => {},
  strictness: "lenient",
};

/**
 * The registers of an RTL8169 and what hangs on them: rings, address filter, PHY, EEPROM, timer, tally.
 * It is the handler of both BARs, the model behind the function and the card's end of the cable.
 */
export class Rtl8169Model implements BarHandler, Model, QueueRunner, NetPort, TxCard, RxCard {
  // fixed configuration
  readonly #variant: Variant;
  readonly #options: CheckedOptions;
  readonly #limits: EndpointLimits;
  /** what CONFIG2 shows of the PCI clock, and its length */
  readonly #pciClkF: number;
  readonly #clockNs: number;
  // wiring
  #seams: FunctionSeams = UNPLUGGED;
  #far: NetEndpoint | null = null;
  #timeout: Timer = IDLE_CLOCK.timer(() => {});
  #retry: Timer = this.#timeout;
  // volatile state
  readonly #regs: RegisterFile;
  readonly #filter = new AddressFilter();
  readonly #tx = new TxRing(this, RINGS_8169);
  readonly #txHigh = new TxRing(this, RINGS_8169);
  readonly #rx = new RxRing(this, RINGS_8169);
  readonly #phy: Phy;
  readonly #eeprom: Eeprom;
  readonly #tally = new Tally();
  readonly #counters = new Float64Array(COUNTERS);
  /** CR as it was before the present write: RE and TE act on their edges */
  #cr = 0;
  /** time at which TCTR was 0 */
  #tctrZero = 0;
  /** time at which PHYAR's Flag turns */
  #phyDone = 0;
  /** what PHYAR reads then */
  #phyResult = 0;
  /** length of the frame for which the far end was told `later`; 0: none */
  #held = 0;
  #level = false;
  // derived from registers, PHY and wiring by #derive
  #listening = false;
  #looped = false;
  #noCrc = false;
  /** longest frame that is not flagged, FCS included */
  #longest = RWT_LIMIT;
  // only while a queue runs
  #running = false;
  #offered = false;

  /** @param contents what the EEPROM holds when the card leaves the factory */
  constructor(variant: Variant, options: CheckedOptions, contents: EepromContents) {
    this.#variant = variant;
    this.#options = options;
    this.#limits = {
      csum: false,
      tso4: false,
      tso6: false,
      uso: false,
      longestFrame: options.mtu + ETHER_HDR_LEN + VLAN_TAG_LEN,
      holds: true,
    };
    this.#pciClkF = options.pciClock === 66 ? PCICLKF_66 : PCICLKF_33;
    this.#clockNs = PCI_CLOCK_NS / (options.pciClock === 66 ? 2 : 1);
    this.#regs = new RegisterFile(variant.registers);
    this.#phy = new Phy(variant.chip.phy, options.link, () => this.#linkChanged());
    this.#eeprom = new Eeprom(options.eeprom, contents);
    this.reset("power-on");
  }

  get cable(): boolean {
    return this.#phy.cable;
  }

  /** Plugs the cable in or pulls it. */
  setCable(plugged: boolean): void {
    this.#phy.setCable(plugged);
  }

  counters(): NicCounters {
    const at = (i: number): number => this.#counters[i]!;
    return {
      txFrames: at(TX_FRAMES),
      txBytes: at(TX_BYTES),
      rxFrames: at(RX_FRAMES),
      rxBytes: at(RX_BYTES),
      rxNoBuffer: at(RX_NO_BUFFER),
      rxFiltered: at(RX_FILTERED),
      txDropped: at(TX_DROPPED),
      descriptorsRead: at(DESCRIPTORS_READ),
      bytesCopied: at(BYTES_COPIED),
      doorbells: at(DOORBELLS),
      interrupts: at(INTERRUPTS),
    };
  }

  // ---------------------------------------------------------------------------------------------- life

  connect(seams: FunctionSeams): void {
    this.#seams = seams;
    seams.work.bind(this);
    this.#timeout = seams.clock.timer(() => this.#timedOut());
    this.#retry = seams.clock.timer(() => this.#lookAgain());
    const { fcs } = this.#options;
    this.#rx.setFcs(fcs === "computed" || (fcs === "by-strictness" && seams.strictness === "strict"));
    this.#phy.connect(seams.clock);
    this.reset("power-on");
  }

  disconnect(): void {
    this.#phy.disconnect();
    this.#timeout[Symbol.dispose]();
    this.#retry[Symbol.dispose]();
    this.#seams = UNPLUGGED;
    this.#timeout = this.#retry = IDLE_CLOCK.timer(() => {});
    this.reset("power-on");
    this.#releaseHeld();
  }

  reset(kind: ResetKind): void {
    if (kind !== "function") this.#powerOn();
    this.#softReset();
  }

  #powerOn(): void {
    this.#phy.powerOn();
    this.#tally.clear();
    this.#regs.reset();
    this.#regs.set(R.CONFIG2.at, 1, R.CONFIG2.reset | this.#pciClkF);
    this.#autoload();
  }

  /** CR.RST: what is not the driver's lasting configuration goes back; PHY and tally counters are not touched. */
  #softReset(): void {
    const regs = this.#regs;
    regs.reset(survivesReset);
    regs.set(R.RCR.at, 4, EEPROM_TYPES[this.#eeprom.type].select9356 * RCR_9356SEL);
    regs.set(R.PHYStatus.at, 1, this.#phy.status);
    this.#cr = 0;
    this.#phyDone = 0;
    this.#eeprom.wires(0, 0, 0, this.#now, this.#programNs);
    this.#lock(true);
    this.#tx.rebase(0, 0);
    this.#txHigh.rebase(0, 0);
    this.#rx.rebase(0, 0);
    this.#tctrZero = this.#now;
    this.#timeout.cancel();
    this.#seams.work.clear();
    this.#derive();
    this.#updateIrq();
    if (this.#held > 0) this.#seams.work.request(RX_QUEUE); // the far end may stop holding its frame
  }

  // ---------------------------------------------------------------------------------------------- registers

  read(offset: number, width: AccessWidth): number {
    // Between TCTR and PHYAR stand the registers that change by themselves.
    if (offset + width > R.TCTR.at && offset < R.PHYAR.at + 4) this.#refresh();
    return this.#regs.guestRead(offset, width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const touched = this.#regs.guestWrite(offset, width, value);
    if ((touched & H.TPPoll) !== 0) this.#poll();
    if ((touched & (H.ISR | H.IMR)) !== 0) {
      this.#updateIrq();
      if (this.#held > 0) this.#seams.work.request(RX_QUEUE);
    }
    if ((touched & ~(H.TPPoll | H.ISR | H.IMR)) !== 0) this.#configure(touched, offset, width);
    if (offset < R.CONFIG5.at && (offset < IDR_LEN || offset + width > R.CONFIG0.at) && this.#locked)
      this.#seams.report("config-locked", offset);
  }

  /** Registers that drivers write when they set a card up, not per packet. */
  #configure(touched: number, offset: number, width: AccessWidth): void {
    const regs = this.#regs;
    if ((touched & H.Cr9346) !== 0) this.#writeCr9346();
    if ((touched & H.CR) !== 0) this.#writeCr();
    if ((touched & (H.TNPDS_L | H.TNPDS_H)) !== 0)
      this.#tx.rebase(regs.get(R.TNPDS_L.at, 4), regs.get(R.TNPDS_H.at, 4));
    if ((touched & (H.THPDS_L | H.THPDS_H)) !== 0)
      this.#txHigh.rebase(regs.get(R.THPDS_L.at, 4), regs.get(R.THPDS_H.at, 4));
    if ((touched & (H.RDSAR_L | H.RDSAR_H)) !== 0)
      this.#rx.rebase(regs.get(R.RDSAR_L.at, 4), regs.get(R.RDSAR_H.at, 4));
    if ((touched & (H.IDR0 | H.IDR4 | H.MAR0 | H.MAR4 | H.RCR | H.TCR | H.RMS)) !== 0) this.#derive();
    if ((touched & H.MPC) !== 0) regs.set(R.MPC.at, 4, 0);
    if ((touched & H.TCTR) !== 0) this.#tctrZero = this.#now;
    if ((touched & (H.TCTR | H.TimerInt)) !== 0) this.#armTimeout();
    if ((touched & H.DTCCR_L) !== 0) this.#dumpTally();
    // A host that splits the dword writes the low half first: the byte with Flag is the one that starts the access.
    if ((touched & H.PHYAR) !== 0 && offset + width === R.PHYAR.at + 4) this.#accessPhy();
    this.#showPoll();
  }

  #writeCr(): void {
    const cr = this.#regs.get(R.CR.at, 1);
    if ((cr & CR_RST) !== 0) {
      this.#softReset();
      return;
    }
    const rising = cr & ~this.#cr;
    this.#cr = cr;
    if ((rising & CR_TE) !== 0 || (cr & CR_TE) === 0) {
      this.#tx.restart();
      this.#txHigh.restart();
    }
    if ((rising & CR_RE) !== 0) this.#rx.restart();
    this.#derive();
    if ((cr & CR_RE) === 0 && this.#held > 0) this.#seams.work.request(RX_QUEUE);
  }

  #writeCr9346(): void {
    const value = this.#regs.get(R.Cr9346.at, 1);
    const mode = field(value, EEM);
    if (mode === EEM_AUTOLOAD) this.#autoload();
    this.#lock(mode !== EEM_CONFIG_WRITE);
    // In every other mode the wires rest low, so that leaving mode 10 ends a command.
    if (mode === EEM_PROGRAM)
      this.#eeprom.wires(field(value, EECS), field(value, EESK), field(value, EEDI), this.#now, this.#programNs);
    else this.#eeprom.wires(0, 0, 0, this.#now, this.#programNs);
    const shown = mode === EEM_PROGRAM ? (value & WIRES_HELD) | this.#eeprom.output(this.#now) : value & bits(EEM);
    this.#regs.set(R.Cr9346.at, 1, mode === EEM_AUTOLOAD ? EEM_NORMAL : shown);
  }

  /** Station address and configuration from the EEPROM; one without signature leaves them. */
  #autoload(): void {
    if (this.#eeprom.get(EEPROM_WORDS.signature) !== EEPROM_SIGNATURE) return;
    const regs = this.#regs;
    for (let i = 0; i < 3; i++) regs.set(R.IDR0.at + 2 * i, 2, this.#eeprom.get(EEPROM_WORDS.mac + i));
    const { rw, resetImage } = this.#variant.registers;
    const config = this.#eeprom.get(EEPROM_WORDS.config01);
    for (let i = 0; i < 2; i++) {
      const at = R.CONFIG0.at + i;
      regs.set(at, 1, (resetImage[at]! & ~rw[at]!) | ((config >>> (8 * i)) & rw[at]!));
    }
    this.#derive();
  }

  get #locked(): boolean {
    return field(this.#regs.get(R.Cr9346.at, 1), EEM) !== EEM_CONFIG_WRITE;
  }

  #lock(locked: boolean): void {
    this.#regs.lock(R.IDR0.at, IDR_LEN, locked);
    this.#regs.lock(R.CONFIG0.at, R.CONFIG5.at - R.CONFIG0.at, locked);
  }

  /** PHYAR with Flag 1 writes and answers 0; with Flag 0 it reads and answers 1. */
  #accessPhy(): void {
    const regs = this.#regs;
    const command = regs.get(R.PHYAR.at, 4);
    if (this.#now < this.#phyDone) {
      this.#seams.report("phyar-busy", command); // one access at a time: this one is lost
      regs.set(R.PHYAR.at, 4, this.#phyResult ^ PHYAR_FLAG);
      return;
    }
    const reg = field(command, R.PHYAR.fields.RegAddr!);
    if ((command & PHYAR_FLAG) !== 0) {
      this.#phy.write(reg, field(command, R.PHYAR.fields.Data!));
      this.#phyResult = (command & ~PHYAR_FLAG) >>> 0;
    } else this.#phyResult = (PHYAR_FLAG | (reg << 16) | this.#phy.read(reg)) >>> 0;
    this.#phyDone = this.#options.timing === "real" ? this.#now + PHYAR_NS : 0;
    if (this.#phyDone === 0) regs.set(R.PHYAR.at, 4, this.#phyResult);
  }

  /** Brings the registers up to date that change by themselves. */
  #refresh(): void {
    const regs = this.#regs;
    const now = this.#now;
    regs.set(R.TCTR.at, 4, Math.floor((now - this.#tctrZero) / this.#clockNs) % 2 ** 32);
    if (this.#phyDone !== 0 && now >= this.#phyDone) {
      this.#phyDone = 0;
      regs.set(R.PHYAR.at, 4, this.#phyResult);
    }
    const wires = regs.get(R.Cr9346.at, 1);
    if (this.#eeprom.busy && field(wires, EEM) === EEM_PROGRAM)
      regs.set(R.Cr9346.at, 1, (wires & WIRES_HELD) | this.#eeprom.output(now));
  }

  /** Completes before the command bit clears, and clears it in any case: drivers poll. */
  #dumpTally(): void {
    const regs = this.#regs;
    const low = regs.get(R.DTCCR_L.at, 4);
    if ((low & DTCCR_CMD) === 0) return;
    const { dma } = this.#seams;
    const address = regs.get(R.DTCCR_H.at, 4) * 2 ** 32 + (low - (low % RTL8169_TALLY_SIZE));
    if (!dma.open) this.report("bus-master-off", R.DTCCR_L.at);
    else if (!this.#tally.dump(dma, address)) this.masterAbort("tally-address", address);
    dma.flush();
    regs.set(R.DTCCR_L.at, 4, (low & ~DTCCR_CMD) >>> 0);
    this.#updateIrq();
  }

  /** What follows from registers, PHY and wiring. */
  #derive(): void {
    const regs = this.#regs;
    const tcr = regs.get(R.TCR.at, 4);
    this.#looped = (tcr & TCR_LBK) !== 0;
    this.#noCrc = (tcr & TCR_NOCRC) !== 0;
    this.#listening = (this.#cr & CR_RE) !== 0 && !this.#looped && this.#phy.link;
    const limit = regs.get(R.RMS.at, 2) & RMS_LIMIT;
    this.#longest = limit === 0 || limit > RWT_LIMIT ? RWT_LIMIT : limit;
    this.#filter.set(
      regs.get(R.RCR.at, 4),
      regs.get(R.IDR0.at, 4),
      regs.get(R.IDR4.at, 2),
      regs.get(R.MAR0.at, 4),
      regs.get(R.MAR4.at, 4),
    );
  }

  get #now(): number {
    return this.#seams.clock.now();
  }

  get #programNs(): number {
    return this.#options.timing === "real" ? PROGRAM_NS : 0;
  }

  // ---------------------------------------------------------------------------------------------- interrupts, time, link

  /** Latches causes; the line follows with #updateIrq, once per batch. */
  #raise(causes: number): void {
    this.#regs.set(R.ISR.at, 2, this.#regs.get(R.ISR.at, 2) | causes);
  }

  /** INTA# is the level ISR & IMR, so that a driver may acknowledge and unmask in either order. */
  #updateIrq(): void {
    const level = (this.#regs.get(R.ISR.at, 2) & this.#regs.get(R.IMR.at, 2)) !== 0;
    if (level === this.#level) return;
    this.#level = level;
    if (level) this.#counters[INTERRUPTS]!++;
    this.#seams.interrupts.setIntx(level);
  }

  /** TimeOut rises when TCTR reaches TimerInt, and again one turn of the counter later. */
  #armTimeout(): void {
    const count = this.#regs.get(R.TimerInt.at, 4);
    if (count === 0) {
      this.#timeout.cancel();
      return;
    }
    const elapsed = this.#now - this.#tctrZero;
    const period = 2 ** 32 * this.#clockNs;
    const turns = Math.max(0, Math.ceil((elapsed - count * this.#clockNs + 1) / period));
    this.#timeout.arm(this.#tctrZero + count * this.#clockNs + turns * period);
  }

  #timedOut(): void {
    this.#raise(ISR_TIMEOUT);
    this.#armTimeout();
    this.#updateIrq();
  }

  #linkChanged(): void {
    this.#regs.set(R.PHYStatus.at, 1, this.#phy.status);
    this.#derive();
    this.#raise(ISR_LINKCHG);
    this.#updateIrq();
    if (this.#held > 0) this.#seams.work.request(RX_QUEUE);
  }

  /** The retry timer: drivers tell nobody when they refill, and a far end may forget to call `ready`. */
  #lookAgain(): void {
    this.ready();
    if (this.#held > 0) this.#seams.work.request(RX_QUEUE);
  }

  // ---------------------------------------------------------------------------------------------- transmit

  #poll(): void {
    const poll = this.#regs.get(R.TPPoll.at, 1);
    const { work } = this.#seams;
    const on = (this.#cr & CR_TE) !== 0;
    const high = on && (poll & HPQ) !== 0;
    const normal = on && (poll & NPQ) !== 0;
    if (high) this.#txHigh.activate();
    if (normal) this.#tx.activate();
    this.#showPoll();
    if ((poll & (HPQ | NPQ)) !== 0) this.#counters[DOORBELLS]!++;
    if ((poll & FSWINT) !== 0) {
      this.#raise(ISR_SWINT);
      this.#updateIrq();
    }
    if (high) work.request(TX_HIGH_QUEUE);
    if (normal) work.request(TX_QUEUE);
  }

  /** The poll bits stand while their ring has work. */
  #showPoll(): void {
    this.#regs.set(R.TPPoll.at, 1, (this.#txHigh.active ? HPQ : 0) | (this.#tx.active ? NPQ : 0));
  }

  runQueue(queue: number, budget: number): number {
    if (queue === RX_QUEUE) {
      this.#releaseHeld();
      return 0;
    }
    const ring = queue === TX_HIGH_QUEUE ? this.#txHigh : this.#tx;
    if (this.#running) return 0; // asked for from inside the far end's offer; the retry timer asks again
    if (!ring.active) return 0;
    const { dma } = this.#seams;
    if (!dma.open) {
      this.report("bus-master-off", R.TPPoll.at);
      ring.deactivate();
      this.#showPoll();
      return 0;
    }
    this.#running = true;
    this.#offered = false;
    const used = ring.run(dma, budget);
    this.#running = false;
    this.#showPoll();
    dma.flush();
    if (this.#offered) this.#far?.endBatch();
    if (ring.stalled) this.#wait();
    this.#raise(ring.causes);
    this.#updateIrq();
    return used;
  }

  transmit(bytes: Uint8Array, start: number, length: number): Verdict {
    const counters = this.#counters;
    if (this.#looped) this.#receive(bytes, start, length);
    else {
      const far = this.#far;
      if (far === null || !this.#phy.link) {
        counters[TX_DROPPED]!++;
        this.#tally.add(TALLY_TX_ERR);
        return "dropped";
      }
      this.#offered = true;
      const verdict = far.offer(bytes, start, length, null, 0);
      if (verdict === "later") return verdict;
    }
    counters[TX_FRAMES]!++;
    counters[TX_BYTES]! += length;
    this.#tally.add(TALLY_TX_OK);
    return "taken";
  }

  get noCrc(): boolean {
    return this.#noCrc;
  }

  fcsHolds(view: DataView, start: number, length: number): boolean {
    return crc32View(view, start, length) === CRC32_RESIDUE;
  }

  txUsed(bytesCopied: number): void {
    this.#counters[DESCRIPTORS_READ]!++;
    this.#counters[BYTES_COPIED]! += bytesCopied;
  }

  txFailed(code: string, value: number): void {
    this.#counters[TX_DROPPED]!++;
    this.#tally.add(TALLY_TX_ERR);
    this.#tally.add(TALLY_TX_ABT);
    this.report(code, value);
  }

  report(code: string, value: number): void {
    this.#seams.report(code, value);
  }

  masterAbort(code: string, address: number): void {
    this.#raise(ISR_SERR);
    this.report(code, address);
  }

  // ---------------------------------------------------------------------------------------------- the cable's end

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#far !== null)
      throw new ConfigError("port-occupied", "a cable is plugged into the card already; expected a free port");
    this.#far = far;
    this.#held = 0; // nobody holds a frame for us any more
    this.ready();
  }

  accepts(): EndpointLimits {
    return this.#limits;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, _queueHint: number): Verdict {
    const unfinished = offload !== null && (offload.needsCsum || offload.gso !== "none");
    if (!this.#listening || unfinished || length < ETHER_HDR_LEN) {
      this.#counters[RX_FILTERED]!++;
      return "dropped";
    }
    return this.#receive(bytes, start, length);
  }

  endBatch(): void {
    this.#seams.dma.flush();
    this.#updateIrq();
  }

  /** The far end can take frames again. */
  ready(): void {
    const { work } = this.#seams;
    if (this.#txHigh.stalled) work.request(TX_HIGH_QUEUE);
    if (this.#tx.stalled) work.request(TX_QUEUE);
  }

  // ---------------------------------------------------------------------------------------------- receive

  #receive(bytes: Uint8Array, start: number, length: number): Verdict {
    const counters = this.#counters;
    const match = this.#filter.match(bytes, start);
    if (match === NOT_FOR_US || (this.#looped && (this.#cr & CR_RE) === 0)) {
      counters[RX_FILTERED]!++;
      return "dropped";
    }
    const { dma } = this.#seams;
    const total = Math.max(length, ETHER_MIN_LEN) + FCS_LEN;
    if (!this.#rx.valid || total > this.#rx.longest) {
      counters[RX_NO_BUFFER]!++;
      return "dropped";
    }
    if (!dma.open) {
      this.report("bus-master-off", R.RDSAR_L.at);
      return this.#miss(ISR_FOVW); // the FIFO fills up, for the bus is not ours
    }
    const bad = total > this.#longest;
    const delivery = this.#rx.deliver(dma, bytes, start, length, bad ? match | RX_TOO_LONG : match);
    if (delivery !== "delivered") return this.#refuse(delivery === "full", length);
    this.#held = 0;
    counters[RX_FRAMES]!++;
    counters[RX_BYTES]! += length;
    counters[BYTES_COPIED]! += length;
    counters[DESCRIPTORS_READ]! += this.#rx.used;
    this.#raise(bad ? ISR_RER : ISR_ROK);
    this.#tallyReceived(match, bad);
    return "taken";
  }

  #tallyReceived(match: number, bad: boolean): void {
    const tally = this.#tally;
    tally.add(bad ? TALLY_RX_ERR : TALLY_RX_OK);
    if (bad) return;
    if (match === RX_PAM) tally.add(TALLY_RX_OK_PHY);
    else if (match === RX_BAR) tally.add(TALLY_RX_OK_BRD);
    else if (match === RX_MAR) tally.add(TALLY_RX_OK_MUL);
  }

  /** No place for a frame: a far end that can holds it, once told RDU; any other loses it. */
  #refuse(full: boolean, length: number): Verdict {
    const held = this.#held > 0;
    if (full && !this.#looped && this.#far?.accepts().holds === true) {
      this.#held = length;
      this.#wait();
      if (held) return "later";
      this.#raise(ISR_RDU);
      this.#updateIrq();
      return "later";
    }
    return this.#miss(full ? ISR_RDU : 0);
  }

  #miss(cause: number): Verdict {
    const missed = this.#regs.get(R.MPC.at, 4);
    this.#regs.set(R.MPC.at, 4, (missed + 1) & MPC_COUNT);
    this.#tally.add(TALLY_MISS_PKT);
    this.#counters[RX_NO_BUFFER]!++;
    this.#raise(cause);
    this.#updateIrq();
    return "dropped";
  }

  /** Tells the far end to offer its frame again, when there is room or it would be dropped anyway. */
  #releaseHeld(): void {
    if (this.#held === 0) return;
    const { dma } = this.#seams;
    if (this.#listening && this.#rx.valid && dma.open && !this.#rx.hasRoom(dma, this.#held)) {
      this.#wait();
      return;
    }
    this.#held = 0;
    this.#far?.ready(0);
  }

  #wait(): void {
    this.#retry.arm(this.#now + RETRY_NS);
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      version: STATE_VERSION,
      chip: this.#variant.key,
      registers: this.#regs.image(),
      phy: this.#phy.save(),
      eeprom: this.#eeprom.save(),
      tx: this.#tx.save(),
      txHigh: this.#txHigh.save(),
      rx: this.#rx.save(),
      tally: this.#tally.save(),
      counters: Array.from(this.#counters),
      tctrZero: this.#tctrZero,
      timeout: this.#timeout.deadline,
      retry: this.#retry.deadline,
      phyDone: this.#phyDone,
      phyResult: this.#phyResult,
      held: this.#held,
      level: this.#level,
    };
  }

  load(saved: SavedState): void {
    const state = new StateReader(saved, "rtl8169", STATE_VERSION);
    const chip = state.string("chip");
    if (chip !== this.#variant.key)
      throw new StateError(`${state.path}.chip`, `${chip}, expected ${this.#variant.key}`);
    const image = state.bytes("registers", BLOCK_SIZE);
    this.#checkImage(image, `${state.path}.registers`);
    const applyPhy = this.#phy.check(state.object("phy"));
    const applyEeprom = this.#eeprom.check(state.object("eeprom"));
    const applyTx = this.#tx.check(state.object("tx"));
    const applyTxHigh = this.#txHigh.check(state.object("txHigh"));
    const applyRx = this.#rx.check(state.object("rx"));
    const applyTally = this.#tally.check(state.object("tally"));
    const counters = state.integers("counters", 0, Number.MAX_SAFE_INTEGER, COUNTERS);
    const tctrZero = state.integer("tctrZero");
    const timeout = state.deadline("timeout");
    const retry = state.deadline("retry");
    const phyDone = state.integer("phyDone");
    const phyResult = state.integer("phyResult", 0, 0xffff_ffff);
    const held = state.integer("held", 0, this.#rx.longest);
    const level = state.boolean("level");
    // Everything has been checked: nothing below can fail.
    const regs = this.#regs;
    regs.restore(image);
    applyPhy();
    applyEeprom();
    this.#cr = regs.get(R.CR.at, 1);
    this.#lock(this.#locked);
    this.#tx.rebase(regs.get(R.TNPDS_L.at, 4), regs.get(R.TNPDS_H.at, 4));
    this.#txHigh.rebase(regs.get(R.THPDS_L.at, 4), regs.get(R.THPDS_H.at, 4));
    this.#rx.rebase(regs.get(R.RDSAR_L.at, 4), regs.get(R.RDSAR_H.at, 4));
    applyTx();
    applyTxHigh();
    applyRx();
    applyTally();
    this.#counters.set(counters);
    this.#tctrZero = tctrZero;
    rearm(this.#timeout, timeout);
    rearm(this.#retry, retry);
    this.#phyDone = phyDone;
    this.#phyResult = phyResult;
    this.#held = held;
    this.#level = level;
    regs.set(R.PHYStatus.at, 1, this.#phy.status);
    this.#derive();
  }

  /** Bits that neither a guest nor the chip can change must be what they are after reset. */
  #checkImage(image: Uint8Array, path: string): void {
    const { rw, w1c, resetImage } = this.#variant.registers;
    for (let at = 0; at < BLOCK_SIZE; at++) {
      const found = resetImage[at]! | (at === R.CONFIG2.at ? this.#pciClkF : 0);
      if (((image[at]! ^ found) & ~(rw[at]! | w1c[at]! | OWN_BITS[at]!)) !== 0)
        throw new StateError(`${path}[${at}]`, `${image[at]} sets bits that cannot be set`);
    }
    if ((image[R.CR.at]! & CR_RST) !== 0) throw new StateError(path, "CR.RST is set");
  }
}

const rearm = (timer: Timer, deadline: number): void => {
  if (deadline === Number.POSITIVE_INFINITY) timer.cancel();
  else timer.arm(deadline);
};
