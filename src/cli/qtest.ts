import { parseCommandLine, type ServerHost, StartupError, startServer } from "../hosts/qtest/server/index.js";
import { QTEST_CARDS } from "./qtest-cards.js";

const HELP = `usage: barwire qtest [--as=qemu-system-x86_64] [QEMU options]

Stands in for a QEMU: answers QEMU's qtest protocol and QMP in front of this package's machine, an i440FX and PIIX3 with
128 MiB of RAM. Any program that is written against libqtest or libqos can drive it:

  QTEST_QEMU_BINARY='npx barwire qtest --as=qemu-system-x86_64' ./qos-test

Machine
  -machine pc|none  -m SIZE  -smp N  -S  -accel qtest
Connections
  -qtest unix:PATH[,server=on] | tcp:HOST:PORT[,server=on] | stdio | chardev:ID     -qtest-log FILE
  -qmp as -qtest             -mon chardev=ID,mode=control   -object qtest,id=NAME,chardev=ID
  -chardev socket,id=ID,path=PATH[,server=on] | socket,id=ID,host=H,port=P[,server=on] | pipe,id=ID,path=PATH | stdio,id=ID
Cards (-device NAME,key=value,… or JSON; also by QMP's device_add)
${Object.entries(QTEST_CARDS)
  .map(([name, { title }]) => `  ${name.padEnd(16)} ${title}`)
  .join("\n")}
  each: id=, addr=SLOT[.0]; network cards: netdev=, mac=; rtl8139, rtl8169: chip=, mtu=
  virtio: disable-legacy=, disable-modern=, vectors=, packed=, queue_reset=, in_order=, notification_data=, and on|off for
  event_idx indirect_desc any_layout notify_on_empty
  virtio-net-pci: mq= (as many pairs as the netdev's queues=), rss=, hash=, host_mtu=, speed=, duplex=, rx_queue_size=,
  tx_queue_size=, tx=timer|bh, x-txtimer=, and on|off for csum guest_csum gso host_tso4 guest_tso4 … mrg_rxbuf status
  ctrl_vq ctrl_rx ctrl_vlan ctrl_rx_extra ctrl_mac_addr ctrl_guest_offloads guest_announce
  virtio-blk-pci: drive=, serial=, queue-size=, num-queues=, logical_block_size=, discard=, write-zeroes=, config-wce=
Networks (-netdev TYPE,id=ID,…)
  socket fd= | connect= | listen= | udp=,localaddr=     stream addr.type=unix|inet|fd,…,server=
  dgram local.…,remote.…                                hubport hubid=[,netdev=]
Disks
  -drive if=none,id=ID,file=FILE,format=raw             -blockdev driver=file|raw|null-co,node-name=ID,…
Else
  -d guest_errors   prints what the guest does wrong
  --help            print this

It ends with status 0 when the far end of a socket leaves, or on SIGTERM; an option it does not know is refused with
status 1.`;

const HOST: ServerHost = {
  exit: (status) => process.exit(status),
  print: (line) => console.error(line),
};

/** Serves until the far end leaves. @returns the exit status, when it could not begin */
export const qtest = async (args: string[]): Promise<number> => {
  if (args.includes("--help") || args.includes("-help") || args.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => process.exit(0));
  try {
    const config = parseCommandLine(args);
    await startServer(config, QTEST_CARDS, HOST);
    if (config.qtest === null && config.monitors.length === 0)
      throw new StartupError("nobody can talk to it: -qtest, -qmp or -mon is missing (see --help)");
    return 0;
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    console.error(`barwire qtest: ${error.message}`);
    process.exit(1);
  }
};
