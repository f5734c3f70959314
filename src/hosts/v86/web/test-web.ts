/**
 * The lab's page in a headless Chromium, with a guest that boots in it: npm run test:web (--help tells the options).
 *
 * Exit status: 0 all checks passed, 1 not, 2 wrong usage or something is missing.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parse, UsageError } from "../../../cli/index.js";
import { buildGuest } from "../guest/terminal.js";
import { BrowserError, Chromium, findChromium, type Page } from "./chromium.js";
import { parseOptions } from "./options.js";
import { Checks, LabPage } from "./page-testing.js";
import { readPcapng } from "./pcapng-reader.js";
import { CACHE, serveLab } from "./serve.js";

const HELP = `usage: npm run test:web -- [options]

Boots the Debian guest in the lab's page, in a headless Chromium, and looks whether what the page shows is what the guest
says: interfaces, BARs, interrupts, pings, counters, a cable that is pulled, a card that is pulled, packets and their file.

  --screenshot FILE  where the picture goes; default .cache/web/screenshot.png, and one in dark beside it
  --timeout SECONDS  for the boot (default 900)
  --json             print one line of JSON with all results, instead of text
  --help             this text

It needs chromium (Debian's package of that name, or what the variable CHROMIUM names), and apt to build the guest once.
`;

interface Options {
  readonly screenshot: string;
  readonly bootMs: number;
  readonly json: boolean;
}

const [WIDTH, HEIGHT] = [1440, 1340];
/** What the guest's own drivers are called. */
const DRIVERS: { readonly [card: string]: string } = { re: "r8169", vtnet: "virtio_net" };
const CARDS = ["re", "vtnet"] as const;
const PEERS = { re: "10.0.2.2", vtnet: "10.0.3.2" } as const;
const SLOTS = { re: 15, vtnet: 16 } as const;
const MIB = 2 ** 20;

