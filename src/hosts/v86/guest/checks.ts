import type { GuestCard } from "./cards.js";
import { COMPLAINTS, type Interview } from "./interview.js";
import { type Rig, type RigCard, VLAN, VLAN_NET } from "./rig.js";
import { Transfers } from "./transfer.js";

/** A statement about a card under Linux. */
export interface Check {
  readonly name: string;
  /** left out of CI's selection */
  readonly onlyAll?: boolean;
  /** why it does not apply to this card; null where it does */
  readonly skip?: (card: RigCard) => string | null;
  /** @returns a word for the table @throws Failure */
  readonly run: (rig: Rig, card: RigCard) => Promise<string>;
}

/** A check that did not hold, in one line. */
export class Failure extends Error {
  override readonly name = "Failure";
}

const hold = (condition: boolean, complaint: string): void => {
  if (!condition) throw new Failure(complaint);
};

/** What the drivers say when they bound, after Linux 6.1. */
const PROBE_LINES: { readonly [driver in GuestCard["driver"]]: RegExp } = {
  r8169: /eth\d: RTL8(169|110)[a-z/0-9]*, 52:54:00/,
  "8139cp": /8139cp.*eth\d: RTL-8139C\+ at/,
  "8139too": /8139too.*eth\d: RealTek RTL8139 at/,
  virtio_net: /virtio_net virtio\d|virtio-pci 0000:00/,
};

/** What a driver of Linux 6.1 does wrong and our cards tell of, while they bear it. */
const KNOWN_MISTAKES: { readonly [driver in GuestCard["driver"]]: readonly string[] } = {
  r8169: [],
  "8139cp": [],
  // On chips before the 8139B it wakes the chip through CONFIG1 without unlocking it ("Old chip wakeup").
  "8139too": ["config-locked"],
  virtio_net: [],
};

/** Offloads that the drivers offer to Linux without being asked, after Linux 6.1, in the words of `ethtool -k`. */
const OFFLOADS: { readonly [driver in GuestCard["driver"]]: readonly string[] } = {
  r8169: ["rx-checksumming: on", "tx-checksum-ipv4: on", "rx-vlan-offload: on", "tx-vlan-offload: on"],
  "8139cp": ["rx-checksumming: on", "tx-checksum-ipv4: on", "tx-tcp-segmentation: on", "rx-vlan-offload: on"],
  "8139too": ["tx-checksum-ip-generic: on [fixed]"], // by the driver, while it copies
  virtio_net: ["rx-checksumming: on [fixed]", "tx-checksum-ip-generic: on", "tx-tcp-segmentation: on", "rx-gro-hw: on"],
};

/** Linux leaves the tags in what an RTL8169SC receives, for a mistake of that chip under load. */
const offloadsOf = ({ name, driver }: RigCard): readonly string[] =>
  name === "8169sc"
    ? OFFLOADS[driver].map((line) => line.replace("rx-vlan-offload: on", "rx-vlan-offload: off [fixed]"))
    : OFFLOADS[driver];

/** What is asked of a driver in `ethtool -K` before it sends a second time, and whether segments then leave it whole. */
const SWITCHES: {
  readonly [driver in GuestCard["driver"]]: { readonly words: string; readonly whole: boolean } | null;
} = {
  r8169: { words: "sg on tso on", whole: true }, // off at first: Linux does not trust old chips
  "8139cp": { words: "tso off", whole: false },
  "8139too": null,
  virtio_net: { words: "tx off tso off", whole: false },
};

/** Frames by the chip's own tally counters, in the words of `ethtool -S`; null: the driver reads none. */
const TALLIES: { readonly [driver in GuestCard["driver"]]: { readonly tx: string; readonly rx: string } | null } = {
  r8169: { tx: "tx_packets", rx: "rx_packets" },
  "8139cp": { tx: "tx_ok", rx: "rx_ok" },
  "8139too": null,
  virtio_net: null,
};

const slotName = ({ slot }: RigCard): string => `0000:00:${slot.toString(16).padStart(2, "0")}.0`;

