import { Socket } from "node:net";
import type { Clock, NetPort } from "../../../contract/index.js";
import { connect, Switch } from "../../../net/index.js";
import {
  connectStream,
  listenStream,
  type StreamAddress,
  type StreamPort,
  type StreamPortOptions,
  streamOn,
} from "../../node/index.js";
import { type DgramAddress, DgramPort } from "./dgram-port.js";
import { Gate } from "./gate.js";
import type { Options } from "./option-string.js";
import { Properties } from "./properties.js";
import { messageOf, StartupError } from "./startup-error.js";

/** What a network card can be plugged into. */
export interface Netdev {
  readonly id: string;
  readonly gate: Gate;
  /** pairs of queues that it is asked to have */
  readonly queues: number;
  /** whether its own far end is there: the card's link follows it */
  readonly linkUp: boolean;
  onLink(listener: (up: boolean) => void): void;
}

const STREAM: StreamPortOptions = { padRunts: true };
const LOCALHOST = "127.0.0.1";

const hostPort = (text: string, owner: string): DgramAddress => {
  const match = /^(.*):(\d+)$/.exec(text);
  const port = Number(match?.[2] ?? Number.NaN);
  if (match === null || !(port <= 0xffff)) throw new StartupError(`${owner}: ${text}; expected HOST:PORT`);
  return { host: match[1] === "" ? LOCALHOST : match[1]!, port };
};

/** `type=inet,host=…,port=…`, `type=unix,path=…` or `type=fd,str=…`, as QEMU's SocketAddress. */
const socketAddress = (properties: Properties): StreamAddress | { readonly fd: number } => {
  const type = properties.oneOf("type", ["inet", "unix", "fd"] as const) ?? "inet";
  let address: StreamAddress | { readonly fd: number };
  if (type === "unix") address = { path: properties.required("path") };
  else if (type === "fd") address = { fd: properties.integer("str", 0, 0xffff) ?? -1 };
  else {
    const port = properties.integer("port", 0, 0xffff);
    if (port === undefined) throw new StartupError(`${properties.owner}: parameter 'port' is missing`);
    address = { host: properties.string("host") ?? LOCALHOST, port };
  }
  properties.ignore("ipv4", "ipv6", "to", "numeric");
  properties.done();
  return address;
};

const inet = (address: StreamAddress | { readonly fd: number }, owner: string): DgramAddress => {
  if (!("port" in address)) throw new StartupError(`${owner}: expected type=inet`);
  return { host: address.host ?? LOCALHOST, port: address.port };
};

/** A socket that whoever started this process had opened. */
const inherited = (fd: number): StreamPort => {
  try {
    return streamOn(new Socket({ fd, readable: true, writable: true }), STREAM);
  } catch (error) {
    throw new StartupError(`descriptor ${fd}: ${messageOf(error)}`);
  }
};

const stream = async (
  address: StreamAddress | { readonly fd: number },
  server: boolean,
  reconnectMs = 0,
): Promise<StreamPort> => {
  if ("fd" in address) return inherited(address.fd);
  try {
    return await (server ? listenStream(address, STREAM) : connectStream(address, { ...STREAM, reconnectMs }));
  } catch (error) {
    throw new StartupError(messageOf(error));
  }
};

/** A netdev that is always there. */
class PlainNetdev implements Netdev {
  readonly id: string;
  readonly gate: Gate;
  readonly queues: number;
  readonly linkUp = true;

  constructor(id: string, port: NetPort | null, queues: number) {
    this.id = id;
    this.gate = new Gate(port);
    this.queues = queues;
  }

  onLink(): void {}
}

/** One that ends in a stream, whose peer may be away. */
class StreamNetdev implements Netdev {
  readonly id: string;
  readonly gate: Gate;
  readonly queues: number;
  readonly #port: StreamPort;

  constructor(id: string, port: StreamPort, queues: number) {
    this.id = id;
    this.gate = new Gate(port);
    this.queues = queues;
    this.#port = port;
  }

