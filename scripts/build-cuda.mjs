// Builds the addon with the CUDA back end into build/Release-cuda/open_autoglm_cuda.node: kernels by nvcc, everything
// else by the ordinary compiler. No GPU is needed, and nothing of CUDA is linked: the driver is opened at run time.
//   npm run build:cuda                      every target
//   npm run build:cuda -- --arch=90         machine code for sm_90 only: quicker, for work on one card
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { compileKernels, TARGETS } from './cuda/compile.mjs';
import { writeEmbeddedKernels } from './cuda/embed.mjs';
import { findToolkit } from './cuda/toolkit.mjs';
import { bin, root, run } from './run.mjs';

const wanted = process.argv
  .filter((arg) => arg.startsWith('--arch='))
  .map((arg) => arg.slice('--arch='.length));
const unknown = wanted.find((arch) => !TARGETS.includes(arch));
if (unknown !== undefined) {
  process.stderr.write(`no target ${unknown}; there are ${TARGETS.join(', ')}\n`);
  process.exit(2);
}
const targets = wanted.length === 0 ? TARGETS : TARGETS.filter((arch) => wanted.includes(arch));

const toolkit = findToolkit();
process.stdout.write(`nvcc ${toolkit.version} from ${toolkit.origin}: ${toolkit.nvcc}\n`);
const started = process.hrtime.bigint();
const folder = join('build-cmake', 'cuda');
const kernels = join(root, 'build-cmake', 'cuda-kernels', 'embedded_kernels.cpp');
writeEmbeddedKernels(await compileKernels(toolkit, { targets }), kernels);

const hasNinja = run('ninja', ['--version'], { quiet: true, allowFailure: true }).status === 0;
run(bin('cmake-js'), [
  'compile',
  '--log-level',
  'warn',
  '-O',
  folder,
  '--CDCMAKE_POLICY_VERSION_MINIMUM=3.18',
  '--CDAUTOGLM_CUDA=ON',
  `--CDAUTOGLM_CUDA_KERNELS=${kernels}`,
  '--parallel',
  '2',
  ...(hasNinja ? ['-G', 'Ninja'] : []),
]);
const built = ['', 'Release']
  .map((name) => join(root, folder, name, 'open_autoglm.node'))
  .find((file) => existsSync(file));
if (built === undefined) {
  process.stderr.write(`cmake-js left no open_autoglm.node in ${folder}\n`);
  process.exit(1);
}
// Renamed into place: a process that has the old file loaded keeps it.
const target = join(root, 'build', 'Release-cuda', 'open_autoglm_cuda.node');
mkdirSync(join(root, 'build', 'Release-cuda'), { recursive: true });
copyFileSync(built, `${target}.new`);
renameSync(`${target}.new`, target);
const seconds = Number((process.hrtime.bigint() - started) / 1_000_000_000n);
process.stdout.write(`${target}: ${seconds} s\n`);