const pinged = async (guest: Interview, address: string, count: number, options = ""): Promise<string> => {
  const output = await guest.lines(`ping -c ${count} -i 0.2 -W 2 ${options} ${address}`);
  const summary = output.find((line) => line.includes("packets transmitted")) ?? output.join("; ");
  hold(summary.includes(`${count} packets received`), summary);
  return /= [\d.]+\/([\d.]+)/.exec(output.at(-1) ?? "")?.[1] ?? "";
};

/** Loads a driver, and finds the card's interface. */
const find = async ({ guest }: Rig, card: RigCard): Promise<void> => {
  card.ifname = await guest.interfaceOf(card);
  hold(
    card.ifname !== "",
    `no interface at ${slotName(card)}; dmesg: ${(await guest.lines("dmesg | tail -n 3")).join(" | ")}`,
  );
};

const up = async ({ guest }: Rig, card: RigCard): Promise<void> =>
  hold(await guest.bringUp(card.ifname, card), `${card.ifname} has no carrier`);

/** Waits until a transfer has moved so much, or does no more. */
const moved = async (transfers: Transfers, bytes: number): Promise<void> => {
  for (let left = 3000; transfers.moved < bytes && left > 0; left--)
    await new Promise((resolve) => setTimeout(resolve, 10));
};

/** bytes of a transfer in whose middle the guest is saved, and of one in which its interface goes down */
const IN_BETWEEN = 4 << 20;
const UNDER_LOAD = 8 << 20;
const LONG = 1400; // bytes of a ping that nearly fills a frame

