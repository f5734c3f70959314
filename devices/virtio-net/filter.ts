import { ETHER_ADDR_LEN, ETHERTYPE_VLAN, isBroadcast, type StateReader, sameMac } from "../../src/bytes/index.js";
import type { SavedState } from "../../src/contract/index.js";

/** Addresses that fit; with more, all of the kind are accepted, which is permitted. QEMU: MAC_TABLE_ENTRIES */
const TABLE_ENTRIES = 64;
const VLAN_IDS = 4096;

/** Which frames for the driver pass. VIRTIO 1.3 §5.1.6.5.1 … 5.1.6.5.3 */
export class ReceiveFilter {
  /** the address in the device configuration */
  readonly mac: Uint8Array;
  promisc = true; // drivers count on it after reset
  allmulti = false;
  alluni = false;
  nomulti = false;
  nouni = false;
  nobcast = false;
  /** set when more unicast addresses were given than fit */
  uniOverflow = false;
  multiOverflow = false;
  readonly #table = new Uint8Array(TABLE_ENTRIES * ETHER_ADDR_LEN); // unicast first, multicast behind
  #unicast = 0;
  #multicast = 0;
  readonly #vlans = new Uint32Array(VLAN_IDS / 32);

  constructor(mac: Uint8Array) {
    this.mac = Uint8Array.from(mac);
  }

  /** @param mac the permanent address */
  reset(mac: Uint8Array): void {
    this.mac.set(mac);
    this.promisc = true;
    this.allmulti = this.alluni = this.nomulti = this.nouni = this.nobcast = false;
    this.uniOverflow = this.multiOverflow = false;
    this.#unicast = this.#multicast = 0;
    this.filterVlans(false);
  }

  /** Starts with no VLAN permitted (CTRL_VLAN was accepted), or permits all. */
  filterVlans(on: boolean): void {
    this.#vlans.fill(on ? 0 : 0xffff_ffff);
  }

  /** @param id 0 … 4095 */
  permitVlan(id: number, permitted: boolean): void {
    const bit = 1 << (id & 31);
    if (permitted) this.#vlans[id >>> 5]! |= bit;
    else this.#vlans[id >>> 5]! &= ~bit;
  }

  /**
   * Replaces both tables. @param unicast, multicast numbers of addresses given
   * @param fetch copies the addresses of a kind to the table: called for those that fit
   */
  setTables(
    unicast: number,
    multicast: number,
    fetch: (kind: "unicast" | "multicast", target: Uint8Array, at: number) => void,
  ): void {
    this.uniOverflow = unicast > TABLE_ENTRIES;
    this.#unicast = this.uniOverflow ? 0 : unicast;
    if (!this.uniOverflow) fetch("unicast", this.#table, 0);
    this.multiOverflow = this.#unicast + multicast > TABLE_ENTRIES;
    this.#multicast = this.multiOverflow ? 0 : multicast;
    if (!this.multiOverflow) fetch("multicast", this.#table, this.#unicast * ETHER_ADDR_LEN);
  }

  /** @param length bytes, 14 or more */
  accepts(bytes: Uint8Array, start: number, length: number): boolean {
    if (this.promisc) return true; // before the VLAN filter, as QEMU
    if (length >= 16 && ((bytes[start + 12]! << 8) | bytes[start + 13]!) === ETHERTYPE_VLAN) {
      const id = ((bytes[start + 14]! << 8) | bytes[start + 15]!) & 0xfff;
      if ((this.#vlans[id >>> 5]! & (1 << (id & 31))) === 0) return false;
    }
    if ((bytes[start]! & 1) !== 0) {
      if (isBroadcast(bytes, start)) return !this.nobcast;
      if (this.nomulti) return false;
      if (this.allmulti || this.multiOverflow) return true;
      return this.#inTable(bytes, start, this.#unicast, this.#unicast + this.#multicast);
    }
    if (this.nouni) return false;
    if (this.alluni || this.uniOverflow || sameMac(bytes, start, this.mac)) return true;
    return this.#inTable(bytes, start, 0, this.#unicast);
  }

  save(): SavedState {
    const { mac, promisc, allmulti, alluni, nomulti, nouni, nobcast, uniOverflow, multiOverflow } = this;
    return {
      mac: Uint8Array.from(mac),
      promisc,
      allmulti,
      alluni,
      nomulti,
      nouni,
      nobcast,
      uniOverflow,
      multiOverflow,
      table: Uint8Array.from(this.#table),
      unicast: this.#unicast,
      multicast: this.#multicast,
      vlans: [...this.#vlans],
    };
  }

  /** Checks a saved state. @returns what applies it; @throws StateError */
  loader(state: StateReader): () => void {
    const mac = Uint8Array.from(state.bytes("mac", ETHER_ADDR_LEN));
    const promisc = state.boolean("promisc");
    const allmulti = state.boolean("allmulti");
    const alluni = state.boolean("alluni");
    const nomulti = state.boolean("nomulti");
    const nouni = state.boolean("nouni");
    const nobcast = state.boolean("nobcast");
    const uniOverflow = state.boolean("uniOverflow");
    const multiOverflow = state.boolean("multiOverflow");
    const table = Uint8Array.from(state.bytes("table", this.#table.length));
    const unicast = state.integer("unicast", 0, TABLE_ENTRIES);
    const multicast = state.integer("multicast", 0, TABLE_ENTRIES - unicast);
    const vlans = state.integers("vlans", 0, 0xffff_ffff, this.#vlans.length);
    return () => {
      this.mac.set(mac);
      this.promisc = promisc;
      this.allmulti = allmulti;
      this.alluni = alluni;
      this.nomulti = nomulti;
      this.nouni = nouni;
      this.nobcast = nobcast;
      this.uniOverflow = uniOverflow;
      this.multiOverflow = multiOverflow;
      this.#table.set(table);
      this.#unicast = unicast;
      this.#multicast = multicast;
      this.#vlans.set(vlans);
    };
  }

  #inTable(bytes: Uint8Array, start: number, first: number, end: number): boolean {
    for (let i = first; i < end; i++) if (sameMac(bytes, start, this.#table, i * ETHER_ADDR_LEN)) return true;
    return false;
  }
}
