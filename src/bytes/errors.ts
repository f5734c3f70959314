/** Hexadecimal for messages: `0xfebc0000`. */
export const hex = (value: number): string => (value < 0 ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);

/**
 * An embedder's mistake, thrown at construction or plug-in, before anything has changed.
 * `code` is kebab-case and stable; the message names the offending value and what was expected.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A saved state that does not fit: other version, topology, shape or range. Nothing has been applied. */
export class StateError extends Error {
  override readonly name = "StateError";
  /** where in the state, for example `machine.functions[0].queues[1].size` */
  readonly path: string;
  constructor(path: string, message: string) {
    super(`${path}: ${message}`);
    this.path = path;
  }
}