export const CHECKS: readonly Check[] = [
  {
    name: "probe",
    run: async (rig, card) => {
      await find(rig, card);
      const driver = await rig.guest.line(`basename $(readlink -f /sys/class/net/${card.ifname}/device/driver)`);
      hold(driver === card.driver, `bound by ${driver}, expected ${card.driver}`);
      const log = await rig.guest.lines("dmesg");
      const line = log.find((text) => PROBE_LINES[card.driver].test(text));
      if (card.driver !== "virtio_net") hold(line !== undefined, `no line of ${card.driver} in dmesg`);
      return /XID [0-9a-f]+/.exec(line ?? "")?.[0] ?? card.ifname;
    },
  },
  {
    name: "mac",
    run: async ({ guest }, card) => {
      const mac = await guest.line(`cat /sys/class/net/${card.ifname}/address`);
      const expected = [...card.card.mac].map((octet) => octet.toString(16).padStart(2, "0")).join(":");
      hold(mac === expected, `${mac}, expected ${expected}`);
      return "ok";
    },
  },
  {
    name: "link",
    run: async (rig, card) => {
      await up(rig, card);
      card.card.setLink(false);
      await rig.guest.run("true");
      const pulled = await rig.guest.line(
        `for i in $(seq 60); do grep -q 0 /sys/class/net/${card.ifname}/carrier && break; usleep 200000; done; cat /sys/class/net/${card.ifname}/carrier`,
      );
      card.card.setLink(true);
      const back = await rig.guest.bringUp(card.ifname, card);
      hold(pulled === "0", `carrier ${pulled} with the cable pulled`);
      hold(back, "no carrier after the cable came back");
      const speed = await rig.guest.line(`cat /sys/class/net/${card.ifname}/speed 2>/dev/null`);
      return Number(speed) > 0 ? `${speed} Mb` : "ok";
    },
  },
  {
    name: "jumbo",
    skip: ({ peer }) => (peer.mtu <= 1500 ? "the peer's frames end at 1514 bytes" : null),
    run: async ({ guest, transferSize }, { ifname, peer, card, transfers, peerAddress }) => {
      const set = await guest.run(`ip link set ${ifname} mtu ${peer.mtu}`); // and it stays so for all that follows
      hold(set.status === 0, set.output.trim());
      hold(await guest.linked(ifname), "no carrier with this MTU");
      const before = card.counters();
      for (const { ok, detail } of [
        await transfers.toGuest(guest, peerAddress, transferSize),
        await transfers.toHost(guest, peerAddress, transferSize),
      ])
        hold(ok, detail);
      const after = card.counters();
      const longest = Math.floor((after.rxBytes - before.rxBytes) / (after.rxFrames - before.rxFrames));
      return `MTU ${peer.mtu}, ${longest} bytes a received frame`;
    },
  },
  {
    name: "ping",
    run: async ({ guest }, card) => {
      const time = await pinged(guest, card.peerAddress, 3);
      const arp = await guest.line(`grep '^${card.peerAddress} ' /proc/net/arp`);
      hold(arp.includes(card.peerMac), `ARP says ${arp || "nothing"}, expected ${card.peerMac}`);
      return `${time} ms`;
    },
  },
  {
    name: "long ping",
    run: async ({ guest }, card) => `${await pinged(guest, card.peerAddress, 3, `-s ${LONG}`)} ms`,
  },
  {
    name: "tcp in",
    run: async ({ guest, transferSize }, { transfers, peerAddress }) => {
      const { ok, detail } = await transfers.toGuest(guest, peerAddress, transferSize);
      hold(ok, detail);
      return detail;
    },
  },
  {
    name: "tcp out",
    run: async ({ guest, transferSize }, { transfers, peerAddress, peer }) => {
      const { ok, detail } = await transfers.toHost(guest, peerAddress, transferSize);
      hold(ok, detail);
      const { damaged, retransmissions } = peer.counters();
      hold(damaged === 0, `${damaged} segments with a wrong checksum`);
      hold(retransmissions <= 3, `${retransmissions} retransmissions by the peer`);
      return detail;
    },
  },
  {
    name: "offloads",
    run: async ({ guest, transferSize }, card) => {
      const { driver, ifname, transfers, peerAddress, peer } = card;
      const features = async (): Promise<string[]> => (await guest.lines(`ethtool -k ${ifname}`)).map((l) => l.trim());
      const jumbo = driver === "r8169" && peer.mtu > 1500; // there it neither sums nor segments
      const first = await features();
      const missing = offloadsOf(card).filter((line) => !jumbo && !first.includes(line));
      hold(missing.length === 0, `ethtool -k lacks ${missing.join(", ")}`);
      const change = jumbo ? null : SWITCHES[driver];
      if (change === null) return "by the driver itself";
      const on = change.words.replaceAll(/\b(on|off)\b/g, (word) => (word === "on" ? "off" : "on"));
      await guest.run(`ethtool -K ${ifname} ${change.words}`);
      const whole = (await features()).includes("tx-tcp-segmentation: on");
      hold(whole === change.whole, `ethtool -K ${change.words}: tx-tcp-segmentation is ${whole ? "on" : "off"}`);
      const before = peer.counters();
      const { ok, detail } = await transfers.toHost(guest, peerAddress, Math.min(transferSize, 4 << 20));
      hold(ok, detail);
      const after = peer.counters();
      hold(after.damaged === before.damaged, `${after.damaged - before.damaged} segments with a wrong checksum`);
      const segments = after.wholeIn - before.wholeIn;
      const expected = change.whole && peer.accepts().tso4;
      hold(segments > 0 === expected, `${segments} segments came uncut with ${change.words}`);
      await guest.run(`ethtool -K ${ifname} ${on}`);
      return `${change.words}: ${detail}`;
    },
  },
  {
    name: "ethtool",
    run: async (rig, { driver, ifname, card, peerAddress }) => {
      const { guest } = rig;
      const settings = (await guest.lines(`ethtool ${ifname}`)).map((line) => line.trim());
      hold(settings.includes("Link detected: yes"), "no link");
      if (driver === "virtio_net") return "link";
      const speed = driver === "r8169" ? "1000Mb/s" : "100Mb/s";
      for (const line of [`Speed: ${speed}`, "Duplex: Full", "Auto-negotiation: on"])
        hold(settings.includes(line), `no "${line}" in ${settings.join("; ")}`);
      const tally = TALLIES[driver];
      if (tally !== null) {
        const counts = async (): Promise<[number, number]> => {
          const lines = await guest.lines(`ethtool -S ${ifname}`);
          const count = (name: string) => Number(lines.find((l) => l.trim().startsWith(`${name}:`))?.split(":")[1]);
          return [count(tally.tx), count(tally.rx)];
        };
        const [tx, rx] = await counts();
        const before = card.counters();
        await pinged(guest, peerAddress, 5);
        const [txAfter, rxAfter] = await counts();
        const after = card.counters();
        const said = `${txAfter - tx} out, ${rxAfter - rx} in`;
        const were = `${after.txFrames - before.txFrames} out, ${after.rxFrames - before.rxFrames} in`;
        hold(said === were, `tally counters: ${said}; there were ${were}`);
      }
      const again = await guest.run(`ethtool -r ${ifname}`);
      hold(again.status === 0, `ethtool -r: ${again.output.trim()}`);
      await guest.run("sleep 1");
      hold(await guest.linked(ifname), "no carrier after negotiating again");
      await pinged(guest, peerAddress, 1);
      return tally === null ? "link, negotiated again" : "link, tally counters, negotiated again";
    },
  },
  {
    name: "vlan",
    run: async ({ guest }, card) => {
      const name = `${card.ifname}.${VLAN}`;
      const made = await guest.run(
        `load 8021q; vconfig add ${card.ifname} ${VLAN} >/dev/null && ip addr add ${VLAN_NET}.15/24 dev ${name} && ip link set ${name} up`,
      );
      hold(made.status === 0, made.output.trim());
      try {
        const time = await pinged(guest, `${VLAN_NET}.2`, 3, `-s ${LONG}`);
        // Where the card takes tags out and puts them in: the same with tags that the driver sees.
        const both = ["r8169", "8139cp"].includes(card.driver);
        if (!both) return `${time} ms`;
        await guest.run(`ethtool -K ${card.ifname} rxvlan off txvlan off`);
        await pinged(guest, `${VLAN_NET}.2`, 2, `-s ${LONG}`);
        await guest.run(`ethtool -K ${card.ifname} rxvlan on txvlan on`);
        return `${time} ms, with the tags in the card and in the frames`;
      } finally {
        await guest.run(`vconfig rem ${name} >/dev/null`);
      }
    },
  },
  {
    name: "filter",
    run: async ({ guest }, { ifname, card, peerAddress }) => {
      // The peer's frames to another station: kept out, until the interface is promiscuous.
      const stray = new Uint8Array(60);
      stray.set([0x52, 0x54, 0, 0x99, 0x99, 0x99, 0x52, 0x55, 0x0a, 0, 2, 2, 0x88, 0xb5]);
      // The group of all nodes that share the last three octets of an IPv6 address: Linux joins with the address.
      const group = stray.slice();
      group.set([0x33, 0x33, 0xff, 0x34, 0x56, 0x78]);
      const address = `fd00::1234:5678/64 dev ${ifname}`;
      const received = async (): Promise<number> =>
        Number(await guest.line(`cat /sys/class/net/${ifname}/statistics/rx_packets`));
      /** how many of five frames the card let in; Linux must have them all */
      const seen = async (frame: Uint8Array): Promise<number> => {
        const linux = await received();
        const before = card.counters().rxFrames;
        for (let i = 0; i < 5; i++) card.net.offer(frame, 0, frame.length, null, 0);
        card.net.endBatch();
        await guest.run("usleep 100000");
        const count = card.counters().rxFrames - before;
        const counted = (await received()) - linux;
        hold(counted >= count, `${count} frames came in, Linux counts ${counted}`);
        return count;
      };
      const plain = await seen(stray);
      await guest.run(`ip link set ${ifname} promisc on`);
      const promiscuous = await seen(stray);
      await guest.run(`ip link set ${ifname} promisc off`);
      const again = await seen(stray);
      await guest.run(`ifconfig ${ifname} allmulti`);
      const all = await seen(group);
      await guest.run(`ifconfig ${ifname} -allmulti`);
      const outside = await seen(group);
      await guest.run(`ip -6 addr add ${address}`);
      const joined = await seen(group);
      await guest.run(`ip -6 addr del ${address}`);
      const left = await seen(group);
      hold(plain === 0 && again === 0, `${plain} and ${again} of 5 frames for another station came through`);
      hold(promiscuous >= 5, `${promiscuous} of 5 frames while promiscuous`);
      hold(all >= 5, `${all} of 5 multicasts with allmulti`);
      hold(joined >= 5, `${joined} of 5 multicasts to a group that was joined`);
      hold(outside === 0 && left === 0, `${outside} and ${left} of 5 to a group not yet joined, and left`);
      await pinged(guest, peerAddress, 1);
      return "ok";
    },
  },
  {
    name: "save/restore",
    run: async (rig, card) => {
      const { transfers, peerAddress } = card;
      transfers.moved = 0;
      const moving = transfers.toGuest(rig.guest, peerAddress, IN_BETWEEN);
      await moved(transfers, 1 << 20);
      await rig.move();
      const { ok, detail } = await moving;
      hold(ok, detail);
      await pinged(rig.guest, peerAddress, 2);
      return `${detail}, by way of another emulator`;
    },
  },
  {
    name: "save/restore while sending",
    onlyAll: true,
    run: async (rig, { transfers, peerAddress }) => {
      transfers.moved = 0;
      const moving = transfers.toHost(rig.guest, peerAddress, IN_BETWEEN);
      await moved(transfers, 1 << 20);
      await rig.move();
      const { ok, detail } = await moving;
      hold(ok, detail);
      return `${detail}, by way of another emulator`;
    },
  },
  {
    name: "interrupts",
    run: async ({ guest }) => {
      // What no handler took for its own; the kernel shuts a line up when 99 900 of 100 000 are such ("nobody cared").
      const unhandled = Number((await guest.line("grep ^unhandled /proc/irq/11/spurious")).split(" ")[1]);
      const count = Number(/11:\s+(\d+)/.exec(await guest.line("grep ' 11:' /proc/interrupts"))?.[1]);
      hold(count > 0, "no interrupt came");
      hold(unhandled <= count / 10 + 10, `${unhandled} of ${count} interrupts were nobody's`);
      const wrong = await guest.line("grep ERR: /proc/interrupts");
      hold(/ERR:\s+0$/.test(wrong.trimEnd()), `interrupts from nowhere: ${wrong}`);
      return `${unhandled} of ${count} interrupts nobody's`;
    },
  },
  {
    name: "down in load",
    run: async (rig, { ifname, transfers, peerAddress }) => {
      // Down after a quarter, up again a second later.
      const bytes = `cat /sys/class/net/${ifname}/statistics/rx_bytes`;
      const quarter = `while [ $(($(${bytes}) - first)) -lt ${UNDER_LOAD >> 2} ]; do usleep 10000; done`;
      const flap = `first=$(${bytes}); (${quarter}; ip link set ${ifname} down; sleep 1; ip link set ${ifname} up) & `;
      const { ok, detail } = await transfers.toGuest(rig.guest, peerAddress, UNDER_LOAD, flap);
      hold(ok, detail);
      return detail;
    },
  },
  {
    name: "down/up",
    run: async (rig, card) => {
      for (let i = 0; i < 3; i++) {
        await rig.guest.run(
          `ping -c 20 -i 0.05 ${card.peerAddress} >/dev/null & ip link set ${card.ifname} down; wait`,
        );
        await up(rig, card);
      }
      await pinged(rig.guest, card.peerAddress, 2);
      return "ok";
    },
  },
  {
    name: "reload",
    run: async (rig, card) => {
      const module = card.driver.replaceAll("-", "_");
      const out = await rig.guest.run(`unload ${module}`);
      hold(out.status === 0, `rmmod: ${out.output.trim()}`);
      hold((await rig.guest.interfaceOf(card)) === "", "the interface stayed");
      const back = await rig.guest.run(`load ${module}`);
      hold(back.status === 0, `insmod: ${back.output.trim()}`);
      await find(rig, card);
      await up(rig, card);
      await pinged(rig.guest, card.peerAddress, 2);
      return "ok";
    },
  },
  {
    name: "quiet",
    run: async ({ guest, cards, diagnostics }) => {
      const log = await guest.lines("dmesg");
      const complaints = log.filter((line) => COMPLAINTS.test(line));
      hold(complaints.length === 0, complaints.join(" | "));
      const known = cards.flatMap(({ driver }) => KNOWN_MISTAKES[driver]);
      const own = diagnostics
        .filter(({ code }) => !known.includes(code))
        .map(({ source, code, value }) => `${source}: ${code} (${value})`);
      hold(own.length === 0, own.join(" | "));
      return "ok";
    },
  },
];

