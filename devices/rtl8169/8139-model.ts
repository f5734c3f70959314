import { ConfigError, StateReader } from "../../src/bytes/index.js";
import type {
  AccessWidth,
  EndpointLimits,
  FunctionSeams,
  NetEndpoint,
  NicCounters,
  Offload,
  QueueRunner,
  ResetKind,
  SavedState,
  Verdict,
} from "../../src/contract/index.js";
import { bits, field, type RegisterFile } from "../../src/regs/index.js";
import {
  HLTCLK_HALT,
  HLTCLK_RUN,
  RTL8139,
  RTL8139_LONG_FRAME,
  RTL8139_TX_SLOTS,
  RTL8139CP,
  type Rtl8139Chip,
  type Rtl8139Registers,
} from "../../src/spec/rtl8139.js";
import { PCI_CLOCK_NS, RTL8169_RING_ALIGN, type RtlPhy } from "../../src/spec/rtl8169.js";
import { MiiRegisters } from "./8139-mii.js";
import type { Checked8139Options, Rtl8139ChipName } from "./8139-options.js";
import type { CardModel } from "./card.js";
import { CardCore, DOORBELLS, UNPLUGGED } from "./core.js";
import { RINGS_CPLUS } from "./descriptor.js";
import { Eeprom, type EepromContents } from "./eeprom.js";
import { EepromPort, fallsInto, type LockedRanges } from "./eeprom-port.js";
import { LegacyRx } from "./legacy-rx.js";
import { LegacyTx, type SlotHost } from "./legacy-tx.js";
import { Phy } from "./phy.js";
import { Receiver } from "./receiver.js";
import { CountTimer } from "./timer.js";
import { Transmitter } from "./transmitter.js";

/** One member of the family: a row of data and its register map. */
export interface Variant8139 {
  readonly key: Rtl8139ChipName;
  readonly chip: Rtl8139Chip;
  readonly registers: Rtl8139Registers;
}

/** Queues as the host's Work numbers them. */
const TX_QUEUE = 0;
const TX_HIGH_QUEUE = 1;
const RX_QUEUE = 2;
const SLOT_QUEUE = 3;

const STATE_VERSION = 1;

// All maps of the family begin with the same registers, so that hooks keep their bits.
const { regs: R, hooks: H } = RTL8139CP;
const { TSD0, TSAD0 } = RTL8139.regs;
const BLOCK_SIZE = RTL8139CP.size;
const IDR_LEN = 6;

const CR_RST = bits(R.CR.fields.RST!);
const CR_RE = bits(R.CR.fields.RE!);
const CR_TE = bits(R.CR.fields.TE!);
const CR_BUFE = bits(R.CR.fields.BUFE!);
const CPTX = bits(R.CPlusCR.fields.CPTX!);
const CPRX = bits(R.CPlusCR.fields.CPRX!);
const RX_CHKSUM = bits(R.CPlusCR.fields.RxChkSum!);
const RX_VLAN = bits(R.CPlusCR.fields.RxVLAN!);
const HPQ = bits(R.TPPoll.fields.HPQ!);
const NPQ = bits(R.TPPoll.fields.NPQ!);
const FSWINT = bits(R.TPPoll.fields.FSWInt!);
const TCR_LBK = bits(R.TCR.fields.LBK!);
const TCR_NOCRC = bits(R.TCR.fields.NoCRC!);
const TCR_CLRABT = bits(R.TCR.fields.CLRABT!);
const RCR_WRAP = bits(R.RCR.fields.WRAP!);
const RCR_RBLEN = R.RCR.fields.RBLEN!;
const RCR_9356SEL = bits(R.RCR.fields["9356SEL"]!);
const MSR_LINKB = bits(R.MSR.fields.LINKB!);
const MSR_SPEED_10 = bits(R.MSR.fields.SPEED_10!);
const CON_STATUS = bits(R.CSCR.fields.Con_status!);
/** Observed: Linux's 8139too looks at it when ISR's PUN_LinkChg is up, and takes a change of the link from nothing else. */
const LINK_CHANGE = bits(R.CSCR.fields.LinkChange!);
/** Registers that #derive reads. */
const DERIVED_FROM = H.IDR0 | H.IDR4 | H.MAR0 | H.MAR4 | H.RCR | H.TCR | H.RBSTART | H.CPlusCR;

