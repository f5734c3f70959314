import type { EndpointLimits, Offload } from "../contract/index.js";

/** The kinds of segmentation, in the order of their numbers in saved states. */
export const GSO_KINDS = ["none", "tcp4", "tcp6", "udp"] as const satisfies readonly Offload["gso"][];

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

/** Whether the bytes that an offload points at lie in the frame. VIRTIO 1.2 §5.1.6.2 */
export const offloadFits = (offload: Offload, length: number): boolean =>
  !offload.needsCsum ||
  (offload.csumStart >= 0 && offload.csumOffset >= 0 && offload.csumStart + offload.csumOffset + 2 <= length);

/** Whether an endpoint takes a frame with this offload as it is. `gso` implies the checksum: every segment needs its own. */
export const takesOffload = (limits: EndpointLimits, offload: Offload): boolean => {
  if (offload.needsCsum && !limits.csum) return false;
  if (offload.gso === "none") return true;
  if (offload.gso === "tcp4") return limits.tso4;
  return offload.gso === "tcp6" ? limits.tso6 : limits.uso;
};

/** Limits of an endpoint that takes every offload as it is. */
export const TAKES_ALL: EndpointLimits = {
  csum: true,
  tso4: true,
  tso6: true,
  uso: true,
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
  longestFrame = 0;
  holds = false;

  /** @returns itself */
  set(from: EndpointLimits, holds: boolean): this {
    this.csum = from.csum;
    this.tso4 = from.tso4;
    this.tso6 = from.tso6;
    this.uso = from.uso;
    this.longestFrame = from.longestFrame;
    this.holds = holds;
    return this;
  }
}