/** Boots the guest anew in the middle of transfers: BIOS and Linux find the cards again, and both of them work. */
const reboot = (name: string, how: "guest" | "host"): Check => ({
  name,
  onlyAll: how === "host",
  run: async (rig) => {
    const { guest, cards, transferSize } = rig;
    rig.part();
    const bootId = (): Promise<string> => guest.line("cat /proc/sys/kernel/random/boot_id");
    const before = await bootId();
    for (const { transfers, peerAddress } of cards) await transfers.flood(guest, peerAddress, 64 << 20);
    for (const { transfers } of cards) await moved(transfers, 1 << 18);
    await guest.guest.reboot(how, { timeoutMs: 300_000 });
    hold((await bootId()) !== before, "it is the boot of before");
    for (const { peer } of cards) peer[Symbol.dispose](); // it has connections to a guest that is gone
    const times: string[] = [];
    for (const card of cards) {
      await find(rig, card);
      await up(rig, card);
      times.push(await pinged(guest, card.peerAddress, 3));
    }
    const results = await Transfers.allToGuest(
      guest,
      cards.map(({ transfers, peerAddress }) => ({ transfers, address: peerAddress })),
      transferSize,
    );
    for (const [i, { ok, detail }] of results.entries()) hold(ok, `${cards[i]!.ifname}: ${detail}`);
    return `up again, ${times.join(", ")} ms, ${results.map(({ detail }) => detail).join(", ")}`;
  },
});

