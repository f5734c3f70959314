/** One line of a recorded conversation; which fields there are depends on `op`. See fixtures/qtest-traces/README.md. */
export interface RecordedEvent {
  readonly op: string;
  readonly addr?: string;
  readonly size?: number;
  readonly value?: string;
  /** hexadecimal bytes in address order */
  readonly data?: string;
  readonly num?: number;
  readonly level?: number;
  readonly nic?: number;
  readonly dir?: string;
  /** ns; null: to the next deadline */
  readonly ns?: number | null;
  readonly clock?: number;
  readonly args?: readonly string[];
  readonly text?: string;
  /** with `start`: the version that QEMU prints of itself, and the command that made the recording */
  readonly qemu?: string;
  readonly command?: string;
  readonly status?: number;
}
