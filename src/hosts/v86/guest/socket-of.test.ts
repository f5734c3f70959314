import { test } from "uvu";
import * as assert from "uvu/assert";
import { UsageError } from "../../../cli/index.js";
import { socketOf } from "./socket-of.js";

test("a path, or a host and a port, of this machine where none is named", () => {
  assert.equal(socketOf("socket:/tmp/a:1/s"), { path: "/tmp/a:1/s" });
  assert.equal(socketOf("socket:./s:5"), { path: "./s:5" });
  assert.equal(socketOf("socket:s"), { path: "s" });
  assert.equal(socketOf("socket:localhost:1234"), { host: "localhost", port: 1234 });
  assert.equal(socketOf("socket::1234"), { port: 1234 });
  assert.equal(socketOf("socket:[::1]:1234"), { host: "::1", port: 1234 });
  for (const wrong of ["socket:h:0", "socket:h:65536"])
    assert.throws(
      () => socketOf(wrong),
      (error: unknown) => error instanceof UsageError,
    );
});

test.run();