function optionsOf(args: readonly string[]): Options | null {
  const { values } = parse({
    args: [...args],
    options: {
      screenshot: { type: "string", default: join(CACHE, "screenshot.png") },
      timeout: { type: "string", default: "900" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const seconds = Number(values.timeout);
  if (!(seconds > 0)) throw new UsageError(`--timeout ${values.timeout}: expected a number of seconds`);
  if (!values.screenshot.endsWith(".png")) throw new UsageError(`--screenshot ${values.screenshot}: expected a .png`);
  return { screenshot: values.screenshot, bootMs: seconds * 1000, json: values.json };
}

/** Everything that is asked of a page whose guest is up. */
async function checkLab(checks: Checks, page: Page, lab: LabPage, downloads: string): Promise<void> {
  await checks.run("both interfaces are up", async () => {
    const said: string[] = [];
    for (const card of CARDS) {
      await lab.waitFor(`the link of ${card}`, async () => (await lab.text(card, "carrier")) === "link up");
      const guest = await lab.text(card, "guest");
      checks.match(guest, new RegExp(`^eth\\d · ${DRIVERS[card]} · 10\\.`));
      said.push(guest);
    }
    return said.join("; ");
  });

  await checks.run("the console takes what is typed", async () => {
    const links = await lab.shell("ip link");
    const up = links.match(/eth\d: <[^>]*LOWER_UP/g) ?? [];
    checks.equal(up.length, 2, `interfaces that are up in\n${links}`);
    checks.match(await lab.consoleText(), /LOWER_UP/);
    const rows = (await page.evaluate("barwire.console.size.rows")) as number;
    checks.equal(rows > 15 && rows < 60, true, `a console that does not grow: ${rows} rows`);
    return up.map((line) => line.slice(0, 4)).join(", ");
  });

  await checks.run("the bus is what the guest sees", async () => {
    const lines = (await lab.shell("cat /proc/bus/pci/devices")).split("\n");
    const said: string[] = [];
    for (const card of CARDS) {
      const devfn = (SLOTS[card] << 3).toString(16).padStart(4, "0");
      const line = lines.find((candidate) => candidate.startsWith(`${devfn}\t`));
      if (line === undefined) throw new Error(`the guest has no function ${devfn}:\n${lines.join("\n")}`);
      const fields = line
        .trim()
        .split(/\s+/)
        .map((field) => Number.parseInt(field, 16));
      const shown = await lab.busFunction(SLOTS[card]);
      checks.equal(shown.line, fields[2], `interrupt of ${card}`);
      checks.equal(shown.bars.length > 1, true, `BARs of ${card}`);
      for (const { index, base, decoded } of shown.bars) {
        // Flags stand in the low bits of what Linux prints.
        const theirs = fields[3 + index] ?? 0;
        checks.equal(base, theirs - (theirs % ((theirs & 1) === 1 ? 4 : 16)), `BAR ${index} of ${card}`);
        checks.equal(decoded, true, `decoding of BAR ${index} of ${card}`);
      }
      said.push(`${card} IRQ ${shown.line}, ${shown.bars.map(({ base }) => base.toString(16)).join(" ")}`);
    }
    return said.join("; ");
  });

  for (const card of CARDS)
    await checks.run(`pings through ${card}, and its counters`, async () => {
      const before = await lab.counters(card);
      checks.match(await lab.shell(`ping -c 3 ${PEERS[card]}`), /3 packets received/);
      const [sent, received] = [before.txFrames! + 3, before.rxFrames! + 3];
      await lab.waitFor("counters that moved", async () => {
        const { txFrames, rxFrames } = await lab.counters(card);
        return txFrames! >= sent && rxFrames! >= received;
      });
      const now = await lab.counters(card);
      for (const name of ["interrupts", "configAccesses", "memoryAccesses", "doorbells", "descriptorsRead"])
        checks.equal(now[name]! > 0, true, `${name} of ${card}`);
      checks.equal(now.txFrames! < before.txFrames! + 100, true, "no more frames than that can be");
      return `${now.txFrames} frames out, ${now.rxFrames} in, ${now.interrupts} interrupts`;
    });

  await checks.run("the filter of the packet list", async () => {
    await page.click("#packet-filter");
    await page.type("icmp request 10.0.2.2");
    await lab.waitFor("filtered rows", async () => {
      const kinds = await lab.rows();
      return kinds.length >= 3 && kinds.every((row) => /^ICMP .*Echo request/.test(row));
    });
    const [row = ""] = await lab.rows();
    await page.evaluate(`{
      const filter = document.getElementById("packet-filter");
      filter.value = "";
      filter.dispatchEvent(new Event("input"));
    }`);
    return row;
  });

  for (const [card, action, counter] of [
    ["re", "send", "txBytes"],
    ["re", "receive", "rxBytes"],
    ["vtnet", "send", "txBytes"],
    ["vtnet", "receive", "rxBytes"],
  ] as const)
    await checks.run(`${card}: ${action} 16 MiB`, async () => {
      const before = (await lab.counters(card))[counter]!;
      const done = await lab.done(card);
      await page.click(`[data-card=${card}] [data-action=${action}]`);
      await lab.waitFor("the end of the transfer", async () => (await lab.done(card)) > done, 300_000);
      const note = await lab.text(card, "note");
      checks.match(note, /^16 MiB, [\d.]+ MB\/s$/);
      await lab.waitFor("the bytes", async () => (await lab.counters(card))[counter]! - before >= 16 * MIB);
      return note;
    });

  await checks.run("the plots have curves", async () => {
    const drawn = (await page.evaluate(
      `[...document.querySelectorAll(".plot canvas")].map((canvas) => new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size)`,
    )) as number[];
    checks.equal(drawn.length, 2, "plots");
    for (const colors of drawn) checks.equal(colors > 10, true, `more than a grid: ${colors} colors`);
    return `${drawn.join(" and ")} colors`;
  });

  for (const card of CARDS)
    await checks.run(`the cable of ${card}`, async () => {
      const name = (await lab.text(card, "guest")).slice(0, 4);
      const carrier = async (level: string): Promise<void> =>
        lab.waitFor(`carrier ${level}`, async () =>
          (await lab.shell(`cat /sys/class/net/${name}/carrier`)).trim().endsWith(level),
        );
      const press = async (): Promise<void> => {
        // By mouse at one card, by keyboard at the other.
        if (card === "re") return page.click(`[data-card=${card}] [data-action=cable]`);
        await page.evaluate(`document.querySelector("[data-card=${card}] [data-action=cable]").focus()`);
        await page.key(" ", "Space", 32);
      };
      await press();
      await carrier("0");
      await lab.waitFor("the page's word", async () => (await lab.text(card, "carrier")) === "link down");
      checks.match(await lab.shell(`ping -c 1 -W 1 ${PEERS[card]}`), /100% packet loss/);
      await press();
      await carrier("1");
      await lab.waitFor("the page's word", async () => (await lab.text(card, "carrier")) === "link up");
      checks.match(await lab.shell(`ping -c 2 -W 5 ${PEERS[card]}`), / [12] packets received/);
      return `${name}: 1, 0, 1`;
    });

  for (const card of CARDS)
    await checks.run(`${card} is pulled and plugged in`, async () => {
      const slot = SLOTS[card];
      const devfn = (slot << 3).toString(16).padStart(4, "0");
      const listed = async (): Promise<boolean> =>
        (await lab.shell("cut -f 1 /proc/bus/pci/devices")).split(/\s+/).includes(devfn);
      const button = `[data-card=${card}] [data-action=plug]`;
      await page.click(button);
      await lab.waitFor("an empty slot", async () => !(await lab.hasFunction(slot)));
      checks.equal(await listed(), false, "the guest has forgotten it");
      await page.click(button);
      await lab.waitFor("a link", async () => (await lab.text(card, "carrier")) === "link up");
      checks.equal(await listed(), true, "the guest has found it again");
      checks.match(await lab.shell(`ping -c 2 -W 5 ${PEERS[card]}`), / [12] packets received/);
      return "out and in again";
    });

  await checks.run("the guest waits, and goes on", async () => {
    const phase = async (): Promise<unknown> => page.evaluate("document.body.dataset.phase");
    await page.click("#pause");
    await lab.waitFor("a guest that waits", async () => (await phase()) === "stopped");
    await page.click("#pause");
    await lab.waitFor("a guest that goes on", async () => (await phase()) === "ready");
    checks.match(await lab.shell("echo back"), /^back/);
    return "stopped, ready";
  });

  await checks.run("the pcapng file", async () => {
    await page.click("#pcapng");
    await lab.waitFor("the file", async () => (await readdir(downloads)).some((name) => name === "barwire.pcapng"));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const file = readPcapng(await readFile(join(downloads, "barwire.pcapng")));
    checks.equal(file.interfaces.length, CARDS.length, "interfaces");
    checks.equal(file.frames.length > 100, true, `frames: ${file.frames.length}`);
    const ordered = file.frames.every(({ at }, i) => i === 0 || at >= file.frames[i - 1]!.at);
    checks.equal(ordered, true, "frames in the order of time");
    const age = Date.now() / 1000 - Number(file.frames.at(-1)!.at) / 1e9;
    checks.equal(age > -5 && age < 600, true, `the youngest frame is ${age.toFixed(0)} s old`);
    for (const [i, name] of file.interfaces.entries()) {
      const own = file.frames.filter((frame) => frame.interface === i);
      const kinds = new Set(own.map(({ direction }) => direction));
      checks.equal(kinds.size, 2, `directions of ${name}`);
      const types = own.map(({ bytes }) => (bytes[12]! << 8) | bytes[13]!);
      checks.equal(types.includes(0x0806) && types.includes(0x0800), true, `ARP and IPv4 on ${name}`);
      const pings = own.filter(({ bytes }) => bytes[12] === 8 && bytes[13] === 0 && bytes[23] === 1 && bytes[34] === 8);
      checks.equal(pings.length >= 3, true, `echo requests on ${name}: ${pings.length}`);
    }
    return `${file.frames.length} frames on ${file.interfaces.join(", ")}`;
  });
}

/** The page in both schemes and in a narrow window; the pictures are taken in the middle of transfers. */
async function checkLooks(checks: Checks, page: Page, lab: LabPage, path: string): Promise<void> {
  await checks.run("a picture with traffic", async () => {
    const before = await Promise.all(CARDS.map((card) => lab.counters(card)));
    await lab.enter("clear; ip addr show | grep -A 2 eth; ping -c 3 10.0.2.2; ping -c 3 10.0.3.2");
    await lab.waitFor("pings", async () => /10\.0\.3\.2 ping statistics[^#]*debian#/.test(await lab.consoleText()));
    await page.evaluate(`void (async () => {
      const { lab } = barwire, [re, vtnet] = lab.cards;
      for (let i = 0; i < 3; i++) {
        await lab.transfer(vtnet, "to-guest", 24 << 20);
        await lab.transfer(re, "to-host", 12 << 20);
        await lab.transfer(vtnet, "to-host", 16 << 20);
        await lab.transfer(re, "to-guest", 8 << 20);
      }
      globalThis.finished = true;
    })()`);
    await lab.waitFor(
      "traffic on both",
      async () => {
        const now = await Promise.all(CARDS.map((card) => lab.counters(card)));
        return now.every(({ rxBytes }, i) => rxBytes! - before[i]!.rxBytes! > 8 * MIB);
      },
      300_000,
    );
    await page.evaluate("scrollTo(0, 0)");
    await mkdir(dirname(path), { recursive: true });
    const light = await page.screenshot();
    await writeFile(path, light);
    const ground = async (): Promise<unknown> =>
      page.evaluate("getComputedStyle(document.documentElement).backgroundColor");
    const lightGround = await ground();
    await page.setScheme("dark");
    checks.equal((await ground()) !== lightGround, true, "another ground in the dark");
    await new Promise((resolve) => setTimeout(resolve, 700));
    await writeFile(path.replace(/\.png$/, "-dark.png"), await page.screenshot());
    await page.setScheme("light");
    return `${path}, ${(light.length / 1024).toFixed(0)} KiB`;
  });

  await checks.run("a narrow window", async () => {
    await page.resize(420, 900);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const wide = (await page.evaluate("document.documentElement.scrollWidth")) as number;
    await writeFile(path.replace(/\.png$/, "-narrow.png"), await page.screenshot());
    await page.resize(WIDTH, HEIGHT);
    checks.equal(wide <= 420, true, `nothing sticks out: ${wide} of 420`);
    return `${wide} of 420`;
  });
}

async function run(options: Options, chromium: string): Promise<number> {
  const checks = new Checks(options.json);
  const folder = await mkdtemp(join(tmpdir(), "barwire-web-"));
  try {
    const args = ["--port", "0", "--card", CARDS.join()];
    await using server = await serveLab(parseOptions(args)!, join(folder, "states"));
    await using browser = await Chromium.start(chromium);
    const page = await browser.open(server.url, WIDTH, HEIGHT, folder);
    await page.setScheme("light");
    const lab = new LabPage(page);
    const booted = await checks.run("the guest boots", () => lab.booted(options.bootMs, checks.progress));
    if (booted) {
      await checkLab(checks, page, lab, folder);
      await checkLooks(checks, page, lab, options.screenshot);
      await checks.run("a page that is loaded again goes on", async () => {
        await page.call("Page.reload");
        await new Promise((resolve) => setTimeout(resolve, 2000));
        const took = await lab.booted(300_000, checks.progress);
        for (const card of CARDS)
          checks.match(await lab.shell(`ping -c 2 -W 5 ${PEERS[card]}`), / [12] packets received/);
        return took;
      });
    }
    await checks.run("nothing comes from elsewhere, nothing is complained of", async () => {
      const others = page.requests.filter((url) => !url.startsWith(server.url) && !/^(blob|data):/.test(url));
      checks.equal(others.length, 0, others.join(", "));
      checks.equal(page.complaints.length, 0, page.complaints.join("\n"));
      return `${page.requests.length} requests`;
    });
    await checkDisks(checks, browser, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return checks.end();
}

/** A disk of the user's, whose first sector says a word on the screen: one that the server has, one that the user picks. */
async function checkDisks(checks: Checks, browser: Chromium, folder: string): Promise<void> {
  const disk = join(folder, "disk.img");
  await writeFile(disk, bootDisk("barwire boots"));
  await using server = await serveLab(parseOptions(["--port", "0", "--hda", disk])!, null);
  const look = async (page: Page): Promise<string> => {
    const screen = async (): Promise<string> =>
      (await page.evaluate(`document.getElementById("screen")?.textContent ?? ""`)) as string;
    await new LabPage(page).waitFor("the disk's word", async () => (await screen()).includes("barwire boots"));
    const { bars } = await new LabPage(page).busFunction(SLOTS.re);
    checks.equal(bars.length === 2 && bars[0]!.base > 0, true, "the BIOS has placed the card");
    return /SeaBIOS \(version [^)]*\)/.exec(await screen())?.[0] ?? "";
  };
  await checks.run("a disk that the server has", async () =>
    look(await browser.open(server.url, WIDTH, HEIGHT, folder)),
  );
  await checks.run("a disk that the user picks", async () => {
    const page = await browser.open(`${server.url}?image`, WIDTH, HEIGHT, folder);
    await new LabPage(page).waitFor("the dialog", async () =>
      Boolean(await page.evaluate(`document.querySelector("dialog")?.open ?? false`)),
    );
    await page.choose("input[name=hda]", disk);
    await page.click("#images-go");
    return look(page);
  });
}

/** 1 MiB whose first sector writes a text by the BIOS, and halts. */
function bootDisk(text: string): Uint8Array {
  const disk = new Uint8Array(MIB);
  // mov si, 7c14h; l: lodsb; test al, al; jz h; mov ah, 0eh; int 10h; jmp l; h: hlt; jmp h; the text at 7c14h
  const code = [0xbe, 0x14, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x06, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5, 0xf4, 0xeb, 0xfd];
  disk.set(code);
  disk.set(new TextEncoder().encode(text), 0x14);
  disk.set([0x55, 0xaa], 510);
  return disk;
}

async function main(args: readonly string[]): Promise<number> {
  const options = optionsOf(args);
  if (options === null) {
    process.stdout.write(HELP);
    return 0;
  }
  const chromium = findChromium();
  if (chromium === null) {
    process.stderr.write(
      "test:web: this needs a Chromium: Debian's package chromium, or what the variable CHROMIUM names\n",
    );
    return 2;
  }
  const built = await buildGuest();
  return built !== 0 ? built : run(options, chromium);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isUsage = error instanceof UsageError;
  if (!isUsage && !(error instanceof BrowserError)) throw error;
  process.stderr.write(`test:web: ${error.message}${isUsage ? " (--help tells the usage)" : ""}\n`);
  process.exitCode = isUsage ? 2 : 1;
}
