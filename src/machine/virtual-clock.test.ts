import * as fc from "fast-check";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { HostClock, VirtualClock } from "./virtual-clock.js";

test("timers fire in the order of their deadlines, each at its own instant, ties as they were made", () => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  const timer = (name: string) => clock.timer(() => fired.push(`${name}@${clock.now()}`));
  const [a, b, c, d] = [timer("a"), timer("b"), timer("c"), timer("d")];
  d.arm(300);
  c.arm(100);
  b.arm(200);
  a.arm(200);
  assert.is(clock.nextDeadline, 100);
  clock.advance(250);
  assert.equal(fired, ["c@100", "a@200", "b@200"]);
  assert.is(clock.now(), 250);
  assert.is(a.deadline, Number.POSITIVE_INFINITY);
  assert.ok(clock.advanceToNextDeadline());
  assert.equal(fired.at(-1), "d@300");
  assert.not(clock.advanceToNextDeadline());
  assert.is(clock.nextDeadline, Number.POSITIVE_INFINITY);
});

test("a timer can be moved, cancelled, and made forgotten", () => {
  const clock = new VirtualClock();
  let fired = 0;
  const timer = clock.timer(() => fired++);
  timer.arm(100);
  timer.arm(50);
  clock.advance(60);
  assert.is(fired, 1);
  clock.advance(60);
  assert.is(fired, 1, "one shot");
  timer.arm(200);
  timer.cancel();
  clock.advance(1000);
  timer.arm(2000);
  timer[Symbol.dispose]();
  timer[Symbol.dispose]();
  clock.advance(2000);
  assert.is(fired, 1);
});

test("a timer armed from a timer fires in the same advance when its deadline lies inside", () => {
  const clock = new VirtualClock();
  const fired: number[] = [];
  const timer = clock.timer(() => {
    fired.push(clock.now());
    if (fired.length < 5) timer.arm(clock.now() + 10);
  });
  timer.arm(10);
  clock.advance(35);
  assert.equal(fired, [10, 20, 30]);
  clock.advance(100);
  assert.equal(fired, [10, 20, 30, 40, 50]);
});

test("a timer that rearms itself for the past does not stop time", () => {
  const clock = new VirtualClock();
  let fired = 0;
  const timer = clock.timer(() => {
    fired++;
    timer.arm(0);
  });
  timer.arm(0);
  clock.advance(1000);
  assert.is(clock.now(), 1000);
  assert.is(fired, 1);
  clock.fireDue();
  assert.is(fired, 2);
});

test("a deadline in the past fires at the next occasion, and time does not go back", () => {
  const clock = new VirtualClock();
  clock.advance(500);
  let at = 0;
  clock
    .timer(() => {
      at = clock.now();
    })
    .arm(100);
  clock.fireDue();
  assert.is(at, 500);
  clock.advance(-5);
  clock.advance(0.9);
  assert.is(clock.now(), 500);
});

test("the time of a snapshot fires nothing by itself", () => {
  const clock = new VirtualClock();
  let fired = 0;
  clock.timer(() => fired++).arm(1000);
  clock.setNow(5000);
  assert.is(fired, 0);
  clock.fireDue();
  assert.is(fired, 1);
});

test("whatever is armed and cancelled: timers fire at their deadlines, in order", () => {
  const step = fc.tuple(fc.nat(3), fc.integer({ min: -1, max: 50 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const clock = new VirtualClock();
      const fired: [number, number][] = [];
      const timers = [0, 1, 2, 3].map((i) => clock.timer(() => fired.push([i, clock.now()])));
      const deadlines = [-1, -1, -1, -1];
      for (const [i, delta] of steps) {
        if (delta < 0) timers[i]!.cancel();
        else timers[i]!.arm(clock.now() + delta);
        deadlines[i] = delta < 0 ? -1 : clock.now() + delta;
        const until = clock.now() + 7;
        const expected = deadlines
          .map((deadline, k) => [k, deadline] as [number, number])
          .filter(([, deadline]) => deadline >= 0 && deadline <= until)
          .sort((a, b) => a[1] - b[1] || a[0] - b[0]);
        clock.advance(7);
        assert.equal(fired.splice(0), expected);
        for (const [k] of expected) deadlines[k] = -1;
        const next = Math.min(...deadlines.filter((deadline) => deadline >= 0));
        assert.is(clock.nextDeadline, next);
      }
    }),
    { numRuns: 200 },
  );
});

test("a host's clock never goes back, fires when asked, and goes on from a snapshot's time", () => {
  let ms = 10;
  const clock = new HostClock(() => ms);
  assert.is(clock.now(), 10_000_000);
  ms = 9;
  assert.is(clock.now(), 10_000_000);
  const fired: number[] = [];
  const timer = clock.timer(() => {
    fired.push(clock.now());
    timer.arm(0);
  });
  timer.arm(12_000_000);
  ms = 11;
  clock.fireDue();
  assert.equal(fired, []);
  assert.is(clock.nextDeadline, 12_000_000);
  ms = 13;
  clock.fireDue();
  assert.equal(fired, [13_000_000]);
  clock.setNow(5_000_000);
  ms = 14;
  assert.is(clock.now(), 6_000_000);
});

test.run();
