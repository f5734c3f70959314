/**
 * virtio-net: the paravirtual network card, legacy, transitional or modern.
 *
 * Life: `virtioNet(options)` → `net.attach(far end)` → plugged into a slot (`connect`) → a driver negotiates and sets
 * DRIVER_OK → notifications send frames to the far end, `net.offer` puts frames into the driver's buffers, `endBatch`
 * interrupts → `setLink`, `announce`, `counters`, `save`/`load` → `disconnect`.
 */
import { ConfigError, parseMac } from "../../src/bytes/index.js";
import type { NetPort, Nic, NicCounters } from "../../src/contract/index.js";
import { VIRTIO_NET_MAX_MTU, VIRTIO_NET_MIN_MTU, VIRTIO_NET_PREREQUISITES } from "../../src/spec/virtio-net.js";
import { type Personality, VirtioPciFunction, type VirtioPciOptions } from "../../src/virtio/index.js";
import type { OffloadOptions } from "./features.js";
import { VirtioNetModel } from "./model.js";
import type { TxDelay } from "./tx.js";

export type { OffloadOptions } from "./features.js";

/** As QEMU's first card. */
const DEFAULT_MAC = "52:54:00:12:34:56";
/** SeaBIOS and old iPXE take no larger ones. */
const DEFAULT_QUEUE_SIZE = 256;
const DEFAULT_CONTROL_SIZE = 64;
/** With a control queue they are 1023 queues: QEMU has 1024, and no more doorbells fit into a page. */
const MAX_PAIRS = 511;

/**
 * When frames leave that a driver notified of. `immediate`: whenever the host works the queue; the other two wait on top of
 * that. `deferred`: until the host's clock next fires timers, as QEMU's `tx=bh`. A timer: for `delayNs`, in ns, or until the
 * driver notifies once more, as QEMU's `tx=timer`, whose delay was 150 000 ns in 2010.
 */
export type TxPolicy = "immediate" | "deferred" | { readonly kind: "timer"; readonly delayNs: number };

export interface VirtioNetOptions extends VirtioPciOptions {
  /** six bytes, or such as `52:54:00:12:34:56`, which is the default */
  readonly mac?: string | Uint8Array;
  /** "legacy", "transitional" (default) or "modern" */
  readonly personality?: Personality;
  /** descriptors of receive and transmit queue; a power of two, 1 … 32768; default 256 each */
  readonly queueSize?: number | { readonly rx?: number; readonly tx?: number };
  /** bytes of payload, 68 … 65535; offers VIRTIO_NET_F_MTU. Not offered by default */
  readonly mtu?: number;
  /** checksum and segmentation offloads, all (the default), none, or those that are not named false */
  readonly offloads?: boolean | OffloadOptions;
  /** Mbit/s, 0 … 2³¹−1; offers VIRTIO_NET_F_SPEED_DUPLEX. Unknown where only `duplex` is given */
  readonly speed?: number;
  /** default "full"; offers VIRTIO_NET_F_SPEED_DUPLEX */
  readonly duplex?: "full" | "half";
  /** pairs of a receive and a transmit queue, 1 … 511; from 2 on, VIRTIO_NET_F_MQ is offered. Default 1 */
  readonly queuePairs?: number;
  /** offers VIRTIO_NET_F_RSS to modern drivers: receive queues chosen by hash and table. Default false, as QEMU */
  readonly rss?: boolean;
  /** offers VIRTIO_NET_F_HASH_REPORT to modern drivers: hashes in the headers of received frames. Default false, as QEMU */
  readonly hash?: boolean;
  /** offers VIRTIO_NET_F_NOTF_COAL and VIRTIO_NET_F_VQ_NOTF_COAL to modern drivers. Default false */
  readonly notfCoal?: boolean;
  /** default "immediate" */
  readonly txPolicy?: TxPolicy;
}

const SPEED_UNKNOWN = 0xffff_ffff;
const DUPLEX_FULL = 1;
const DUPLEX_HALF = 0;

const speedOf = ({ speed, duplex }: VirtioNetOptions) => {
  if (speed === undefined && duplex === undefined) return null;
  if (speed !== undefined && !(Number.isInteger(speed) && speed >= 0 && speed <= 0x7fff_ffff))
    throw new ConfigError("virtio-net-speed", `virtio-net: speed ${speed}; expected Mbit/s, 0 … 2147483647`);
  if (duplex !== undefined && duplex !== "full" && duplex !== "half")
    throw new ConfigError("virtio-net-duplex", `virtio-net: duplex ${String(duplex)}; expected full or half`);
  return { mbps: speed ?? SPEED_UNKNOWN, duplex: duplex === "half" ? DUPLEX_HALF : DUPLEX_FULL };
};

