// From a fresh clone to a streamed answer: installs and builds what is missing or older than its sources, then runs the
// command line, which fetches the model once.
//   npm run quickstart -- "PROMPT" [options of `open-autoglm run`]
import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ensureInstalled } from './installed.mjs';
import { root, run } from './run.mjs';

const MODEL = 'smollm2-135m-instruct';
const PROMPT = 'Why is the sky blue? Answer in two sentences.';

/** Time of the newest file in or below a path; 0 when there is none. */
function newest(path) {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  if (!stats.isDirectory()) return stats.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Runs a build script unless one of its outputs is newer than all sources. Scripts write these outputs last. */
function ensureBuilt(what, script, sources, outputs) {
  const built = Math.max(...outputs.map((path) => newest(join(root, path))));
  if (built >= Math.max(...sources.map((path) => newest(join(root, path))))) return;
  process.stderr.write(`building ${what}\n`);
  run(process.execPath, [join(root, 'scripts', script)], { quiet: true });
}

ensureInstalled();
ensureBuilt(
  'the TypeScript',
  'build-ts.mjs',
  ['lib', 'tsconfig.json', 'package.json', 'scripts/build-ts.mjs'],
  ['dist/index.mjs'],
);
const prebuild = `prebuilds/${process.platform}-${process.arch}/node.napi.node`;
ensureBuilt(
  'the native engine (some minutes, once)',
  'build-native.mjs',
  ['native', 'CMakeLists.txt', 'scripts/build-native.mjs'],
  ['build/Release/open_autoglm.node', prebuild],
);
const words = process.argv.length > 2 ? process.argv.slice(2) : [PROMPT];
const main = join(root, 'dist', 'cli', 'main.js');
// The sampling that the model's authors recommend, and an end for an answer that goes on and on. What comes behind the
// prompt overrides these.
const settings = ['--temperature', '0.2', '--top-p', '0.9', '--max-tokens', '256'];
const { status } = spawnSync(process.execPath, [main, 'run', MODEL, ...settings, ...words], {
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
