// Starts a program of this repository and waits for it; a failure ends the calling script with the same status.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Runs `command` in the repository root, output shown unless `quiet`. */
export function run(command, args, { quiet = false, env = {}, allowFailure = false } = {}) {
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  if (result.error) throw result.error;
  if (result.status !== 0 && !allowFailure) {
    if (quiet) process.stderr.write(`${result.stdout}${result.stderr}`);
    process.stderr.write(`${[command, ...args].join(' ')} ended with ${result.status ?? result.signal}\n`);
    process.exit(result.status ?? 1);
  }
  return result;
}

/** A program that npm put into node_modules. */
export function bin(name) {
  return join(root, 'node_modules', '.bin', name);
}
