/** What went wrong between us and a QEMU. */
export type QtestErrorCode =
  /** there is no such program; the message names Debian's package */
  | "qemu-missing"
  /** it ended, or said nothing, before it answered its first request; the message has what it printed */
  | "qemu-start"
  /** it ended later */
  | "qemu-gone"
  /** it did not answer in time, and was ended */
  | "timeout"
  /** it answered FAIL, ERR, or QMP's `error` */
  | "refused";

/** A failure of the far side, or of the way there; `code` says which. */
export class QtestError extends Error {
  override readonly name = "QtestError";
  readonly code: QtestErrorCode;

  constructor(code: QtestErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
