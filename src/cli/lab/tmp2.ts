import { runTransfer } from "./run.js";
import { World } from "./world.js";

const w = new World();
const which = process.argv[2];
for (const c of w.cards.filter((c) => c.name === which))
  for (const d of (process.argv[3]?.split(",") ?? ["out", "in"]) as ("out" | "in")[]) {
    const r = runTransfer(w, c, d, { size: 200 * 2 ** 20, seed: 1 }, () => {});
    console.log(r.card, r.direction, r.equal, r.mbPerSecond.toFixed(1));
  }
