import { formatMac } from "../../src/bytes/index.js";
import { type Contestant, PKTGEN } from "./contestant.js";
import type { Span } from "./peer.js";

/** One measurement. */
export interface Sample {
  /** packets/s, bytes/s, or ms */
  readonly value: number;
  /** s of processor time per unit of `frames` or, with TCP, per byte; 0 where it means nothing */
  readonly cpu: number;
  /** frames that it moved, or what would be frames on a cable that takes none longer than 1514 bytes */
  readonly frames: number;
  /**
   * s of processor time that it took: on a busy machine a better measure of how much was done than the time; or a third of
   * the time, where the guest mostly waits
   */
  readonly seconds: number;
}

export interface Workload {
  /** as for `--rows` */
  readonly name: string;
  readonly title: string;
  readonly unit: "packets/s" | "MB/s" | "ms";
  /** @param size packets or bytes; see `firstSize` */
  run(contestant: Contestant, size: number): Promise<Sample>;
  /** packets or bytes for the first time; then as many as take about as long as wanted */
  readonly firstSize: number;
  /** sizes are multiples of it */
  readonly step: number;
  /** most of its code runs in no row before it */
  readonly fresh: boolean;
}

const MSS = 1460;
const BLOCK = 1 << 16;
const PINGS = 10;
const BURST = 32;

const sizeOf = (cpuSeconds: number, seconds: number): number => Math.max(cpuSeconds, seconds / 3);

const sample = ({ started, ended, cpu }: Span, units: number, frames: number): Sample => {
  const [cpuSeconds, seconds] = [cpu / 1e6, (ended - started) / 1000];
  return { value: units / seconds, cpu: cpuSeconds / units, frames, seconds: sizeOf(cpuSeconds, seconds) };
};

/** tenths of a second */
const PATIENCE = 600;
const RESULT = /OK: (\d+)\(.*\n *(\d+)pps/;

/**
 * The kernel's packet generator sends one packet again and again from one thread; its own clock counts, until the driver has
 * given the last one back. A burst is announced to the driver as such (`xmit_more`).
 */
const pktgen = (length: number, burst: number): Workload => ({
  name: `tx${length}${burst > 1 ? "b" : ""}`,
  title: `send ${length}, ${burst > 1 ? `bursts of ${burst}` : "one by one"}`,
  unit: "packets/s",
  firstSize: 64 * BURST,
  step: BURST,
  fresh: false,
  async run(contestant, packets) {
    const { peer, ifname, entry } = contestant;
    const mac = formatMac(peer.tcp.mac);
    const words = [
      `count ${packets}`,
      `pkt_size ${length}`,
      `burst ${burst}`,
      "delay 0",
      `clone_skb ${packets}`,
      `dst_mac ${mac}`,
    ];
    await contestant.run(words.map((word) => `echo ${word} >${PKTGEN}/${ifname}`).join(" && "));
    peer.count(true);
    const before = process.cpuUsage();
    await contestant.run(`echo start >${PKTGEN}/pgctrl`);
    let report = "";
    let us: string | undefined;
    let used = { user: 0, system: 0 };
    // "start" gives up waiting when the generator does not begin within an eighth of a second.
    for (let tries = 0; us === undefined; tries++) {
      if (tries === PATIENCE) throw new Error(`${entry.title}: pktgen says ${report}`);
      if (tries > 0) await contestant.run("usleep 100000");
      used = process.cpuUsage(before);
      report = await contestant.run(`cat ${PKTGEN}/${ifname}`);
      us = RESULT.exec(report)?.[1];
    }
    const { frames } = peer;
    peer.count(false);
    if (frames < packets) throw new Error(`${entry.title}: ${frames} of ${packets} packets arrived`);
    const [cpuSeconds, seconds] = [(used.user + used.system) / 1e6, Number(us) / 1e6];
    return {
      value: packets / seconds,
      cpu: cpuSeconds / packets,
      frames: packets,
      seconds: sizeOf(cpuSeconds, seconds),
    };
  },
});

/** Frames of an EtherType that nobody in the guest wants, put in as fast as the card takes them. */
const receive = (length: number): Workload => ({
  name: `rx${length}`,
  title: `receive ${length}`,
  unit: "packets/s",
  firstSize: 4096,
  step: 1,
  fresh: length === 60,
  async run(contestant, packets) {
    const span = await contestant.peer.pour(contestant.mac, packets, length);
    return sample(span, packets, packets);
  },
});

const tcp = (toGuest: boolean): Workload => ({
  name: toGuest ? "tcp-in" : "tcp-out",
  title: toGuest ? "TCP host to guest" : "TCP guest to host",
  unit: "MB/s",
  firstSize: 2 << 20,
  step: BLOCK,
  fresh: true,
  async run(contestant, size) {
    const { span, sinkPort, sourcePort } = contestant.peer.transfer(size);
    const { ip } = contestant.peer.tcp;
    const job = toGuest ? "dd of=/dev/null bs=64k" : `dd if=/dev/zero bs=64k count=${size / BLOCK}`;
    await contestant.run(`nc ${ip.join(".")} ${toGuest ? sourcePort : sinkPort} -e ${job} 2>/dev/null`);
    return sample(await span, size, Math.ceil(size / MSS));
  },
});

/** Echo requests of a guest that does nothing else, ten a second. */
const ping: Workload = {
  name: "ping",
  title: "ping, idle",
  unit: "ms",
  firstSize: 1,
  step: 1,
  fresh: false,
  async run(contestant) {
    const output = await contestant.run(`ping -c ${PINGS} -i 0.1 ${contestant.peer.tcp.ip.join(".")}`);
    const average = /= [\d.]+\/([\d.]+)\//.exec(output)?.[1];
    if (average === undefined) throw new Error(`${contestant.entry.title}: ping says ${output}`);
    return { value: Number(average), cpu: 0, frames: 2 * PINGS, seconds: PINGS / 10 };
  },
};

export const WORKLOADS: readonly Workload[] = [
  pktgen(60, 1),
  pktgen(1514, 1),
  pktgen(60, BURST),
  pktgen(1514, BURST),
  receive(60),
  receive(1514),
  tcp(false),
  tcp(true),
  ping,
];
