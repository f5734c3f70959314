import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** A file of the page. */
export interface PageFile {
  readonly type: string;
  readonly bytes: Uint8Array;
}

const PAGE = new URL("page/", import.meta.url);

/**
 * Everything that the page loads, by path: code and style bundled, so that nothing comes from elsewhere at run time.
 * @throws BuildFailure of esbuild
 */
export async function bundlePage(): Promise<ReadonlyMap<string, PageFile>> {
  const { outputFiles } = await build({
    entryPoints: { main: fileURLToPath(new URL("main.ts", PAGE)), style: fileURLToPath(new URL("style.css", PAGE)) },
    outdir: "/",
    entryNames: "[name]",
    bundle: true,
    write: false,
    format: "esm",
    target: "es2023",
    platform: "browser",
    external: ["node:*", "fs", "crypto", "perf_hooks"], // v86 asks for them where it runs under Node
    sourcemap: "linked",
    sourcesContent: true,
    logLevel: "warning",
  });
  const files = new Map<string, PageFile>();
  for (const { path, contents } of outputFiles) {
    const name = path.replaceAll("\\", "/").replace(/^.*\//, "/");
    files.set(name, { type: typeOf(name), bytes: contents });
  }
  const wasm = createRequire(import.meta.url).resolve("v86/build/v86.wasm");
  files.set("/v86.wasm", { type: typeOf(".wasm"), bytes: await readFile(wasm) });
  for (const name of ["index.html", "icon.svg"])
    files.set(`/${name}`, { type: typeOf(name), bytes: await readFile(new URL(name, PAGE)) });
  return files;
}

const TYPES: { readonly [extension: string]: string } = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
  wasm: "application/wasm",
  map: "application/json",
};

const typeOf = (name: string): string => TYPES[name.replace(/^.*\./, "")] ?? "application/octet-stream";
