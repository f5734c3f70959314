import { hex } from "../bytes/index.js";
import { alignUp, isPowerOfTwo, withinBoundary } from "./align.js";
import { ResourceError } from "./types.js";

/** What is asked of a manager; addresses are inclusive at both ends. */
export interface RmanRequest {
  /** lowest acceptable start; default the manager's own */
  readonly start?: number;
  /** highest acceptable end; default the manager's own */
  readonly end?: number;
  /** how many, at least 1 */
  readonly count: number;
  /** power of two that the start is a multiple of; default 1 */
  readonly alignment?: number;
  /** power of two of which the range crosses no multiple; default 0: none */
  readonly boundary?: number;
  /** may join another shareable reservation of the identical range */
  readonly shareable?: boolean;
  /** for messages, such as `re0` */
  readonly owner: string;
  readonly rid?: number;
}

/** A reserved range. Disposing it releases it. */
export interface RmanResource extends Disposable {
  /** first */
  readonly start: number;
  /** last */
  readonly end: number;
  readonly size: number;
  readonly rid: number;
  readonly shareable: boolean;
  owner: string;
  /** mapped or enabled; the manager only keeps the mark, and takes it off on release */
  active: boolean;
}

class Reservation implements RmanResource {
  span: Span;
  readonly rid: number;
  readonly shareable: boolean;
  owner: string;
  active = false;
  #release: ((self: Reservation) => void) | null;

  constructor(span: Span, request: RmanRequest, release: (self: Reservation) => void) {
    this.span = span;
    this.rid = request.rid ?? 0;
    this.shareable = request.shareable ?? false;
    this.owner = request.owner;
    this.#release = release;
  }

  get start(): number {
    return this.span.start;
  }

  get end(): number {
    return this.span.end;
  }

  get size(): number {
    return this.span.end - this.span.start + 1;
  }

  get released(): boolean {
    return this.#release === null;
  }

  [Symbol.dispose](): void {
    const release = this.#release;
    this.#release = null;
    this.active = false;
    release?.(this);
  }
}

/** A managed range, free while nobody holds it. */
interface Span {
  start: number;
  end: number;
  holders: Reservation[];
}

/**
 * Manages ranges of one kind of resource: ports, addresses, interrupt lines. rman(9)
 *
 * Life: `new Rman` → `manageRegion` for what the machine has → `reserve` and release → `fini`.
 */
export class Rman {
  readonly name: string;
  /** limits, inclusive */
  readonly start: number;
  readonly end: number;
  #spans: Span[] = []; // sorted, disjoint; two free neighbours that touch are one

