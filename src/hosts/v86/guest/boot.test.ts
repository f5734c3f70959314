import { test } from "uvu";
import * as assert from "uvu/assert";
import type { V86 } from "v86";
import { bootGuest, Guest, GuestError } from "./boot.js";

/** The serial port of an emulator, and nothing else of it. */
class Serial {
  readonly sent: string[] = [];
  destroyed = 0;
  #listener: ((byte: number) => void) | null = null;
  add_listener(_event: string, listener: (byte: number) => void): void {
    this.#listener = listener;
  }
  remove_listener(): void {
    this.#listener = null;
  }
  serial0_send(text: string): void {
    this.sent.push(text);
  }
  async destroy(): Promise<void> {
    this.destroyed++;
  }
  say(text: string): void {
    for (const byte of new TextEncoder().encode(text)) this.#listener?.(byte);
  }
}

function guest(): { serial: Serial; guest: Guest } {
  const serial = new Serial();
  return { serial, guest: new Guest(serial as unknown as V86) };
}

const codeOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
  } catch (error) {
    if (error instanceof GuestError) return error.code;
    throw error;
  }
  return "no error";
};

test("hands out what a command printed, with its status", async () => {
  const { serial, guest: g } = guest();
  const answer = g.command("uname; false");
  assert.equal(serial.sent, ["uname; false\n"]);
  serial.say("Linux\nµ\n\x1e1\n");
  assert.equal(await answer, { status: 1, output: "Linux\nµ\n" });
  const next = g.command("true");
  serial.say("\x1e0\n");
  assert.equal(await next, { status: 0, output: "" });
});

test("takes one command at a time", async () => {
  const { serial, guest: g } = guest();
  const first = g.command("sleep 1");
  assert.is(await codeOf(g.command("true")), "busy");
  assert.equal(serial.sent, ["sleep 1\n"]);
  serial.say("\x1e0\n");
  assert.is((await first).status, 0);
});

test("a panic ends the guest with its last words", async () => {
  const { serial, guest: g } = guest();
  const answer = g.command("true");
  serial.say("[ 1.0] Kernel panic - not syncing: no init\n");
  assert.is(await codeOf(answer), "panic");
  assert.is(serial.destroyed, 1);
  assert.is(await codeOf(g.command("true")), "stopped");
});

test("a command that takes too long ends the guest", async () => {
  const { serial, guest: g } = guest();
  assert.is(await codeOf(g.command("sleep 9", { timeoutMs: 5 })), "timeout");
  await g.stop();
  assert.is(serial.destroyed, 1);
});

test("says which image is missing", async () => {
  assert.is(await codeOf(bootGuest({ images: "there-is-no-such-folder" })), "images-missing");
});

test.run();
