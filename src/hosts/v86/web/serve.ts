import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { IMAGES } from "../guest/terminal.js";
import { bundlePage } from "./bundle.js";
import { configFor, imageFiles, type WebOptions } from "./options.js";
import { type Server, startServer } from "./server.js";

/** Where states and what else can be made again are kept. */
export const CACHE = join(IMAGES, "../web");

/** Serves the page; the guest is there. @param states folder for saved states, null for none */
export async function serveLab(options: WebOptions, states: string | null = CACHE): Promise<Server> {
  const images = imageFiles(options, vgaBios());
  return startServer({
    port: options.port,
    files: await bundlePage(),
    images,
    config: (query) => configFor(options, images, query),
    states: options.fresh ? null : states,
  });
}

/** SeaBIOS for the screen, out of the package that the guest's BIOS comes from; null: a screen stays dark. */
function vgaBios(): string | null {
  const path = join(CACHE, "vgabios.bin");
  if (existsSync(path)) return path;
  const folder = join(IMAGES, "packages");
  const deb = existsSync(folder) ? readdirSync(folder).find((name) => /^seabios_.*\.deb$/.test(name)) : undefined;
  if (deb === undefined) return null;
  try {
    const tar = execFileSync("dpkg-deb", ["--fsys-tarfile", join(folder, deb)], { maxBuffer: 1 << 26 });
    const member = "./usr/share/seabios/vgabios-stdvga.bin";
    const bytes = execFileSync("tar", ["-xO", member], { input: tar, stdio: ["pipe", "pipe", "ignore"] });
    mkdirSync(CACHE, { recursive: true });
    writeFileSync(path, bytes);
    return path;
  } catch {
    return null;
  }
}
