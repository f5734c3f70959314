import type { EndpointLimits, NetEndpoint, NetPort, Verdict } from "../../src/contract/index.js";
import type { V86Cpu, V86Port } from "../../src/hosts/v86/v86.js";

/** Cards that v86 brings along, by v86's names. */
export type BuiltInName = "virtio" | "ne2k";

/** slots of bus 0 in which v86 puts them */
export const BUILT_IN_SLOTS = { virtio: 10, ne2k: 5 } as const satisfies { readonly [name in BuiltInName]: number };

interface Bus {
  send(event: string, value: unknown): void;
}

interface Ne2k {
  readonly boundary: number;
  readonly curpg: number;
  readonly pstart: number;
  readonly pstop: number;
}

interface VirtioNet {
  readonly virtio: { readonly queues: readonly { count_requests(): number; is_configured(): unknown }[] };
}

/** Pages of 256 bytes that a full frame takes in an NE2000's ring, and one more so that it is never full. */
const NE2K_PAGES = 8;
/**
 * Pages that are left free while the guest is busy. Linux takes nine frames at most for one interrupt and acknowledges
 * whatever came meanwhile; what is left in the ring then waits for the next frame, which has to find room.
 */
const NE2K_RESERVE = 8;

const LIMITS: EndpointLimits = {
  csum: false,
  tso4: false,
  tso6: false,
  uso: false,
  longestFrame: 1514,
  holds: false,
};

/**
 * A card of v86's own as the end of a cable, so that it meets the same peer as ours. It is treated as well as it can be: it
 * never gets a frame that it would have to drop, and what it sends is answered for a whole slice of the guest's time at once.
 */
export class BuiltInPort implements NetPort {
  readonly #bus: Bus;
  readonly #room: (idle: boolean) => number;
  #credit = 0; // frames that it will take for sure
  #far: NetEndpoint | null = null;
  #refused = false;
  #sent = false;

  /** @param emulator one with `name` in it */
  constructor(emulator: object, cpu: V86Cpu, name: BuiltInName) {
    const { bus } = emulator as { bus: Bus };
    const { virtio_net, net } = cpu.devices as unknown as { virtio_net: VirtioNet; net: Ne2k };
    this.#bus = bus;
    const ring = virtio_net?.virtio.queues[0];
    this.#room =
      name === "virtio"
        ? () => (ring?.is_configured() ? ring.count_requests() : 0)
        : (idle) => {
            const free = net.boundary - net.curpg + (net.boundary > net.curpg ? 0 : net.pstop - net.pstart);
            return free >= NE2K_PAGES + (idle ? 0 : NE2K_RESERVE) ? 1 : 0;
          };
    (emulator as { add_listener(event: string, listener: (frame: Uint8Array) => void): void }).add_listener(
      "net0-send",
      (frame) => {
        this.#far?.offer(frame, 0, frame.length, null, 0);
        this.#sent = true;
      },
    );
  }

  offer(bytes: Uint8Array, start: number, length: number): Verdict {
    if (this.#credit === 0) this.#credit = this.#room(false);
    if (this.#credit === 0) {
      this.#refused = true;
      return "later";
    }
    this.#credit--;
    this.#bus.send("net0-receive", bytes.subarray(start, start + length)); // copied before it returns
    return "taken";
  }

  /** At every poll point of the guest. @param idle the guest has nothing to do */
  poll(idle: boolean): void {
    this.#credit = this.#room(idle);
    if (this.#refused && this.#credit > 0) {
      this.#refused = false;
      this.#far?.ready(0);
    }
    if (!this.#sent) return;
    this.#sent = false;
    this.#far?.endBatch();
  }

  endBatch(): void {}
  ready(): void {}
  accepts(): EndpointLimits {
    return LIMITS;
  }
  attach(far: NetEndpoint | null): void {
    this.#far = far;
  }
}

const ACCESSES = ["read8", "read16", "read32", "write8", "write16", "write32"] as const;

/** Counts the accesses to the I/O BARs of a card of v86's own, which have no memory BARs. Dispose of it to stop. */
export class BuiltInAccesses implements Disposable {
  count = 0;
  readonly #ports: V86Port[];
  readonly #saved = new Map<number, V86Port>();

  constructor(cpu: V86Cpu, slot: number) {
    this.#ports = cpu.io.ports;
    const { devices } = cpu.devices.pci as unknown as {
      devices: readonly ({ pci_bars: readonly ({ size: number } | undefined)[] } | undefined)[];
    };
    const space = cpu.devices.pci.device_spaces[slot << 3]!;
    for (const [i, bar] of devices[slot << 3]!.pci_bars.entries())
      for (let port = space[4 + i]! & 0xfffc, end = port + (bar?.size ?? 0); port < end; port++) this.#wrap(port);
  }

  #wrap(port: number): void {
    const former = this.#ports[port]!;
    const wrapped = { ...former };
    for (const access of ACCESSES) {
      const method = former[access] as (argument: number) => number;
      wrapped[access] = (argument: number): number => {
        this.count++;
        return method.call(former.device, argument);
      };
    }
    this.#saved.set(port, former);
    this.#ports[port] = wrapped;
  }

  [Symbol.dispose](): void {
    for (const [port, former] of this.#saved) this.#ports[port] = former;
    this.#saved.clear();
  }
}
