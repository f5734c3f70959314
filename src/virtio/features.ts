/** 64 feature bits as two unsigned words; immutable. VIRTIO 1.3 §2.2, §6 */
export class FeatureSet {
  static readonly NONE = new FeatureSet(0, 0);
  /** bits 31–0 */
  readonly lo: number;
  /** bits 63–32 */
  readonly hi: number;

  constructor(lo: number, hi: number) {
    this.lo = lo >>> 0;
    this.hi = hi >>> 0;
  }

  /** @param bits bit numbers, 0 … 63 */
  static of(...bits: readonly number[]): FeatureSet {
    let lo = 0;
    let hi = 0;
    for (const bit of bits)
      if (bit < 32) lo |= 1 << bit;
      else hi |= 1 << (bit - 32);
    return new FeatureSet(lo, hi);
  }

  has(bit: number): boolean {
    return bit < 32 ? (this.lo & (1 << bit)) !== 0 : bit < 64 && (this.hi & (1 << (bit - 32))) !== 0;
  }

  and(other: FeatureSet): FeatureSet {
    return new FeatureSet(this.lo & other.lo, this.hi & other.hi);
  }

  or(other: FeatureSet): FeatureSet {
    return new FeatureSet(this.lo | other.lo, this.hi | other.hi);
  }

  without(other: FeatureSet): FeatureSet {
    return new FeatureSet(this.lo & ~other.lo, this.hi & ~other.hi);
  }

  get isEmpty(): boolean {
    return this.lo === 0 && this.hi === 0;
  }

  /** The 32 bits that a feature select register names; 0 beyond the last. */
  word(select: number): number {
    if (select === 0) return this.lo;
    return select === 1 ? this.hi : 0;
  }

  /** With the 32 bits that `select` names replaced; as it is when `select` names none. */
  withWord(select: number, value: number): FeatureSet {
    if (select === 0) return new FeatureSet(value, this.hi);
    return select === 1 ? new FeatureSet(this.lo, value) : this;
  }
}
