import { ConfigError, ETHERTYPE_VLAN, etherType } from "../../../bytes/index.js";
import type { EndpointLimits, NetEndpoint, NetPort, Offload, Verdict } from "../../../contract/index.js";
import { OffloadRecord } from "../../../net/index.js";

const TAG_AT = 12;
const TAG_LENGTH = 4;
const ID_MASK = 0xfff;

/**
 * A cable's end with two stations behind: frames with the tag of one VLAN go to the one, without it, and what that sends
 * comes back with it; untagged frames go to the other. Other tags are dropped. IEEE 802.1Q §9
 */
export class VlanTrunk implements NetPort {
  readonly #plain: NetPort;
  readonly #tagged: NetPort;
  readonly #id: number;
  readonly #in = new Uint8Array(0x1_1000);
  readonly #out = new Uint8Array(0x1_1000);
  readonly #offload = new OffloadRecord();
  #far: NetEndpoint | null = null;

  /** @param id 1 … 4094 @throws ConfigError `vlan-id` */
  constructor(plain: NetPort, id: number, tagged: NetPort) {
    if (!(Number.isInteger(id) && id >= 1 && id <= 4094))
      throw new ConfigError("vlan-id", `VLAN ${id}: expected 1 … 4094`);
    this.#plain = plain;
    this.#id = id;
    this.#tagged = tagged;
  }

  offer(bytes: Uint8Array, start: number, length: number, offload: Offload | null, queueHint: number): Verdict {
    if (etherType(bytes, start) !== ETHERTYPE_VLAN) return this.#plain.offer(bytes, start, length, offload, queueHint);
    const id = ((bytes[start + TAG_AT + 2]! << 8) | bytes[start + TAG_AT + 3]!) & ID_MASK;
    if (id !== this.#id || length < TAG_AT + TAG_LENGTH + 2) return "dropped";
    const frame = this.#in;
    frame.set(bytes.subarray(start, start + TAG_AT));
    frame.set(bytes.subarray(start + TAG_AT + TAG_LENGTH, start + length), TAG_AT);
    return this.#tagged.offer(frame, 0, length - TAG_LENGTH, this.#moved(offload, -TAG_LENGTH), queueHint);
  }

  endBatch(): void {
    this.#plain.endBatch();
    this.#tagged.endBatch();
  }

  ready(queueHint: number): void {
    this.#plain.ready(queueHint);
    this.#tagged.ready(queueHint);
  }

  accepts(): EndpointLimits {
    const limits = this.#plain.accepts();
    return { ...limits, longestFrame: limits.longestFrame + TAG_LENGTH };
  }

  attach(far: NetEndpoint | null): void {
    this.#plain.attach(far);
    this.#far = far;
    this.#tagged.attach(far === null ? null : this.#tagger);
  }

  readonly #tagger: NetEndpoint = {
    offer: (bytes, start, length, offload, queueHint) => {
      if (this.#far === null) return "dropped";
      const frame = this.#out;
      frame.set(bytes.subarray(start, start + TAG_AT));
      frame.set([ETHERTYPE_VLAN >>> 8, ETHERTYPE_VLAN & 0xff, this.#id >>> 8, this.#id & 0xff], TAG_AT);
      frame.set(bytes.subarray(start + TAG_AT, start + length), TAG_AT + TAG_LENGTH);
      return this.#far.offer(frame, 0, length + TAG_LENGTH, this.#moved(offload, TAG_LENGTH), queueHint);
    },
    endBatch: () => this.#far?.endBatch(),
    ready: () => {},
    accepts: () => this.#plain.accepts(),
  };

  #moved(offload: Offload | null, by: number): Offload | null {
    if (offload === null) return null;
    this.#offload.set(offload);
    this.#offload.csumStart += by;
    return this.#offload;
  }
}