  get linkUp(): boolean {
    return this.#port.connected;
  }

  onLink(listener: (up: boolean) => void): void {
    this.#port.onPeer((connected) => listener(connected));
  }
}

/** Ports of a hub; more are refused. */
const HUB_PORTS = 16;
const HUB_FRAME = 65_553;

/** Opens the netdevs of a command line. Hubs join those that name the same number. */
export class NetdevFactory {
  readonly #hubs = new Map<number, { readonly hub: Switch; used: number }>();
  readonly #clock: Clock;
  readonly #all: ReadonlyMap<string, Netdev>;

  /** @param all those that are there already, by id: a hub may take one of them over */
  constructor(clock: Clock, all: ReadonlyMap<string, Netdev>) {
    this.#clock = clock;
    this.#all = all;
  }

  /** @throws StartupError */
  async open(options: Options): Promise<Netdev> {
    const properties = new Properties("-netdev", options);
    const type = properties.required("type");
    const id = properties.required("id");
    const queues = properties.integer("queues", 1, 511) ?? 1;
    let netdev: Netdev;
    switch (type) {
      case "socket":
        netdev = await this.#socket(id, queues, properties);
        break;
      case "stream": {
        const server = properties.boolean("server") ?? false;
        const reconnect = properties.integer("reconnect", 0, 3600) ?? 0;
        const address = socketAddress(properties.group("addr."));
        netdev = new StreamNetdev(id, await stream(address, server, 1000 * reconnect), queues);
        break;
      }
      case "dgram": {
        const local = inet(socketAddress(properties.group("local.")), "-netdev dgram local");
        const remote = inet(socketAddress(properties.group("remote.")), "-netdev dgram remote");
        netdev = new PlainNetdev(id, await DgramPort.open(local, remote), queues);
        break;
      }
      case "hubport":
        netdev = new PlainNetdev(id, this.#hubPort(properties), queues);
        break;
      default:
        throw new StartupError(`-netdev ${type}: there are socket, stream, dgram and hubport`);
    }
    properties.done();
    return netdev;
  }

  async #socket(id: string, queues: number, properties: Properties): Promise<Netdev> {
    const fd = properties.integer("fd", 0, 0xffff);
    if (fd !== undefined) return new StreamNetdev(id, inherited(fd), queues);
    const udp = properties.string("udp");
    if (udp !== undefined) {
      const local = hostPort(properties.required("localaddr"), "-netdev socket localaddr");
      return new PlainNetdev(id, await DgramPort.open(local, hostPort(udp, "-netdev socket udp")), queues);
    }
    const listen = properties.string("listen");
    const address = hostPort(listen ?? properties.required("connect"), "-netdev socket");
    return new StreamNetdev(id, await stream(address, listen !== undefined), queues);
  }

  /** A port of the hub with this number; with `netdev`, that one is plugged into the hub, and the port is the hub's next. */
  #hubPort(properties: Properties): NetPort {
    const number = properties.integer("hubid", 0, 0x7fff_ffff);
    if (number === undefined) throw new StartupError("-netdev hubport: parameter 'hubid' is missing");
    const joined = properties.string("netdev");
    if (joined !== undefined) {
      const other = this.#all.get(joined);
      if (other === undefined) throw new StartupError(`netdev '${joined}' not found`);
      connect(other.gate, this.#nextPort(number));
    }
    return this.#nextPort(number);
  }

  #nextPort(number: number): NetPort {
    const known = this.#hubs.get(number) ?? {
      hub: new Switch({ clock: this.#clock, ports: HUB_PORTS, longestFrame: HUB_FRAME, queueBytes: 2 ** 20 }),
      used: 0,
    };
    this.#hubs.set(number, known);
    if (known.used === HUB_PORTS) throw new StartupError(`hub ${number} has no more than ${HUB_PORTS} ports`);
    return known.hub.port(known.used++);
  }
}
