import { ConfigError, StateReader } from "../../src/bytes/index.js";
import type {
  AccessWidth,
  BarHandler,
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
  Verdict,
} from "../../src/contract/index.js";
import type { PowerManagement } from "../../src/pci/index.js";
import { bits, field, type RegisterFile, type RegisterMap } from "../../src/regs/index.js";
import {
  PCI_CLOCK_NS,
  PCICLKF_33,
  PCICLKF_66,
  RTL8169,
  RTL8169_INTT_PACKETS,
  RTL8169_INTT_UNIT_NS,
  RTL8169_RING_ALIGN,
  type Rtl8169Chip,
} from "../../src/spec/rtl8169.js";
import { CardCore, DOORBELLS, UNPLUGGED } from "./core.js";
import { RINGS_8169 } from "./descriptor.js";
import { Eeprom, type EepromContents } from "./eeprom.js";
import { EepromPort, type LockedRanges } from "./eeprom-port.js";
import type { CheckedOptions, ChipName } from "./options.js";
import { Phy } from "./phy.js";
import { Receiver } from "./receiver.js";
import { CountTimer } from "./timer.js";
import { Transmitter } from "./transmitter.js";
import { Wake, type WakeReason } from "./wake.js";

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
const PHYAR_FLAG = bits(R.PHYAR.fields.Flag!);
/** Registers that #derive reads. */
const DERIVED_FROM = H.IDR0 | H.IDR4 | H.MAR0 | H.MAR4 | H.RCR | H.TCR | H.RMS | H.CPlusCR | H.IntrMitigate;

const ISR_LINKCHG = bits(R.ISR.fields.LinkChg!);
const ISR_SWINT = bits(R.ISR.fields.SWInt!);
const ISR_TIMEOUT = bits(R.ISR.fields.TimeOut!);
const CPLUS_CHKSUM = bits(R.CPlusCR.fields.RxChkSum!);
const CPLUS_VLAN = bits(R.CPlusCR.fields.RxVLAN!);
const MODERATION = R.IntrMitigate.fields;

/** Frames above this are flagged RWT whatever RMS says; Observed: the BSDs take them all the same. */
const RWT_LIMIT = 8191;

/** A PHY access with real timing: 64 bits at 2.5 MHz. IEEE 802.3 §22.2.2.11, §22.3.4 */
const PHYAR_NS = 25_600;
/** What 9346CR locks. */
const LOCKED: LockedRanges = [
  [R.IDR0.at, IDR_LEN],
  [R.CONFIG0.at, R.CONFIG5.at - R.CONFIG0.at],
];

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

/**
 * The registers of an RTL8169 and what hangs on them: rings, address filter, PHY, EEPROM, timer, tally.
 * It is the handler of both BARs, the model behind the function and the card's end of the cable.
 */
export class Rtl8169Model implements BarHandler, Model, QueueRunner, NetPort {
  // fixed configuration
  readonly #variant: Variant;
  readonly #options: CheckedOptions;
  readonly #power: PowerManagement;
  /** what CONFIG2 shows of the PCI clock */
  readonly #pciClkF: number;
  // parts, each with its own wiring and volatile state
  readonly #core: CardCore;
  readonly #regs: RegisterFile;
  readonly #tx: Transmitter;
  readonly #rx: Receiver;
  readonly #phy: Phy;
  readonly #eeprom: EepromPort;
  readonly #timer: CountTimer;
  readonly #wake: Wake;
  // volatile state
  /** CR as it was before the present write: RE and TE act on their edges */
  #cr = 0;
  /** time at which PHYAR's Flag turns */
  #phyDone = 0;
  /** what PHYAR reads then */
  #phyResult = 0;
  // derived
  #realTime = false;

  /** @param contents what the EEPROM holds when the card leaves the factory */
  constructor(variant: Variant, options: CheckedOptions, contents: EepromContents, power: PowerManagement) {
    this.#variant = variant;
    this.#options = options;
    this.#power = power;
    const fast = options.pciClock === 66;
    this.#pciClkF = fast ? PCICLKF_66 : PCICLKF_33;
    this.#core = new CardCore(variant.registers);
    this.#regs = this.#core.regs;
    this.#rx = new Receiver(this.#core, RINGS_8169, options.mtu, () => this.#core.seams.work.request(RX_QUEUE));
    this.#tx = new Transmitter(this.#core, RINGS_8169, (bytes, start, length) => this.#rx.loop(bytes, start, length));
    this.#phy = new Phy(variant.chip.phy, options.link, () => this.#linkChanged());
    this.#eeprom = new EepromPort(this.#core, variant.registers, new Eeprom(options.eeprom, contents), LOCKED);
    this.#timer = new CountTimer(PCI_CLOCK_NS / (fast ? 2 : 1), () => this.#timedOut());
    this.#wake = new Wake(this.#regs, this.#rx.filter);
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
    return this.#core.nicCounters();
  }

