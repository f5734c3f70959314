import type { CommandResult, Guest } from "./boot.js";
import type { GuestCard } from "./cards.js";

/** Asks a guest one thing after another, all within one deadline. */
export class Interview {
  readonly guest: Guest;
  readonly #deadline: number;
  readonly #verbose: boolean;

  /** @param deadline ms on `performance.now`; @param verbose shows each command on standard error */
  constructor(guest: Guest, deadline: number, verbose = false) {
    this.guest = guest;
    this.#deadline = deadline;
    this.#verbose = verbose;
  }

  async run(command: string): Promise<CommandResult> {
    if (this.#verbose) process.stderr.write(`# ${command}\n`);
    return this.guest.command(command, { timeoutMs: Math.max(1, this.#deadline - performance.now()) });
  }

  async lines(command: string): Promise<string[]> {
    const { output } = await this.run(command);
    return output.split("\n").filter((line) => line !== "");
  }

  async line(command: string): Promise<string> {
    return (await this.lines(command))[0] ?? "";
  }

  /** Name of a card's interface, such as `eth0`; empty where no driver made one. */
  async interfaceOf({ slot }: Pick<GuestCard, "slot">): Promise<string> {
    const address = `0000:00:${slot.toString(16).padStart(2, "0")}.0`;
    return this.line(
      `for n in /sys/class/net/*; do case $(readlink -f $n/device) in */${address}*) basename $n;; esac; done`,
    );
  }

  /** Gives an interface its address and waits for the link. @returns whether there is a carrier */
  async bringUp(name: string, { guestAddress }: Pick<GuestCard, "guestAddress">): Promise<boolean> {
    await this.run(`ip addr add ${guestAddress}/24 dev ${name} 2>/dev/null; ip link set ${name} up`);
    return this.linked(name);
  }

  /** Waits for the link, 15 s at most: drivers may look at their PHY once a second only. */
  async linked(name: string): Promise<boolean> {
    const carrier = `/sys/class/net/${name}/carrier`;
    return (
      (await this.line(
        `for i in $(seq 75); do grep -qs 1 ${carrier} && break; usleep 200000; done; cat ${carrier}`,
      )) === "1"
    );
  }
}
/** What no guest may say of our cards. */
export const COMPLAINTS =
  /nobody cared|WARNING|BUG:|Oops|NETDEV WATCHDOG|Call Trace|Tx timeout|transmit queue \d+ timed out|unable to handle|Unexpected/;