/** The checks of several cards in one guest. */
export const TOGETHER: readonly Check[] = [
  {
    name: "probe",
    run: async (rig) => {
      for (const card of rig.cards) {
        await find(rig, card);
        await up(rig, card);
      }
      return rig.cards.map(({ ifname, driver }) => `${ifname} ${driver}`).join(", ");
    },
  },
  {
    name: "ping",
    run: async ({ guest, cards }) => {
      const times: string[] = [];
      for (const { peerAddress } of cards) times.push(await pinged(guest, peerAddress, 3));
      return `${times.join(", ")} ms`;
    },
  },
  {
    name: "tcp at once",
    run: async ({ guest, cards, transferSize }) => {
      const results = await Transfers.allToGuest(
        guest,
        cards.map(({ transfers, peerAddress }) => ({ transfers, address: peerAddress })),
        transferSize,
      );
      for (const [i, { ok, detail }] of results.entries()) hold(ok, `${cards[i]!.ifname}: ${detail}`);
      return results.map(({ detail }) => detail).join(", ");
    },
  },
  {
    name: "crossing",
    run: async (rig) => {
      // The second card goes into a network of its own, so that the way from the first one leads through the switch.
      rig.join();
      const [, second] = rig.cards;
      const inside = (line: string): string => `nsenter -t $other -n ${line}`;
      const address = "10.0.2.99";
      const made = await rig.guest.run(
        `unshare -n sleep 600 & other=$!; usleep 500000; ip link set ${second!.ifname} netns $other && ${inside(`ip addr add ${address}/24 dev ${second!.ifname}`)} && ${inside(`ip link set ${second!.ifname} up`)}`,
      );
      hold(made.status === 0, made.output.trim());
      await rig.guest.run("sleep 3");
      const time = await pinged(rig.guest, address, 3);
      const blocks = rig.transferSize >> 20;
      const send = `i=0; while [ $i -lt ${blocks} ]; do cat /tmp/block; i=$((i+1)); done`;
      const [sent, got] = await rig.guest.lines(
        `(${send}) | md5sum; ${inside(`nc -l -p 5003 -e sh -c 'md5sum >/tmp/crossed'`)} & usleep 500000; nc ${address} 5003 -e sh -c '${send}'; for i in $(seq 50); do [ -s /tmp/crossed ] && break; usleep 200000; done; cat /tmp/crossed`,
      );
      hold(sent === got, `sent ${sent}, got ${got}`);
      return `${time} ms`;
    },
  },
  reboot("reboot", "guest"),
  reboot("reset", "host"),
  {
    name: "interrupts",
    run: async ({ guest, cards }) => {
      const lines = await guest.lines("cat /proc/interrupts");
      const line = lines.find((text) =>
        cards.every(({ ifname, driver }) => text.includes(driver === "virtio_net" ? "virtio" : ifname)),
      );
      hold(line !== undefined, `not on one line: ${lines.filter((text) => /eth|virtio/.test(text)).join(" | ")}`);
      return (line ?? "").trim().replaceAll(/\s+/g, " ");
    },
  },
  CHECKS.at(-1)!,
];
