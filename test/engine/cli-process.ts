import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';

const MAIN = join(__dirname, '..', '..', 'dist', 'cli', 'main.js');

export interface CliResult {
  /** Exit code, or the signal that ended the process. */
  readonly code: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliRun {
  readonly child: ChildProcess;
  readonly ended: Promise<CliResult>;
  /** Gives all output as soon as it contains the text; rejects when the process ends before. */
  waitFor(text: string): Promise<string>;
}

/** Starts the command line with pipes for standard input and output. */
export function startCli(args: readonly string[], env: Readonly<Record<string, string>> = {}): CliRun {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  const waiting = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text;
      for (const check of waiting) check();
    });
  }
  // A process that has ended takes no more input; tests look at how it ended.
  child.stdin.on('error', () => {});
  const ended = new Promise<CliResult>((resolve) => {
    child.once('close', (code, signal) => resolve({ code: code ?? signal, ...output }));
  });
  const waitFor = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const all = output.stdout + output.stderr;
        if (!all.includes(text)) return;
        waiting.delete(check);
        resolve(all);
      };
      waiting.add(check);
      void ended.then(() => reject(new Error(`ended without "${text}": ${output.stdout}${output.stderr}`)));
      check();
    });
  return { child, ended, waitFor };
}

/** Runs a command to its end with `input` as standard input. */
export function runCli(
  args: readonly string[],
  input = '',
  env: Readonly<Record<string, string>> = {},
): Promise<CliResult> {
  const { child, ended } = startCli(args, env);
  child.stdin?.end(input);
  return ended;
}
