import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Fixture, PACKAGE } from './engine-under-test';

export interface ChildResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The Node that runs the tests, and one more that OPEN_AUTOGLM_TEST_NODE names. */
export const NODES: readonly string[] = [process.execPath, ...otherNode()];

function otherNode(): string[] {
  const path = process.env.OPEN_AUTOGLM_TEST_NODE;
  if (path === undefined || path === '') return [];
  if (!existsSync(path)) throw new Error(`OPEN_AUTOGLM_TEST_NODE names ${path}, which does not exist`);
  return [path];
}

/** What a script finds in scope; PRELUDE is the same text again, for worker threads. */
function preludeFor(source: string): string {
  const prelude = `
    const { createEngine, loadModel, AutoglmError } = require(${JSON.stringify(PACKAGE)});
    const SOURCE = ${JSON.stringify(source)};
    const endless = { tokens: [1, 2, 3, 4, 5], ignoreEos: true, seed: 1 };
    const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  `;
  return `${prelude}\nconst PRELUDE = ${JSON.stringify(prelude)};`;
}

export interface ScriptOptions {
  readonly source?: string;
  /** A script that takes longer is killed. */
  readonly timeoutMs?: number;
  /** Beside this process' own. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a script in a process of its own. */
export function runScript(
  node: string,
  script: string,
  { source = Fixture.float32, timeoutMs = 50_000, env = {} }: ScriptOptions = {},
): Promise<ChildResult> {
  const child = spawn(node, ['-e', `${preludeFor(source)}\n${script}`], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout, stderr });
    });
  });
}