  // ---------------------------------------------------------------------------------------------- life

  connect(seams: FunctionSeams): void {
    this.#core.seams = seams;
    seams.work.bind(this);
    const { fcs, timing } = this.#options;
    const strict = seams.strictness === "strict";
    this.#rx.ring.setFcs(fcs === "computed" || (fcs === "by-strictness" && strict));
    this.#realTime = this.#eeprom.realTime = timing === "real" || (timing === "by-strictness" && strict);
    this.#core.interrupts.connect(seams);
    this.#timer.connect(seams.clock);
    this.#rx.connect(() => this.#lookAgain());
    this.#phy.connect(seams.clock);
    this.reset("power-on");
  }

  disconnect(): void {
    this.#phy.disconnect();
    this.#timer.disconnect();
    this.#core.interrupts.disconnect();
    this.#rx.disconnect();
    this.#core.seams = UNPLUGGED;
    this.reset("power-on");
    this.#rx.releaseHeld();
  }

  reset(kind: ResetKind): void {
    if (kind !== "function") this.#powerOn();
    this.#softReset();
  }

  #powerOn(): void {
    this.#phy.powerOn();
    this.#core.tally.clear();
    this.#regs.reset();
    this.#regs.set(R.CONFIG2.at, 1, R.CONFIG2.reset | this.#pciClkF);
    this.#eeprom.autoload();
  }

  /** CR.RST: what is not the driver's lasting configuration goes back; PHY and tally counters are not touched. */
  #softReset(): void {
    const regs = this.#regs;
    regs.reset(survivesReset);
    regs.set(R.PHYStatus.at, 1, this.#phy.status);
    this.#cr = 0;
    this.#phyDone = 0;
    this.#eeprom.reset();
    this.#tx.normal.rebase(0, 0);
    this.#tx.high.rebase(0, 0);
    this.#rx.ring.rebase(0, 0);
    this.#timer.restart(0);
    this.#core.seams.work.clear();
    this.#core.interrupts.reset();
    this.#derive();
    this.#core.interrupts.update();
    this.#rx.stir(); // the far end may stop holding its frame
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
      this.#core.interrupts.update();
      this.#rx.stir();
    }
    if ((touched & ~(H.TPPoll | H.ISR | H.IMR)) !== 0) this.#configure(touched, offset, width);
    if (offset < R.CONFIG5.at) this.#eeprom.watch(offset, width);
  }

  /** Registers that drivers write when they set a card up, not per packet. */
  #configure(touched: number, offset: number, width: AccessWidth): void {
    const regs = this.#regs;
    if ((touched & H.Cr9346) !== 0 && this.#eeprom.written()) this.#derive();
    if ((touched & H.CR) !== 0) this.#writeCr();
    this.#rebase(touched);
    if ((touched & DERIVED_FROM) !== 0) this.#derive();
    if ((touched & H.IntrMitigate) !== 0) this.#core.interrupts.update(); // it may have let go
    if ((touched & H.MPC) !== 0) regs.set(R.MPC.at, 4, 0);
    if ((touched & H.TCTR) !== 0) this.#timer.restart(regs.get(R.TimerInt.at, 4));
    else if ((touched & H.TimerInt) !== 0) this.#timer.setCompare(regs.get(R.TimerInt.at, 4));
    if ((touched & H.DTCCR_L) !== 0) this.#core.dumpTally();
    // A host that splits the dword writes the low half first: the byte with Flag is the one that starts the access.
    if ((touched & H.PHYAR) !== 0 && offset + width === R.PHYAR.at + 4) this.#accessPhy();
    this.#showPoll();
  }

  /** A write to either half of a base goes back to the ring's first descriptor. */
  #rebase(touched: number): void {
    if ((touched & (H.TNPDS_L | H.TNPDS_H)) !== 0)
      this.#tx.normal.rebase(this.#base(R.TNPDS_L.at), this.#base(R.TNPDS_H.at));
    if ((touched & (H.THPDS_L | H.THPDS_H)) !== 0)
      this.#tx.high.rebase(this.#base(R.THPDS_L.at), this.#base(R.THPDS_H.at));
    if ((touched & (H.RDSAR_L | H.RDSAR_H)) !== 0)
      this.#rx.ring.rebase(this.#base(R.RDSAR_L.at), this.#base(R.RDSAR_H.at));
  }

  #base(at: number): number {
    const base = this.#regs.get(at, 4);
    const low = at === R.TNPDS_L.at || at === R.THPDS_L.at || at === R.RDSAR_L.at;
    if (low && base % RTL8169_RING_ALIGN !== 0) this.#core.report("ring-misaligned", base);
    return base;
  }

  #writeCr(): void {
    const cr = this.#regs.get(R.CR.at, 1);
    if ((cr & CR_RST) !== 0) {
      this.#softReset();
      return;
    }
    const rising = cr & ~this.#cr;
    this.#cr = cr;
    if ((cr & CR_TE) === 0) this.#tx.restart();
    if ((rising & CR_RE) !== 0) this.#rx.ring.restart();
    this.#derive();
    if ((cr & CR_RE) === 0) this.#rx.stir();
  }

  /** PHYAR with Flag 1 writes and answers 0; with Flag 0 it reads and answers 1. */
  #accessPhy(): void {
    const regs = this.#regs;
    const command = regs.get(R.PHYAR.at, 4);
    if (this.#core.now < this.#phyDone) {
      this.#core.report("phyar-busy", command); // one access at a time: this one is lost
      regs.set(R.PHYAR.at, 4, this.#phyResult ^ PHYAR_FLAG);
      return;
    }
    const reg = field(command, R.PHYAR.fields.RegAddr!);
    if ((command & PHYAR_FLAG) !== 0) {
      this.#phy.write(reg, field(command, R.PHYAR.fields.Data!));
      this.#derive(); // BMCR has a loop of its own
      this.#phyResult = (command & ~PHYAR_FLAG) >>> 0;
    } else this.#phyResult = (PHYAR_FLAG | (reg << 16) | this.#phy.read(reg)) >>> 0;
    this.#phyDone = this.#realTime ? this.#core.now + PHYAR_NS : 0;
    if (this.#phyDone === 0) regs.set(R.PHYAR.at, 4, this.#phyResult);
  }

  /** Brings the registers up to date that change by themselves. */
  #refresh(): void {
    const regs = this.#regs;
    const { now } = this.#core;
    regs.set(R.TCTR.at, 4, this.#timer.count);
    if (this.#phyDone !== 0 && now >= this.#phyDone) {
      this.#phyDone = 0;
      regs.set(R.PHYAR.at, 4, this.#phyResult);
    }
    this.#eeprom.refresh();
  }

  /** What follows from registers and PHY. */
  #derive(): void {
    const regs = this.#regs;
    const tcr = regs.get(R.TCR.at, 4);
    const { link } = this.#phy;
    const looped = (tcr & TCR_LBK) !== 0 || this.#phy.loopback;
    this.#tx.set((tcr & TCR_NOCRC) !== 0, looped, link);
    const limit = regs.get(R.RMS.at, 2) & RMS_LIMIT;
    const cplus = regs.get(R.CPlusCR.at, 2);
    this.#rx.set((this.#cr & CR_RE) !== 0, looped, link);
    this.#rx.shape(
      limit === 0 || limit > RWT_LIMIT ? RWT_LIMIT : limit,
      (cplus & CPLUS_CHKSUM) !== 0,
      (cplus & CPLUS_VLAN) !== 0,
    );
    this.#rx.filter.set(
      regs.get(R.RCR.at, 4),
      regs.get(R.IDR0.at, 4),
      regs.get(R.IDR4.at, 2),
      regs.get(R.MAR0.at, 4),
      regs.get(R.MAR4.at, 4),
    );
    this.#moderate(regs.get(R.IntrMitigate.at, 2), field(cplus, R.CPlusCR.fields.INTTmode!));
  }

  #moderate(value: number, mode: number): void {
    const { speedMbps } = this.#phy;
    const units = RTL8169_INTT_UNIT_NS[speedMbps === 1000 ? 1000 : speedMbps === 100 ? 100 : 10];
    const unit = units[mode]!;
    this.#core.interrupts.moderate(
      field(value, MODERATION.TxTimer!) * unit,
      field(value, MODERATION.TxPackets!) * RTL8169_INTT_PACKETS,
      field(value, MODERATION.RxTimer!) * unit,
      field(value, MODERATION.RxPackets!) * RTL8169_INTT_PACKETS,
    );
  }

  // ---------------------------------------------------------------------------------------------- time and link

  #timedOut(): void {
    this.#core.interrupts.raise(ISR_TIMEOUT);
    this.#core.interrupts.update();
  }

  #linkChanged(): void {
    this.#regs.set(R.PHYStatus.at, 1, this.#phy.status);
    this.#derive();
    this.#core.interrupts.raise(ISR_LINKCHG);
    this.#core.interrupts.update();
    this.#rx.stir();
    if (!this.#power.powered && this.#phy.link && this.#wake.link()) this.#wakeUp("link");
  }

  /** The retry timer: drivers tell nobody when they refill, and a far end may forget to call `ready`. */
  #lookAgain(): void {
    this.ready();
    this.#rx.stir();
  }

  #wakeUp(reason: WakeReason): void {
    if (this.#power.raisePme()) this.#options.onWake(reason);
  }

  // ---------------------------------------------------------------------------------------------- transmit

  #poll(): void {
    const poll = this.#regs.get(R.TPPoll.at, 1);
    const { seams, interrupts, counters } = this.#core;
    const on = (this.#cr & CR_TE) !== 0;
    const high = on && (poll & HPQ) !== 0;
    const normal = on && (poll & NPQ) !== 0;
    if (high) this.#tx.high.activate();
    if (normal) this.#tx.normal.activate();
    this.#showPoll();
    if ((poll & (HPQ | NPQ)) !== 0) counters[DOORBELLS]!++;
    if ((poll & FSWINT) !== 0) {
      interrupts.raise(ISR_SWINT);
      interrupts.update();
    }
    if (high) seams.work.request(TX_HIGH_QUEUE);
    if (normal) seams.work.request(TX_QUEUE);
  }

  /** The poll bits stand while their ring has work. */
  #showPoll(): void {
    this.#regs.set(R.TPPoll.at, 1, (this.#tx.high.active ? HPQ : 0) | (this.#tx.normal.active ? NPQ : 0));
  }

  runQueue(queue: number, budget: number): number {
    if (queue === RX_QUEUE) {
      this.#rx.releaseHeld();
      return 0;
    }
    const used = this.#tx.runRings(queue === TX_HIGH_QUEUE, budget, R.TPPoll.at);
    this.#showPoll();
    if (this.#tx.waits) this.#rx.wait();
    return used;
  }

  // ---------------------------------------------------------------------------------------------- the cable's end

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#core.far !== null)
      throw new ConfigError("port-occupied", "a cable is plugged into the card already; expected a free port");
    this.#core.far = far;
    this.#rx.forget();
    this.ready();
  }

  accepts(): EndpointLimits {
    return this.#rx.limits;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, _queueHint: number): Verdict {
    if (this.#power.powered) return this.#rx.offer(bytes, start, length, offload);
    const reason = this.#wake.frame(bytes, start, length);
    if (reason !== null) this.#wakeUp(reason);
    return this.#rx.refuse();
  }

  endBatch(): void {
    this.#core.seams.dma.flush();
    this.#core.interrupts.update();
  }

  /** The far end can take frames again. */
  ready(): void {
    const { work } = this.#core.seams;
    if (this.#tx.high.stalled) work.request(TX_HIGH_QUEUE);
    if (this.#tx.normal.stalled) work.request(TX_QUEUE);
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      ...this.#core.save(this.#variant.key),
      version: STATE_VERSION,
      phy: this.#phy.save(),
      eeprom: this.#eeprom.save(),
      tx: this.#tx.save(),
      rx: this.#rx.save(),
      timer: this.#timer.save(),
      phyDone: this.#phyDone,
      phyResult: this.#phyResult,
    };
  }

  load(saved: SavedState): void {
    const state = new StateReader(saved, "rtl8169", STATE_VERSION);
    const applyCore = this.#core.check(state, this.#variant.key, OWN_BITS, this.#pciClkF);
    const applyPhy = this.#phy.check(state.object("phy"));
    const applyEeprom = this.#eeprom.check(state.object("eeprom"));
    const applyTx = this.#tx.check(state.object("tx"));
    const applyRx = this.#rx.check(state.object("rx"));
    const applyTimer = this.#timer.check(state.object("timer"));
    const applyInterrupts = this.#core.interrupts.check(state.object("interrupts"));
    const phyDone = state.integer("phyDone");
    const phyResult = state.integer("phyResult", 0, 0xffff_ffff);
    // Everything has been checked: nothing below can fail.
    const regs = this.#regs;
    applyCore();
    applyPhy();
    applyEeprom();
    this.#cr = regs.get(R.CR.at, 1);
    this.#tx.normal.rebase(regs.get(R.TNPDS_L.at, 4), regs.get(R.TNPDS_H.at, 4));
    this.#tx.high.rebase(regs.get(R.THPDS_L.at, 4), regs.get(R.THPDS_H.at, 4));
    this.#rx.ring.rebase(regs.get(R.RDSAR_L.at, 4), regs.get(R.RDSAR_H.at, 4));
    applyTx();
    applyRx();
    applyTimer(regs.get(R.TimerInt.at, 4));
    this.#phyDone = phyDone;
    this.#phyResult = phyResult;
    regs.set(R.PHYStatus.at, 1, this.#phy.status);
    this.#derive();
    applyInterrupts();
  }
}
