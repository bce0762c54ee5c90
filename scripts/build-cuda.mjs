// Builds the addon with the CUDA back end into build/Release-cuda/open_autoglm_cuda.node: kernels by nvcc, everything
// else by the ordinary compiler. No GPU is needed, and nothing of CUDA is linked: the driver is opened at run time.
//   npm run build:cuda                      every target
//   npm run build:cuda -- --arch=90         machine code for sm_90 only: quicker, for work on one card
import { join } from 'node:path';
import { compileAddon, putInPlace } from './addon.mjs';
import { compileKernels, TARGETS } from './cuda/compile.mjs';
import { writeEmbeddedKernels } from './cuda/embed.mjs';
import { findToolkit } from './cuda/toolkit.mjs';
import { root } from './run.mjs';

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

const built = compileAddon(folder, ['AUTOGLM_CUDA=ON', `AUTOGLM_CUDA_KERNELS=${kernels}`]);
const target = join(root, 'build', 'Release-cuda', 'open_autoglm_cuda.node');
putInPlace(built, target);
const seconds = Number((process.hrtime.bigint() - started) / 1_000_000_000n);
process.stdout.write(`${target}: ${seconds} s\n`);
