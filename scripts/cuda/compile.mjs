// Compiles every .cu file to one fatbin for all targets, and keeps the cubins for the gate. A file is compiled again
// when it, a header that it includes, the compiler or an option has changed.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { isAbsolute, join, relative } from 'node:path';
import { root } from '../run.mjs';

/** Machine code is made for these; PTX of the first serves whatever comes later. */
export const TARGETS = ['80', '86', '89', '90', '100', '120'];
// Machine code of these comes from the PTX of sm_80: no kernel uses what they add, and the front end takes most of the time.
const FROM_FIRST = ['86', '89'];
export const KERNEL_FOLDER = join(root, 'native', 'cuda');

const OPTIONS = [
  '-std=c++20',
  '--expt-relaxed-constexpr',
  '-fmad=false', // contraction would give one formula different bits in two kernels
  '-Werror=all-warnings',
  '-diag-suppress=128,177', // said of templates: a loop that some instance never enters, a function that none calls
  '-fatbin',
  '--compress-mode=size',
  '-Xptxas=-v',
];

/** Files ending in `suffix` below `folder`, sorted. */
export function listFiles(folder, suffix) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(suffix))
    .sort()
    .map((name) => join(folder, name));
}

/**
 * Compiles the .cu files of `folder`: [{source, fatbin, cubins, log}] in the order of their paths. `cubins` maps sm_<n>
 * to files, `log` is what ptxas said. Prints the compiler's messages and throws when a file does not compile.
 */
export async function compileKernels(toolkit, { folder = KERNEL_FOLDER, targets = TARGETS } = {}) {
  const key = hashOf(JSON.stringify([toolkit.version, targetOptions(targets), OPTIONS])).slice(0, 12);
  const output = join(root, 'build-cmake', 'cuda-kernels', key);
  const modules = listFiles(folder, '.cu').map((path) => moduleOf(path, output));
  const stale = modules.filter((module) => !isFresh(module));
  if (stale.length > 0) {
    const names = targets.map((target) => `sm_${target}`).join(' ');
    process.stdout.write(`nvcc ${toolkit.version} (${toolkit.origin}): ${stale.length} files for ${names}\n`);
  }
  const queue = [...stale];
  const failed = [];
  const worker = async () => {
    for (let module = queue.shift(); module !== undefined; module = queue.shift()) {
      if (!(await compile(toolkit, module, targets))) failed.push(module.source);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  if (failed.length > 0) throw new Error(`nvcc does not compile ${failed.join(', ')}`);
  return modules.map(describe);
}

function moduleOf(path, output) {
  const source = relative(root, path);
  const folder = join(output, source.replace(/\.cu$/, ''));
  return { source, folder, fatbin: join(folder, 'kernels.fatbin'), stamp: join(folder, 'inputs.json') };
}

function describe({ source, folder, fatbin }) {
  const cubins = {};
  for (const name of readdirSync(folder)) {
    const target = /\.(?:compute_|sm_)(\d+)\.cubin$/.exec(name)?.[1];
    if (target !== undefined) cubins[`sm_${target}`] = join(folder, name);
  }
  return { source, fatbin, cubins, log: readFileSync(join(folder, 'ptxas.log'), 'utf8') };
}

function isFresh({ stamp }) {
  if (!existsSync(stamp)) return false;
  const inputs = Object.entries(JSON.parse(readFileSync(stamp, 'utf8')));
  return inputs.every(([file, hash]) => existsSync(join(root, file)) && hashOfFile(file) === hash);
}

function targetOptions([first, ...others]) {
  const isShared = (target) => first === TARGETS[0] && FROM_FIRST.includes(target);
  const codes = [
    `sm_${first}`,
    `compute_${first}`,
    ...others.filter(isShared).map((target) => `sm_${target}`),
  ];
  return [
    `-gencode=arch=compute_${first},code=[${codes}]`,
    ...others
      .filter((target) => !isShared(target))
      .map((target) => `-gencode=arch=compute_${target},code=sm_${target}`),
  ];
}

async function compile({ nvcc }, { source, folder, fatbin, stamp }, targets) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const started = Date.now();
  const { status, output } = await collect(nvcc, [
    ...OPTIONS,
    ...targetOptions(targets),
    '-Inative',
    '-MD',
    '-MF',
    join(folder, 'includes.d'),
    '--keep',
    '--keep-dir',
    folder,
    source,
    '-o',
    fatbin,
  ]);
  if (status !== 0) {
    process.stderr.write(`nvcc ${source} ended with ${status}\n${output}`);
    return false;
  }
  process.stdout.write(`  ${source}: ${((Date.now() - started) / 1000).toFixed(1)} s\n`);
  const inputs = includesOf(join(folder, 'includes.d'));
  for (const name of readdirSync(folder)) {
    if (!/\.(cubin|fatbin|ptx)$/.test(name)) rmSync(join(folder, name));
  }
  writeFileSync(join(folder, 'ptxas.log'), output);
  // A file edited meanwhile: nobody knows which of its texts was compiled, so that the next run compiles it again.
  if (inputs.some((file) => statSync(join(root, file)).mtimeMs >= started)) return true;
  const hashes = Object.fromEntries(inputs.map((file) => [file, hashOfFile(file)]));
  writeFileSync(stamp, JSON.stringify(hashes, null, 1));
  return true;
}

/** Files of this repository that a dependency list names; those of the toolkit change with its version. */
function includesOf(list) {
  return readFileSync(list, 'utf8')
    .replace(/^[^:]*:/, '')
    .split(/[\s\\]+/)
    .filter((file) => file !== '')
    .map((file) => (isAbsolute(file) ? relative(root, file) : file))
    .filter((file) => !file.startsWith('..') && !file.startsWith('build-cmake'));
}

function collect(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (data) => {
        output += data;
      });
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, output }));
  });
}

function hashOfFile(file) {
  return hashOf(readFileSync(join(root, file)));
}

export function hashOf(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}
