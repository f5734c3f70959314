/**
 * virtio-net: the paravirtual network card, legacy, transitional or modern.
 *
 * Life: `virtioNet(options)` → `net.attach(far end)` → plugged into a slot (`connect`) → a driver negotiates and sets
 * DRIVER_OK → notifications send frames to the far end, `net.offer` puts frames into the driver's buffers, `endBatch`
 * interrupts → `setLink`, `counters`, `save`/`load` → `disconnect`.
 */
import { ConfigError, parseMac } from "../../src/bytes/index.js";
import type { NetPort, Nic, NicCounters } from "../../src/contract/index.js";
import { VIRTIO_NET_MAX_MTU, VIRTIO_NET_MIN_MTU } from "../../src/spec/virtio-net.js";
import { type Personality, VirtioPciFunction, type VirtioPciOptions } from "../../src/virtio/index.js";
import { VirtioNetModel } from "./model.js";

/** As QEMU's first card. */
const DEFAULT_MAC = "52:54:00:12:34:56";
/** SeaBIOS and old iPXE take no larger ones. */
const DEFAULT_QUEUE_SIZE = 256;
const DEFAULT_CONTROL_SIZE = 64;

export interface VirtioNetOptions extends VirtioPciOptions {
  /** six bytes, or such as `52:54:00:12:34:56`, which is the default */
  readonly mac?: string | Uint8Array;
  /** "legacy", "transitional" (default) or "modern" */
  readonly personality?: Personality;
  /** descriptors of receive and transmit queue; a power of two, 1 … 32768; default 256 each */
  readonly queueSize?: number | { readonly rx?: number; readonly tx?: number };
  /** bytes of payload, 68 … 65535; offers VIRTIO_NET_F_MTU. Not offered by default */
  readonly mtu?: number;
}

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

  counters(): NicCounters {
    return this.#model.counters(this.core.doorbells, this.core.interrupts);
  }
}

/**
 * A virtio network card, ready to plug into a slot.
 * @throws ConfigError `mac-address`, `virtio-net-mtu`, `virtio-queue-size`, `virtio-vectors`, `virtio-personality`
 */
export function virtioNet(options: VirtioNetOptions = {}): VirtioNetFunction {
  const { mac = DEFAULT_MAC, queueSize = DEFAULT_QUEUE_SIZE, mtu } = options;
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= VIRTIO_NET_MIN_MTU && mtu <= VIRTIO_NET_MAX_MTU))
    throw new ConfigError("virtio-net-mtu", `virtio-net: MTU ${mtu}; expected 68 … 65535`);
  const both = typeof queueSize === "number" ? queueSize : DEFAULT_QUEUE_SIZE;
  const { rx = both, tx = both } = typeof queueSize === "number" ? {} : queueSize;
  const model = new VirtioNetModel(parseMac(mac), { rx, tx, control: DEFAULT_CONTROL_SIZE }, mtu ?? null);
  return new VirtioNetFunction(model, options);
}
