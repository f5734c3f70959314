/**
 * The lab as a web page: npm run lab:web (--help tells the options).
 *
 * Exit status: 2 wrong usage, a busy port, or something is missing; 1 the guest or the page could not be built.
 */
import { UsageError } from "../../../cli/index.js";
import { buildGuest } from "../guest/terminal.js";
import { HELP, parseOptions } from "./options.js";
import { serveLab } from "./serve.js";

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options === null) {
    process.stdout.write(HELP);
    return 0;
  }
  const built = await buildGuest();
  if (built !== 0) return built;
  await using server = await serveLab(options);
  const { url } = server;
  process.stdout.write(options.json ? `${JSON.stringify({ url })}\n` : `The lab is at ${url} (Control-C ends it)\n`);
  await new Promise<void>((resolve) => {
    process.once("SIGINT", resolve);
    process.once("SIGTERM", resolve);
  });
  return 0;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isBusy = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
  if (!(error instanceof UsageError || isBusy)) throw error;
  const message = isBusy
    ? `${(error as Error).message}; another port: --port`
    : `${(error as Error).message} (--help tells the usage)`;
  process.stderr.write(`lab:web: ${message}\n`);
  process.exitCode = 2;
}