const ISR_LINKCHG = bits(R.ISR.fields.PUN_LinkChg!);
const ISR_SWINT = bits(R.ISR.fields.SWInt!);
const ISR_TIMEOUT = bits(R.ISR.fields.TimeOut!);

/** The integrated PHY: 10 and 100 Mb/s, without identifier, and its registers are the card's. */
const PHY_8139: RtlPhy = { phyId: 0, bmsr: R.BMSR.reset, gigabit: false, sleeps: false };

/** What 9346CR locks. */
const LOCKED: LockedRanges = [
  [R.IDR0.at, IDR_LEN],
  [R.CONFIG0.at, 2],
  [R.CONFIG3.at, 2],
];

/** What CR.RST leaves alone: IDR, MAR and the configuration registers, which come from the EEPROM and the driver once. */
const survivesReset = (at: number): boolean =>
  fallsInto(LOCKED, at, 1) || (at >= R.MAR0.at && at < R.MAR4.at + 4) || at === R.CONFIG5.at;

/** Per byte: bits that the chip sets itself and that the maps show as read-only. */
const OWN_BITS = new Uint8Array(BLOCK_SIZE);
OWN_BITS.fill(0xff, TSD0.at, TSAD0.at);
OWN_BITS[R.CR.at] = CR_BUFE;
OWN_BITS.fill(0xff, R.CBR.at, R.CBR.at + 2);
OWN_BITS[R.RCR.at] = RCR_9356SEL;
OWN_BITS.fill(0xff, R.TCTR.at, R.TCTR.at + 4);
OWN_BITS.fill(0xff, R.MPC.at, R.MPC.at + 3);
OWN_BITS[R.Cr9346.at] = bits(R.Cr9346.fields.EEDO!);
OWN_BITS[R.MSR.at] = MSR_LINKB | MSR_SPEED_10;
OWN_BITS[R.HLTCLK.at] = 0x01;
OWN_BITS.fill(0xff, R.TSAD.at, R.ANER.at + 2);
OWN_BITS[R.CSCR.at] = CON_STATUS;
OWN_BITS[R.CSCR.at + 1] = LINK_CHANGE >>> 8;

/**
 * The registers of an RTL8139C+ or of an older chip, and what hangs on them: four transmit slots and one receive ring, on the
 * C+ descriptor rings instead when C+CR says so; address filter, PHY, EEPROM, timer, tally.
 */
export class Rtl8139Model implements CardModel, QueueRunner, SlotHost {
  // fixed configuration
  readonly #variant: Variant8139;
  readonly #options: Checked8139Options;
  // parts, with their state
  readonly #core: CardCore;
  readonly #regs: RegisterFile;
  readonly #timer: CountTimer;
  readonly #phy: Phy;
  readonly #eeprom: EepromPort;
  readonly #mii: MiiRegisters;
  readonly #transmitter: Transmitter;
  readonly #slots: LegacyTx;
  readonly #buffer: LegacyRx;
  readonly #receiver: Receiver;
  // volatile state
  /** CR as it was before the present write: RE and TE act on their edges */
  #cr = 0;
  // derived from registers, PHY and wiring by #derive
  /** 10h–1Fh are the tally's address, not the slots' status */
  #cplus = false;
  /** frames go into the ring of bytes */
  #inBuffer = true;
  #looped = false;

