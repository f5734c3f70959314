import { bits } from "../../regs/index.js";
import { RTL8169_DECLARATIONS as R, RTL8169_TX_OPTS1 } from "../../spec/rtl8169.js";
import type { TxOffload } from "../types.js";
import {
  ETHER_CRC_LEN,
  ETHER_HDR_LEN,
  ETHER_VLAN_ENCAP_LEN,
  IFCAP_RXCSUM,
  IFCAP_TSO4,
  IFCAP_TXCSUM,
  IFCAP_VLAN_HWTAGGING,
  NO_VLAN,
} from "./ifnet.js";

/* What the chips do for their driver: checksums, segments and tags, and how they are told. */

export const RE_OFFLOADS = IFCAP_RXCSUM | IFCAP_TXCSUM | IFCAP_TSO4 | IFCAP_VLAN_HWTAGGING;

/** MulRW, and the two low bits, which enable the rings of the C+ and do no harm on the others. */
const CPLUS_CONFIG = bits(R.CPlusCR.fields.MulRW) | bits(R.CPlusCR.fields.INTTmode);
const CPLUS_RXCHKSUM = bits(R.CPlusCR.fields.RxChkSum);
const CPLUS_RXVLAN = bits(R.CPlusCR.fields.RxVLAN);
const IPCS = bits(RTL8169_TX_OPTS1.IPCS);
const TX_TCP = IPCS | bits(RTL8169_TX_OPTS1.TCPCS); // without IPCS the others have no effect
const TX_UDP = IPCS | bits(RTL8169_TX_OPTS1.UDPCS);
const LGSEN = bits(RTL8169_TX_OPTS1.LGSEN);
const MSS_SHIFT = RTL8169_TX_OPTS1.MSS[1];
/** payload bytes of a segment */
const MSS_MAX = bits(RTL8169_TX_OPTS1.MSS) >>> MSS_SHIFT;
/** With longer frames a segment might not fit MSS: RL_TSO_MTU. */
export const TSO_MTU = MSS_MAX - ETHER_HDR_LEN - ETHER_CRC_LEN;
/** bytes that the chip gathers for one packet */
const TSO_MAX = 0x1_0000;
/** Where TCP and UDP have their checksum, bytes from the start of their header. */
const TCP_SUM = 16;
const UDP_SUM = 6;
/** Answer of `txCommand` for a frame that is not to be sent. */
export const CANNOT = -1;

/** C+CR: what the chip does to received frames is switched here. @param capenable IFCAP_* bits */
export const cplusCommand = (capenable: number): number =>
  CPLUS_CONFIG |
  ((capenable & IFCAP_RXCSUM) !== 0 ? CPLUS_RXCHKSUM : 0) |
  ((capenable & IFCAP_VLAN_HWTAGGING) !== 0 ? CPLUS_RXVLAN : 0);

/** Offload bits of opts1 for a frame, 0 for none, or CANNOT: too long or too short, or with what is not in use. */
export const txCommand = (
  bytes: number,
  offload: TxOffload | null,
  vlan: number,
  capenable: number,
  mtu: number,
): number => {
  const longest = ETHER_HDR_LEN + ETHER_VLAN_ENCAP_LEN + mtu;
  if (bytes < ETHER_HDR_LEN || (vlan !== NO_VLAN && (capenable & IFCAP_VLAN_HWTAGGING) === 0)) return CANNOT;
  if (offload === null) return bytes <= longest ? 0 : CANNOT;
  const { csumStart, csumOffset, gso, gsoSize, hdrLen, ecn } = offload;
  if ((capenable & IFCAP_TXCSUM) === 0 || csumStart + csumOffset + 2 > bytes) return CANNOT;
  if (gso === "none") {
    if (bytes > longest || (csumOffset !== TCP_SUM && csumOffset !== UDP_SUM)) return CANNOT;
    return csumOffset === TCP_SUM ? TX_TCP : TX_UDP;
  }
  if (gso !== "tcp4" || (capenable & IFCAP_TSO4) === 0) return CANNOT;
  // The chip copies CWR into every segment, RFC 3168 wants it in the first only.
  if (ecn || gsoSize < 1 || gsoSize > MSS_MAX || hdrLen + gsoSize > longest || bytes > TSO_MAX) return CANNOT;
  return LGSEN | (gsoSize << MSS_SHIFT);
};
