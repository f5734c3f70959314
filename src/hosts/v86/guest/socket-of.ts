import { UsageError } from "../../../cli/index.js";
import type { StreamAddress } from "../../node/index.js";

const PREFIX = "socket:";

/**
 * The address in `--net socket:PATH` or `--net socket:HOST:PORT`; a path has a slash in it, or no number at its end.
 * @throws UsageError
 */
export function socketOf(net: string): StreamAddress {
  const text = net.startsWith(PREFIX) ? net.slice(PREFIX.length) : "";
  const [, host = "", port = ""] = /^([^/]*):(\d+)$/.exec(text) ?? [];
  if (port === "") return { path: text };
  if (Number(port) < 1 || Number(port) > 0xffff) throw new UsageError(`--net "${net}": expected a port in 1 … 65535`);
  return { ...(host === "" ? {} : { host: host.replace(/^\[(.*)\]$/, "$1") }), port: Number(port) };
}