  /** @param contents what the EEPROM holds when the card leaves the factory */
  constructor(variant: Variant8139, options: Checked8139Options, contents: EepromContents) {
    this.#variant = variant;
    this.#options = options;
    this.#core = new CardCore(variant.registers);
    this.#regs = this.#core.regs;
    this.#timer = new CountTimer(PCI_CLOCK_NS, () => this.#raise(ISR_TIMEOUT));
    this.#phy = new Phy(PHY_8139, options.link, () => this.#linkChanged());
    this.#eeprom = new EepromPort(this.#core, variant.registers, new Eeprom(options.eeprom, contents), LOCKED);
    this.#mii = new MiiRegisters(this.#core, this.#phy, this.#eeprom);
    this.#transmitter = new Transmitter(this.#core, RINGS_CPLUS, (bytes, start, length) =>
      this.#receiver.loop(bytes, start, length),
    );
    this.#slots = new LegacyTx(this.#transmitter, this);
    this.#buffer = new LegacyRx(this.#core);
    this.#receiver = new Receiver(this.#core, RINGS_CPLUS, options.mtu, () => this.#core.seams.work.request(RX_QUEUE));
    this.reset("power-on");
  }

  get cable(): boolean {
    return this.#phy.cable;
  }

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
    this.#core.interrupts.connect(seams);
    this.#timer.connect(seams.clock);
    this.#receiver.connect(() => this.#lookAgain());
    const { fcs, timing } = this.#options;
    const strict = seams.strictness === "strict";
    const computed = fcs === "computed" || (fcs === "by-strictness" && strict);
    this.#eeprom.realTime = timing === "real" || (timing === "by-strictness" && strict);
    this.#buffer.setFcs(computed);
    this.#receiver.ring.setFcs(computed);
    this.#phy.connect(seams.clock);
    this.reset("power-on");
  }

  disconnect(): void {
    this.#phy.disconnect();
    this.#timer.disconnect();
    this.#receiver.disconnect();
    this.#core.interrupts.disconnect();
    this.#core.seams = UNPLUGGED;
    this.reset("power-on");
    this.#receiver.releaseHeld();
  }

  reset(kind: ResetKind): void {
    if (kind !== "function") this.#powerOn();
    this.#softReset();
  }

  /** The PHY has had its power longer than the slot: where there is a partner, the link stands already. */
  #powerOn(): void {
    this.#regs.reset();
    this.#core.tally.clear();
    this.#phy.powerOn();
    this.#phy.settle();
    this.#eeprom.autoload();
  }

  /** CR.RST: what is not the driver's lasting configuration goes back; PHY and tally counters are not touched. */
  #softReset(): void {
    const regs = this.#regs;
    regs.reset(survivesReset);
    this.#cr = 0;
    this.#eeprom.reset();
    this.#slots.reset();
    this.#transmitter.normal.rebase(0, 0);
    this.#transmitter.high.rebase(0, 0);
    this.#receiver.ring.rebase(0, 0);
    this.#buffer.restart();
    this.#timer.restart(0);
    this.#core.interrupts.reset();
    this.#core.seams.work.clear();
    this.#cplus = false;
    this.#derive();
    this.#mii.showLink();
    this.#showSlots();
    this.#showBuffer();
    this.#core.interrupts.update();
    this.#receiver.stir(); // the far end may stop holding its frame
  }

  // ---------------------------------------------------------------------------------------------- registers

  read(offset: number, width: AccessWidth): number {
    // Between TCTR and ANER stand the registers that change by themselves.
    if (offset + width > R.TCTR.at && offset < R.ANER.at + 2) this.#refresh(offset, width);
    const value = this.#regs.guestRead(offset, width);
    // LinkChange stands in the upper byte, and goes when that is read.
    if (offset <= R.CSCR.at + 1 && offset + width > R.CSCR.at + 1)
      this.#regs.set(R.CSCR.at, 2, this.#regs.get(R.CSCR.at, 2) & ~LINK_CHANGE);
    return value;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (offset >= TSD0.at && offset < TSAD0.at && !this.#cplus) {
      this.#writeSlot(offset, width, value);
      return;
    }
    const touched = this.#regs.guestWrite(offset, width, value);
    if ((touched & H.TPPoll) !== 0) this.#poll();
    if ((touched & H.CAPR) !== 0) {
      this.#buffer.setCapr(this.#regs.get(R.CAPR.at, 2));
      this.#showBuffer();
      this.#receiver.stir();
    }
    if ((touched & (H.ISR | H.IMR)) !== 0) {
      this.#core.interrupts.update();
      this.#receiver.stir();
    }
    if ((touched & ~(H.TPPoll | H.CAPR | H.ISR | H.IMR)) !== 0) this.#configure(touched, offset, width, value);
    this.#eeprom.watch(offset, width);
  }

  /** Registers that drivers write when they set a card up, not per packet. */
  #configure(touched: number, offset: number, width: AccessWidth, value: number): void {
    const regs = this.#regs;
    if ((touched & H.Cr9346) !== 0 && this.#eeprom.written()) this.#derive();
    if ((touched & H.CR) !== 0) this.#writeCr();
    this.#rebase(touched);
    if ((touched & DERIVED_FROM) !== 0) this.#derive();
    if ((touched & (H.RCR | H.RBSTART)) !== 0) this.#showBuffer();
    if ((touched & H.RBSTART) !== 0 && (regs.get(R.RBSTART.at, 1) & 3) !== 0)
      this.#core.report("rx-misaligned", regs.get(R.RBSTART.at, 4));
    if ((touched & H.TCR) !== 0 && offset === R.TCR.at && (value & TCR_CLRABT) !== 0) this.#clearAbort();
    if ((touched & H.MPC) !== 0) regs.set(R.MPC.at, 4, 0);
    if ((touched & H.TCTR) !== 0) this.#timer.restart(regs.get(R.TimerInt.at, 4));
    else if ((touched & H.TimerInt) !== 0) this.#timer.setCompare(regs.get(R.TimerInt.at, 4));
    if ((touched & H.DTCCR_L) !== 0) this.#core.dumpTally();
    if ((touched & H.HLTCLK) !== 0) this.#writeHltClk(value >>> (8 * (R.HLTCLK.at - offset)));
    if ((touched & H.BMCR) !== 0) this.#mii.writeBmcr(offset, width, value);
    if ((touched & H.ANAR) !== 0) this.#mii.writeAnar();
    this.#showPoll();
  }

  /** A write to either half of a base goes back to the ring's first descriptor. In the old mode 20h–2Fh are TSAD0–3. */
  #rebase(touched: number): void {
    const { normal, high } = this.#transmitter;
    if ((touched & (H.TNPDS_L | H.TNPDS_H)) !== 0) normal.rebase(this.#base(R.TNPDS_L.at), this.#base(R.TNPDS_H.at));
    if ((touched & (H.THPDS_L | H.THPDS_H)) !== 0) high.rebase(this.#base(R.THPDS_L.at), this.#base(R.THPDS_H.at));
    if ((touched & (H.RDSAR_L | H.RDSAR_H)) !== 0)
      this.#receiver.ring.rebase(this.#base(R.RDSAR_L.at), this.#base(R.RDSAR_H.at));
  }

  #base(at: number): number {
    const base = this.#regs.get(at, 4);
    const low = at === R.TNPDS_L.at || at === R.THPDS_L.at || at === R.RDSAR_L.at;
    if (this.#cplus && low && base % RTL8169_RING_ALIGN !== 0) this.#core.report("ring-misaligned", base);
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
    if ((cr & CR_TE) === 0) this.#transmitter.restart();
    if ((rising & CR_RE) !== 0) {
      this.#receiver.ring.restart();
      this.#buffer.restart();
      this.#showBuffer();
    }
    this.#derive();
    if ((cr & CR_RE) === 0) this.#receiver.stir();
    if ((rising & CR_TE) !== 0) this.#pushSlots();
  }

  #writeHltClk(written: number): void {
    const command = written & 0xff;
    if (command === HLTCLK_RUN || command === HLTCLK_HALT)
      this.#regs.set(R.HLTCLK.at, 1, command === HLTCLK_RUN ? 1 : 0);
  }

  /** Brings the registers up to date that change by themselves. */
  #refresh(offset: number, width: AccessWidth): void {
    const regs = this.#regs;
    regs.set(R.TCTR.at, 4, this.#timer.count);
    this.#eeprom.refresh();
    this.#mii.refresh(offset, width);
  }

  /** What follows from registers, PHY and wiring. */
  #derive(): void {
    const regs = this.#regs;
    const tcr = regs.get(R.TCR.at, 4);
    const rcr = regs.get(R.RCR.at, 4);
    const cplus = regs.get(R.CPlusCR.at, 2); // in which no older chip has a bit
    const looped = (tcr & TCR_LBK) === TCR_LBK;
    const { link } = this.#phy;
    this.#looped = looped;
    this.#transmitter.set((tcr & TCR_NOCRC) !== 0, looped, link);
    this.#switchMode((cplus & (CPTX | CPRX)) !== 0);
    if ((cplus & CPTX) === 0) {
      this.#transmitter.normal.deactivate();
      this.#transmitter.high.deactivate();
    }
    const buffer = regs.get(R.RBSTART.at, 4);
    this.#buffer.configure(this.strict ? buffer - (buffer % 4) : buffer, field(rcr, RCR_RBLEN), (rcr & RCR_WRAP) !== 0);
    const receiver = this.#receiver;
    this.#inBuffer = (cplus & CPRX) === 0;
    receiver.use(this.#inBuffer ? this.#buffer : receiver.ring);
    receiver.set((this.#cr & CR_RE) !== 0, looped, link);
    receiver.shape(
      RTL8139_LONG_FRAME,
      !this.#inBuffer && (cplus & RX_CHKSUM) !== 0,
      !this.#inBuffer && (cplus & RX_VLAN) !== 0,
    );
    receiver.filter.set(
      rcr,
      regs.get(R.IDR0.at, 4),
      regs.get(R.IDR4.at, 2),
      regs.get(R.MAR0.at, 4),
      regs.get(R.MAR4.at, 4),
    );
  }

  /** 10h–1Fh change their meaning with the mode. */
  #switchMode(cplus: boolean): void {
    if (cplus === this.#cplus) return;
    this.#cplus = cplus;
    if (cplus) for (let at = TSD0.at; at < TSAD0.at; at += 4) this.#regs.set(at, 4, 0);
    else this.#showSlots();
  }

  // ---------------------------------------------------------------------------------------------- interrupts and link

  #raise(causes: number): void {
    this.#core.interrupts.raise(causes);
    this.#core.interrupts.update();
  }

  #linkChanged(): void {
    this.#mii.showLink();
    this.#regs.set(R.CSCR.at, 2, this.#regs.get(R.CSCR.at, 2) | LINK_CHANGE);
    this.#derive();
    this.#raise(ISR_LINKCHG);
    this.#receiver.stir();
  }

  /** The retry timer: drivers of descriptor rings tell nobody when they refill, and a far end may forget to call `ready`. */
  #lookAgain(): void {
    this.ready();
    this.#receiver.stir();
  }

  // ---------------------------------------------------------------------------------------------- transmit

  #poll(): void {
    const poll = this.#regs.get(R.TPPoll.at, 1);
    const { work } = this.#core.seams;
    const on = (this.#cr & CR_TE) !== 0 && (this.#regs.get(R.CPlusCR.at, 2) & CPTX) !== 0;
    const high = on && (poll & HPQ) !== 0;
    const normal = on && (poll & NPQ) !== 0;
    if (high) this.#transmitter.high.activate();
    if (normal) this.#transmitter.normal.activate();
    this.#showPoll();
    if ((poll & (HPQ | NPQ)) !== 0) this.#core.counters[DOORBELLS]!++;
    if ((poll & FSWINT) !== 0) this.#raise(ISR_SWINT);
    if (high) work.request(TX_HIGH_QUEUE);
    if (normal) work.request(TX_QUEUE);
  }

  /** The poll bits stand while their ring has work. */
  #showPoll(): void {
    const { high, normal } = this.#transmitter;
    this.#regs.set(R.TPPoll.at, 1, (high.active ? HPQ : 0) | (normal.active ? NPQ : 0));
  }

  #writeSlot(offset: number, width: AccessWidth, value: number): void {
    const handedOver = this.#slots.write((offset - TSD0.at) >>> 2, offset & 3, width, value);
    this.#showSlots();
    if (!handedOver) return;
    this.#core.counters[DOORBELLS]!++;
    this.#pushSlots();
  }

  #clearAbort(): void {
    if (!this.#slots.clearAbort()) return;
    this.#showSlots();
    this.#pushSlots();
  }

  /**
   * The turn itself looks whether there is something to send, and whether it may. With no slot left it comes at once: there are so few
   * that a driver would wait for a host's poll point after every fourth frame. Measured in v86: 27 000 instructions a frame.
   */
  #pushSlots(): void {
    const { work } = this.#core.seams;
    if (this.#slots.full) work.runNow(SLOT_QUEUE);
    else work.request(SLOT_QUEUE);
  }

  #showSlots(): void {
    const regs = this.#regs;
    const slots = this.#slots;
    if (!this.#cplus) for (let i = 0; i < RTL8139_TX_SLOTS; i++) regs.set(TSD0.at + 4 * i, 4, slots.status(i));
    regs.set(R.TSAD.at, 2, slots.summary);
  }

  runQueue(queue: number, budget: number): number {
    if (queue === RX_QUEUE) {
      this.#receiver.releaseHeld();
      return 0;
    }
    if (queue === SLOT_QUEUE) {
      if ((this.#cr & CR_TE) === 0 || this.#cplus) return 0;
      const used = this.#transmitter.run(this.#slots, budget, TSD0.at);
      this.#ran(this.#slots.stalled);
      this.#showSlots();
      return used;
    }
    const used = this.#transmitter.runRings(queue === TX_HIGH_QUEUE, budget, R.TPPoll.at);
    this.#ran(this.#transmitter.waits);
    this.#showPoll();
    return used;
  }

  #ran(waits: boolean): void {
    if (waits) this.#receiver.wait();
    if (this.#looped && this.#inBuffer) this.#showBuffer(); // what was sent has come back
  }

  get strict(): boolean {
    return this.#core.seams.strictness === "strict";
  }

  get carrier(): boolean {
    return this.#looped || this.#phy.link;
  }

  slotAddress(slot: number): number {
    return this.#regs.get(TSAD0.at + 4 * slot, 4);
  }

  // ---------------------------------------------------------------------------------------------- the cable's end

  attach(far: NetEndpoint | null): void {
    if (far !== null && this.#core.far !== null)
      throw new ConfigError("port-occupied", "a cable is plugged into the card already; expected a free port");
    this.#core.far = far;
    this.#receiver.forget(); // nobody holds a frame for us any more
    this.ready();
  }

  accepts(): EndpointLimits {
    return this.#receiver.limits;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, _queueHint: number): Verdict {
    const verdict = this.#receiver.offer(bytes, start, length, offload);
    if (this.#inBuffer) this.#showBuffer();
    return verdict;
  }

  endBatch(): void {
    this.#core.seams.dma.flush();
    this.#core.interrupts.update();
  }

  /** The far end can take frames again. */
  ready(): void {
    const { work } = this.#core.seams;
    if (this.#transmitter.high.stalled) work.request(TX_HIGH_QUEUE);
    if (this.#transmitter.normal.stalled) work.request(TX_QUEUE);
    if (this.#slots.stalled) work.request(SLOT_QUEUE);
  }

  #showBuffer(): void {
    const regs = this.#regs;
    const buffer = this.#buffer;
    regs.set(R.CBR.at, 2, buffer.cbr);
    regs.set(R.CAPR.at, 2, buffer.capr);
    regs.set(R.CR.at, 1, (regs.get(R.CR.at, 1) & ~CR_BUFE) | (buffer.empty ? CR_BUFE : 0));
  }

  // ---------------------------------------------------------------------------------------------- state

  save(): SavedState {
    return {
      ...this.#core.save(this.#variant.key),
      version: STATE_VERSION,
      timer: this.#timer.save(),
      phy: this.#phy.save(),
      eeprom: this.#eeprom.save(),
      slots: this.#slots.save(),
      transmitter: this.#transmitter.save(),
      buffer: this.#buffer.save(),
      receiver: this.#receiver.save(),
    };
  }

  load(saved: SavedState): void {
    const state = new StateReader(saved, "rtl8139", STATE_VERSION);
    const applyCore = this.#core.check(state, this.#variant.key, OWN_BITS);
    const applyInterrupts = this.#core.interrupts.check(state.object("interrupts"));
    const applyTimer = this.#timer.check(state.object("timer"));
    const applyPhy = this.#phy.check(state.object("phy"));
    const applyEeprom = this.#eeprom.check(state.object("eeprom"));
    const applySlots = this.#slots.check(state.object("slots"));
    const applyTransmitter = this.#transmitter.check(state.object("transmitter"));
    const applyBuffer = this.#buffer.check(state.object("buffer"));
    const applyReceiver = this.#receiver.check(state.object("receiver"));
    // Everything has been checked: nothing below can fail.
    const regs = this.#regs;
    applyCore();
    applyPhy();
    applyEeprom();
    applyInterrupts();
    applyTimer(regs.get(R.TimerInt.at, 4));
    this.#cr = regs.get(R.CR.at, 1) & ~CR_BUFE;
    this.#transmitter.normal.rebase(regs.get(R.TNPDS_L.at, 4), regs.get(R.TNPDS_H.at, 4));
    this.#transmitter.high.rebase(regs.get(R.THPDS_L.at, 4), regs.get(R.THPDS_H.at, 4));
    this.#receiver.ring.rebase(regs.get(R.RDSAR_L.at, 4), regs.get(R.RDSAR_H.at, 4));
    applySlots();
    this.#cplus = (regs.get(R.CPlusCR.at, 2) & (CPTX | CPRX)) !== 0;
    this.#derive();
    applyTransmitter();
    applyBuffer();
    applyReceiver();
    this.#mii.showLink();
    this.#showSlots();
    this.#showBuffer();
  }
}
