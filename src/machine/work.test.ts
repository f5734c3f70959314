import { test } from "uvu";
import * as assert from "uvu/assert";
import { ConfigError, StateError } from "../bytes/index.js";
import type { QueueRunner, Work } from "../contract/index.js";
import { VirtualClock } from "./virtual-clock.js";
import { type WorkPolicy, WorkPool } from "./work.js";

/** Queues with a number of descriptors each. */
class Rings implements QueueRunner {
  readonly left = [0, 0, 0, 0, 0, 0];
  readonly log: string[] = [];
  readonly name: string;
  inside: (queue: number) => void = () => {};
  constructor(name: string) {
    this.name = name;
  }
  runQueue(queue: number, budget: number): number {
    const used = Math.min(budget, this.left[queue]!);
    this.left[queue]! -= used;
    this.log.push(`${this.name}${queue}:${used}`);
    this.inside(queue);
    return used;
  }
}

const rig = (policy?: WorkPolicy) => {
  const clock = new VirtualClock();
  const pool = new WorkPool(clock);
  const rings = new Rings("q");
  const work: Work = pool.forFunction(policy);
  work.bind(rings);
  return { clock, pool, rings, work, take: () => rings.log.splice(0) };
};

test("immediate: a doorbell runs the queue before it returns", () => {
  const { pool, rings, work, take } = rig();
  rings.left[2] = 40_000;
  work.request(2);
  assert.equal(take(), ["q2:40000"]);
  assert.is(pool.run(), Number.POSITIVE_INFINITY);
  assert.equal(take(), []);
});

test("deferred: a doorbell marks, run gives each ready queue one turn, and what is left stays ready", () => {
  const { pool, rings, work, take } = rig("deferred");
  rings.left[0] = 10;
  rings.left[3] = 3;
  work.request(3);
  work.request(0);
  work.request(0);
  assert.equal(take(), []);
  assert.is(pool.due, 0);
  assert.is(pool.run(4), 0);
  assert.equal(take(), ["q0:4", "q3:3"]);
  assert.is(pool.run(4), 0);
  assert.is(pool.run(4), Number.POSITIVE_INFINITY);
  assert.equal(take(), ["q0:4", "q0:2"]);
});

test("timer: a doorbell waits, later ones do not make it wait longer", () => {
  const { clock, pool, rings, work, take } = rig({ kind: "timer", delayNs: 1000 });
  rings.left[1] = 2;
  work.request(1);
  clock.advance(600);
  work.request(1);
  assert.is(pool.run(), 400);
  assert.equal(take(), []);
  clock.advance(400);
  assert.is(pool.due, 0);
  assert.is(pool.run(), Number.POSITIVE_INFINITY);
  assert.equal(take(), ["q1:2"]);
});

test("run now: whatever the policy, and a pending mark is used up", () => {
  for (const policy of ["deferred", { kind: "timer", delayNs: 5 }] as const) {
    const { pool, rings, work, take } = rig(policy);
    rings.left[0] = 1;
    work.request(0);
    work.runNow(0);
    assert.equal(take(), ["q0:1"]);
    assert.is(pool.run(), Number.POSITIVE_INFINITY);
    assert.equal(take(), []);
  }
});

test("a request from inside a run of the same queue gives another turn, never a nested one", () => {
  for (const policy of ["immediate", "deferred"] as const) {
    const { pool, rings, work, take } = rig(policy);
    let nested = 0;
    let again = 2;
    rings.inside = () => {
      nested++;
      assert.is(nested, 1);
      if (again-- > 0) work.request(0);
      if (again === 0) work.runNow(0);
      nested--;
    };
    work.request(0);
    for (let i = 0; i < 5; i++) pool.run();
    assert.equal(take(), ["q0:0", "q0:0", "q0:0"], String(policy));
  }
});

test("immediate: the turn that a run asked for is done before the doorbell returns", () => {
  const { pool, rings, work, take } = rig();
  let again = true;
  rings.inside = () => {
    if (again) work.request(0);
    again = false;
  };
  work.request(0);
  assert.equal(take(), ["q0:0", "q0:0"]);
  assert.is(pool.due, Number.POSITIVE_INFINITY);
});

test("PCI-168 a queue that always asks for more does not hold up its doorbell", () => {
  const { pool, rings, work, take } = rig();
  rings.inside = () => work.request(0);
  work.request(0);
  assert.ok(take().length <= 4);
  assert.is(pool.due, 0, "it is ready, and the host's next run goes on");
  pool.run();
  assert.is(take().length, 1);
});

