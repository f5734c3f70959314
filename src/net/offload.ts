import type { EndpointLimits, Offload } from "../contract/index.js";

/** The kinds of segmentation, in the order of their numbers in saved states. */
export const GSO_KINDS = ["none", "tcp4", "tcp6", "udp", "udpfrag"] as const satisfies readonly Offload["gso"][];

/** An `Offload` to be filled again and again: senders keep one, so that a frame costs no object. */
export class OffloadRecord implements Offload {
  needsCsum = false;
  csumStart = 0;
  csumOffset = 0;
  dataValid = false;
  gso: Offload["gso"] = "none";
  gsoSize = 0;
  ecn = false;

  set(from: Offload): void {
    this.needsCsum = from.needsCsum;
    this.csumStart = from.csumStart;
    this.csumOffset = from.csumOffset;
    this.dataValid = from.dataValid;
    this.gso = from.gso;
    this.gsoSize = from.gsoSize;
    this.ecn = from.ecn;
  }
}

/**
 * Whether an offload makes sense: the bytes that it points at lie in the frame, and segments have a size.
 * VIRTIO 1.2 §5.1.6.2
 */
export const offloadFits = (offload: Offload, length: number): boolean =>
  (offload.gso === "none" || (offload.gsoSize >= 1 && offload.gsoSize <= 0xffff)) &&
  (!offload.needsCsum ||
    (offload.csumStart >= 0 && offload.csumOffset >= 0 && offload.csumStart + offload.csumOffset + 2 <= length));

const UDP_CSUM_OFFSET = 6;
const BOOTPS = 67;
const BOOTPC = 68;

/**
 * Whether the open checksum is that of DHCP over IPv4. Clients and servers read it from a raw socket, before the system
 * has completed anything, and take an open checksum for a wrong one: VIO-257.
 * @param offload one that `offloadFits`, with `needsCsum`
 */
export const isDhcp = (bytes: Uint8Array, start: number, offload: Offload): boolean => {
  if (offload.csumOffset !== UDP_CSUM_OFFSET) return false;
  const udp = start + offload.csumStart;
  const source = (bytes[udp]! << 8) | bytes[udp + 1]!;
  const destination = (bytes[udp + 2]! << 8) | bytes[udp + 3]!;
  return (source === BOOTPS || source === BOOTPC) && (destination === BOOTPS || destination === BOOTPC);
};

/** Whether an endpoint takes a frame with this offload as it is. `gso` implies the checksum: every segment needs its own. */
export const takesOffload = (limits: EndpointLimits, offload: Offload): boolean => {
  if (offload.needsCsum && !limits.csum) return false;
  if (offload.gso === "none") return true;
  if (offload.ecn && limits.ecn === false) return false;
  if (offload.gso === "tcp4") return limits.tso4;
  if (offload.gso === "tcp6") return limits.tso6;
  return offload.gso === "udp" ? limits.uso : limits.ufo === true;
};

/** Limits of an endpoint that takes every offload as it is. */
export const TAKES_ALL: EndpointLimits = {
  csum: true,
  tso4: true,
  tso6: true,
  uso: true,
  ufo: true,
  longestFrame: Number.MAX_SAFE_INTEGER,
  holds: true,
};

/** Limits of a place where nothing is plugged in: whatever comes is dropped, so nothing is worth finishing for it. */
export const NOTHING_PLUGGED: EndpointLimits = { ...TAKES_ALL, holds: false };

/** An `EndpointLimits` to be filled again and again, for who answers in another's name. */
export class LimitsRecord implements EndpointLimits {
  csum = false;
  tso4 = false;
  tso6 = false;
  uso = false;
  ufo = false;
  ecn = true;
  longestFrame = 0;
  holds = false;

  /** @returns itself */
  set(from: EndpointLimits, holds: boolean): this {
    this.csum = from.csum;
    this.tso4 = from.tso4;
    this.tso6 = from.tso6;
    this.uso = from.uso;
    this.ufo = from.ufo === true;
    this.ecn = from.ecn !== false;
    this.longestFrame = from.longestFrame;
    this.holds = holds;
    return this;
  }
}
