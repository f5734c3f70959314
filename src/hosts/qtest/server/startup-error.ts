/** Something on the command line that cannot be had: one line on stderr, and status 1. Also what QMP answers with `error`. */
export class StartupError extends Error {
  override readonly name = "StartupError";
}

/** What went wrong, in one line. */
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