/** null: at once. */
const delayOf = (policy: TxPolicy): TxDelay | null => {
  if (policy === "immediate") return null;
  if (policy === "deferred") return { delayNs: 0, impatient: false };
  const delayNs = policy?.kind === "timer" ? policy.delayNs : Number.NaN;
  if (!(Number.isSafeInteger(delayNs) && delayNs > 0))
    throw new ConfigError(
      "virtio-net-tx-policy",
      `virtio-net: transmit policy ${typeof policy === "string" ? policy : `with a delay of ${delayNs} ns`}; ` +
        `expected immediate, deferred, or a timer with delayNs above 0`,
    );
  return { delayNs, impatient: true };
};

/** The card in its slot. */
export class VirtioNetFunction extends VirtioPciFunction implements Nic {
  readonly #model: VirtioNetModel;

  constructor(model: VirtioNetModel, options: VirtioPciOptions) {
    super(model, options);
    this.#model = model;
  }

  get net(): NetPort {
    return this.#model;
  }

  get mac(): Uint8Array {
    return this.#model.mac;
  }

  get linkUp(): boolean {
    return this.#model.linkUp;
  }

  setLink(up: boolean): void {
    this.#model.setLink(up);
  }

  /**
   * Asks the driver to make itself known on the net: after a restore elsewhere, where switches do not know it.
   * @returns false when it cannot be asked: no DRIVER_OK, or GUEST_ANNOUNCE was not accepted
   */
  announce(): boolean {
    return this.#model.announce();
  }

  counters(): NicCounters {
    return this.#model.counters(this.core.doorbells, this.core.interrupts);
  }
}

/** These bits, and those that nothing is left of what they need. VIRTIO 1.3 §5.1.3.1 */
const withWhatNeedsThem = (bits: readonly number[]): number[] => {
  const withheld = new Set(bits);
  for (let before = -1; before !== withheld.size; ) {
    before = withheld.size;
    for (const [bit, anyOf] of VIRTIO_NET_PREREQUISITES)
      if (anyOf.every((need) => withheld.has(need))) withheld.add(bit);
  }
  return [...withheld];
};

/**
 * A virtio network card, ready to plug into a slot.
 * @throws ConfigError `mac-address`, `virtio-net-mtu`, `virtio-net-offloads`, `virtio-net-speed`, `virtio-net-duplex`, `virtio-net-queue-pairs`, `virtio-net-tx-policy`, `virtio-queue-size`, `virtio-vectors`, `virtio-withhold`, `virtio-personality`
 */
export function virtioNet(options: VirtioNetOptions = {}): VirtioNetFunction {
  const { mac = DEFAULT_MAC, queueSize = DEFAULT_QUEUE_SIZE, mtu, queuePairs = 1, txPolicy = "immediate" } = options;
  const { rss = false, hash = false, notfCoal = false, personality } = options;
  if (!(Number.isInteger(queuePairs) && queuePairs >= 1 && queuePairs <= MAX_PAIRS))
    throw new ConfigError(
      "virtio-net-queue-pairs",
      `virtio-net: ${queuePairs} pairs of queues; expected 1 … ${MAX_PAIRS}`,
    );
  if (personality === "legacy" && (rss || hash || notfCoal))
    throw new ConfigError("virtio-personality", "virtio-net: rss, hash, notfCoal: only modern drivers can see that");
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= VIRTIO_NET_MIN_MTU && mtu <= VIRTIO_NET_MAX_MTU))
    throw new ConfigError("virtio-net-mtu", `virtio-net: MTU ${mtu}; expected 68 … 65535`);
  const { rx = DEFAULT_QUEUE_SIZE, tx = DEFAULT_QUEUE_SIZE } =
    typeof queueSize === "object" ? queueSize : { rx: queueSize, tx: queueSize };
  const model = new VirtioNetModel({
    mac: parseMac(mac),
    sizes: { rx, tx, control: DEFAULT_CONTROL_SIZE },
    mtu: mtu ?? null,
    speed: speedOf(options),
    offloads: options.offloads ?? true,
    pairs: queuePairs,
    rss,
    hash,
    notfCoal,
    txDelay: delayOf(txPolicy),
  });
  return new VirtioNetFunction(model, { ...options, withhold: withWhatNeedsThem(options.withhold ?? []) });
}
