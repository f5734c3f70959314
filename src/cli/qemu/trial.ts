/** A check that did not hold; its message says how. */
export class CheckFailure extends Error {
  override readonly name = "CheckFailure";
}

/** What became of one check; `failure` is null when it held. */
export interface Outcome {
  readonly check: string;
  readonly failure: string | null;
}

/** Runs checks in order. After one that failed the others run all the same: their state may still be good. */
export const runChecks = (checks: readonly (readonly [name: string, run: () => void])[]): Outcome[] =>
  checks.map(([check, run]) => {
    try {
      run();
      return { check, failure: null };
    } catch (error) {
      return { check, failure: error instanceof CheckFailure ? error.message : String(error) };
    }
  });

/** Waits for something that a machine is to do. @throws CheckFailure when `ms` have really passed without it */
export const until = (done: () => boolean, turn: () => void, ms: number, what: () => string): void => {
  for (const end = performance.now() + ms; !done(); turn())
    if (performance.now() > end) throw new CheckFailure(`${what()} within ${ms} ms`);
};

const hexBytes = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, 24)).toString("hex");

/** Compares frames in order. @throws CheckFailure that names the first byte that differs */
export const sameFrames = (got: readonly Uint8Array[], want: readonly Uint8Array[]): void => {
  for (const [i, frame] of want.entries()) {
    const other = got[i];
    if (other === undefined) throw new CheckFailure(`${got.length} of ${want.length} frames arrived`);
    if (Buffer.compare(frame, other) === 0) continue;
    if (frame.length !== other.length)
      throw new CheckFailure(`frame ${i}: ${other.length} bytes in place of ${frame.length}: ${hexBytes(other)}…`);
    const at = frame.findIndex((byte, n) => byte !== other[n]);
    throw new CheckFailure(
      `frame ${i} of ${frame.length} bytes differs from byte ${at} on: ${hexBytes(other.subarray(at))}…`,
    );
  }
  if (got.length > want.length) throw new CheckFailure(`${got.length - want.length} frames too many arrived`);
};