test("queues of several functions take turns", () => {
  const pool = new WorkPool(new VirtualClock());
  const log: string[] = [];
  for (const name of ["a", "b"]) {
    const rings = new Rings(name);
    rings.left[0] = 4;
    rings.left[1] = 2;
    rings.inside = () => log.push(rings.log.pop()!);
    const work = pool.forFunction("deferred");
    work.bind(rings);
    work.request(0);
    work.request(1);
  }
  while (pool.run(2) === 0);
  assert.equal(log, ["a0:2", "a1:2", "b0:2", "b1:2", "a0:2", "a1:0", "b0:2", "b1:0", "a0:0", "b0:0"]);
});

test("clear forgets marks and deadlines of one function, or of all", () => {
  const clock = new VirtualClock();
  const pool = new WorkPool(clock);
  const rings = [new Rings("a"), new Rings("b"), new Rings("c")];
  const works = [
    pool.forFunction("deferred"),
    pool.forFunction({ kind: "timer", delayNs: 10 }),
    pool.forFunction("deferred"),
  ];
  works.forEach((work, i) => {
    work.bind(rings[i]!);
    work.request(0);
  });
  works[0]!.clear();
  works[1]!.clear();
  clock.advance(100);
  assert.is(pool.run(), Number.POSITIVE_INFINITY);
  assert.equal(
    rings.map(({ log }) => log.length),
    [0, 0, 1],
  );
  works[2]!.request(0);
  pool.clear();
  assert.is(pool.run(), Number.POSITIVE_INFINITY);
  works[2]!.request(0);
  works[2]![Symbol.dispose]();
  assert.is(pool.run(), Number.POSITIVE_INFINITY);
  assert.is(rings[2]!.log.length, 1);
});

test("a runner that throws leaves its queue runnable", () => {
  const { pool, rings, work, take } = rig("deferred");
  rings.inside = () => {
    throw new Error("embedder's bug");
  };
  work.request(0);
  assert.throws(() => pool.run(), /embedder's bug/);
  rings.inside = () => {};
  take();
  work.request(0);
  pool.run();
  assert.equal(take(), ["q0:0"]);
});

test("many queues", () => {
  const { pool, rings, work, take } = rig("deferred");
  work.request(4095);
  work.request(7);
  rings.runQueue = (queue) => {
    rings.log.push(String(queue));
    return 0;
  };
  pool.run();
  assert.equal(take(), ["7", "4095"]);
  assert.throws(
    () => work.request(0x10000),
    (error: unknown) => error instanceof ConfigError && error.code === "work-queue",
  );
});

test("PCI-161 marks and deadlines survive a snapshot", () => {
  const build = () => {
    const clock = new VirtualClock();
    const pool = new WorkPool(clock);
    const rings = [new Rings("a"), new Rings("b")];
    const works = [
      pool.forFunction("deferred", "00:03.0"),
      pool.forFunction({ kind: "timer", delayNs: 1000 }, "00:04.0"),
    ];
    works.forEach((work, i) => {
      work.bind(rings[i]!);
    });
    return { clock, pool, rings, works };
  };
  const one = build();
  one.works[0]!.request(0);
  one.works[0]!.request(5);
  one.works[1]!.request(2);
  one.clock.advance(300);
  const two = build();
  two.works[0]!.request(1);
  two.clock.setNow(one.clock.now());
  two.pool.load(structuredClone(one.pool.save()));
  assert.equal(two.pool.save(), one.pool.save());
  assert.is(two.pool.run(), 700);
  assert.equal(two.rings[0]!.log, ["a0:0", "a5:0"]);
  two.clock.advance(700);
  two.pool.run();
  assert.equal(two.rings[1]!.log, ["b2:0"]);
});

test("a state that does not fit is refused, and the marks stay", () => {
  const { pool, work, rings } = rig("deferred");
  work.request(0);
  const share = { key: "0", ready: [1], waiting: [], deadlines: [] };
  for (const functions of [
    [{ ...share, key: "9" }],
    [{ ...share, ready: [-1] }],
    [{ ...share, ready: [0x10000] }],
    [{ ...share, waiting: [1] }],
    null,
  ])
    assert.throws(
      () => pool.load({ version: 1, functions }),
      (error: unknown) => error instanceof StateError,
    );
  pool.run();
  assert.equal(rings.log, ["q0:0"]);
});

test("what cannot be is the embedder's mistake", () => {
  const pool = new WorkPool(new VirtualClock());
  pool.forFunction("deferred", "a");
  for (const make of [
    () => pool.forFunction("deferred", "a"),
    () => pool.forFunction({ kind: "timer", delayNs: 0 }),
    () => pool.forFunction({ kind: "timer", delayNs: Number.NaN }),
  ])
    assert.throws(make, (error: unknown) => error instanceof ConfigError);
});

test.run();