  /** @throws ResourceError EINVAL */
  constructor(name: string, start = 0, end = Number.MAX_SAFE_INTEGER) {
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || start > end)
      throw new ResourceError("EINVAL", `${name}: limits ${start} … ${end}`);
    this.name = name;
    this.start = start;
    this.end = end;
  }

  /** Adds a region to hand out. @throws ResourceError EINVAL outside the limits, EBUSY when it overlaps another */
  manageRegion(start: number, end: number): void {
    this.#checkBounds(start, end);
    if (start < this.start || end > this.end)
      throw new ResourceError("EINVAL", `${this.name}: ${hex(start)}-${hex(end)} is outside the limits`);
    if (this.#spans.some((span) => span.start <= end && span.end >= start))
      throw new ResourceError("EBUSY", `${this.name}: ${hex(start)}-${hex(end)} is managed already`);
    const at = this.#spans.findIndex((span) => span.start > end);
    this.#spans.splice(at < 0 ? this.#spans.length : at, 0, { start, end, holders: [] });
    this.#merge();
  }

  /** First fit; a shareable request that finds nothing free joins an identical one. @throws ResourceError EINVAL, EBUSY */
  reserve(request: RmanRequest): RmanResource {
    const { start = this.start, end = this.end, count, alignment = 1, boundary = 0, owner } = request;
    this.#checkBounds(start, end);
    if (!Number.isSafeInteger(count) || count < 1)
      throw new ResourceError("EINVAL", `${this.name}: a count of ${count} for ${owner}`);
    if (!isPowerOfTwo(alignment) || (boundary !== 0 && !isPowerOfTwo(boundary)))
      throw new ResourceError(
        "EINVAL",
        `${this.name}: alignment ${alignment}, boundary ${boundary}: not powers of two`,
      );
    const span = this.#free(start, end, count, alignment, boundary) ?? this.#joinable(request, start, end);
    if (span === null) {
      const holder = this.holder(start, end);
      throw new ResourceError(
        "EBUSY",
        `${this.name}: ${hex(count)} in ${hex(start)}-${hex(end)} for ${owner}${holder === null ? "" : `: ${holder} has it`}`,
      );
    }
    const reservation = new Reservation(span, request, (self) => this.#release(self));
    span.holders.push(reservation);
    return reservation;
  }

  /**
   * Grows or shrinks a reservation in place.
   * @throws ResourceError EINVAL when it is shared or the new range does not touch the old, EBUSY on a conflict
   */
  adjust(resource: RmanResource, start: number, end: number): void {
    this.#checkBounds(start, end);
    const span = this.#spanOf(resource);
    if (span.holders.length > 1) throw new ResourceError("EINVAL", `${this.name}: a shared range cannot be adjusted`);
    if (start > span.end || end < span.start)
      throw new ResourceError("EINVAL", `${this.name}: ${hex(start)}-${hex(end)} has nothing of the old range`);
    const at = this.#spans.indexOf(span);
    const before = this.#spans[at - 1];
    const after = this.#spans[at + 1];
    const room = (neighbour: Span | undefined) => neighbour !== undefined && neighbour.holders.length === 0;
    if (start < span.start && !(room(before) && before!.end === span.start - 1 && before!.start <= start))
      throw new ResourceError("EBUSY", `${this.name}: ${hex(start)}-${hex(span.start - 1)} is not free`);
    if (end > span.end && !(room(after) && after!.start === span.end + 1 && after!.end >= end))
      throw new ResourceError("EBUSY", `${this.name}: ${hex(span.end + 1)}-${hex(end)} is not free`);
    const low = Math.min(start < span.start ? before!.start : span.start, span.start);
    const high = Math.max(end > span.end ? after!.end : span.end, span.end);
    const pieces: Span[] = [];
    if (low < start) pieces.push({ start: low, end: start - 1, holders: [] });
    pieces.push(span);
    if (high > end) pieces.push({ start: end + 1, end: high, holders: [] });
    const first = start < span.start ? at - 1 : at;
    const last = end > span.end ? at + 1 : at;
    this.#spans.splice(first, last - first + 1, ...pieces);
    span.start = start;
    span.end = end;
    this.#merge();
  }

  /** Ends management. @throws ResourceError EBUSY while anything is reserved */
  fini(): void {
    const held = this.#spans.find((span) => span.holders.length > 0);
    if (held !== undefined)
      throw new ResourceError(
        "EBUSY",
        `${this.name}: ${held.holders[0]!.owner} has ${hex(held.start)}-${hex(held.end)}`,
      );
    this.#spans = [];
  }

  /** Who holds something in the range, or null. */
  holder(start: number, end: number): string | null {
    for (const span of this.#spans)
      if (span.start <= end && span.end >= start && span.holders.length > 0) return span.holders[0]!.owner;
    return null;
  }

  /** What is managed, ascending; `owners` is empty where it is free. For listings and tests. */
  regions(): { start: number; end: number; owners: string[] }[] {
    return this.#spans.map(({ start, end, holders }) => ({ start, end, owners: holders.map((h) => h.owner) }));
  }

  #free(low: number, high: number, count: number, alignment: number, boundary: number): Span | null {
    for (const [at, span] of this.#spans.entries()) {
      if (span.holders.length > 0) continue;
      let start = alignUp(Math.max(span.start, low), alignment);
      if (!withinBoundary(start, count, boundary)) start = alignUp(alignUp(start, boundary), alignment);
      const end = start + count - 1;
      if (end > Math.min(span.end, high)) continue;
      if (!withinBoundary(start, count, boundary)) continue; // count > boundary
      const taken: Span = { start, end, holders: [] };
      const pieces: Span[] = [];
      if (span.start < start) pieces.push({ start: span.start, end: start - 1, holders: [] });
      pieces.push(taken);
      if (end < span.end) pieces.push({ start: end + 1, end: span.end, holders: [] });
      this.#spans.splice(at, 1, ...pieces);
      return taken;
    }
    return null;
  }

  #joinable({ shareable, count, alignment = 1, boundary = 0 }: RmanRequest, low: number, high: number): Span | null {
    if (shareable !== true) return null;
    return (
      this.#spans.find(
        (span) =>
          span.holders.length > 0 &&
          span.holders[0]!.shareable &&
          span.start >= low &&
          span.end <= high &&
          span.end - span.start + 1 === count &&
          span.start % alignment === 0 &&
          withinBoundary(span.start, count, boundary),
      ) ?? null
    );
  }

  #release(reservation: Reservation): void {
    const { holders } = reservation.span;
    holders.splice(holders.indexOf(reservation), 1);
    if (holders.length === 0) this.#merge();
  }

  #spanOf(resource: RmanResource): Span {
    const span = resource instanceof Reservation && !resource.released ? resource.span : null;
    if (span === null || !this.#spans.includes(span))
      throw new ResourceError("EINVAL", `${this.name}: that range is not reserved here`);
    return span;
  }

  #merge(): void {
    const merged: Span[] = [];
    for (const span of this.#spans) {
      const last = merged.at(-1);
      if (last !== undefined && last.holders.length === 0 && span.holders.length === 0 && last.end === span.start - 1)
        last.end = span.end;
      else merged.push(span);
    }
    this.#spans = merged;
  }

  #checkBounds(start: number, end: number): void {
    if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start > end || start < 0)
      throw new ResourceError("EINVAL", `${this.name}: a range ${start} … ${end}`);
  }
}
