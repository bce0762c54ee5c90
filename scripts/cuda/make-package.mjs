// Lays out the package of the CUDA variant from build/Release-cuda: a root of its own with prebuilds as node-gyp-build
// expects them, and a manifest that the loader reads before it opens anything. The main package has none of it.
//   node scripts/cuda/make-package.mjs    after npm run build:cuda; prints the folder, for `npm pack` or `npm publish`
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from '../run.mjs';
import { ADDON } from './addon-checks.mjs';
import { compileKernels, hashOf, TARGETS } from './compile.mjs';
import { readTargets } from './cubin.mjs';
import { Elf } from './elf.mjs';
import { hashOfKernels } from './embed.mjs';
import { findToolkit } from './toolkit.mjs';

// The oldest driver of each CUDA major that runs its machine code and reads images compressed for size.
const MINIMUM_DRIVER = { 12: '550.54', 13: '580.65' };

/** The newest version of the C library that a symbol of the addon asks for. */
function glibcFloor(elf) {
  const names = elf.section('.dynstr').data.toString('latin1');
  const versions = [...names.matchAll(/GLIBC_(\d+)\.(\d+)/g)].map(([, major, minor]) => [+major, +minor]);
  versions.sort(([a, b], [c, d]) => a - c || b - d);
  return versions.at(-1)?.join('.') ?? null;
}

const main = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const abi = Number(/version: (\d+)/.exec(readFileSync(join(root, 'lib', 'native', 'abi.ts'), 'utf8'))?.[1]);
const toolkit = findToolkit();
const cudaMajor = Number(toolkit.version.split('.')[0]);
const modules = await compileKernels(toolkit);
const original = existsSync(ADDON) ? readFileSync(ADDON) : null;
if (original === null || !modules.every(({ fatbin }) => original.includes(readFileSync(fatbin)))) {
  process.stderr.write(`${ADDON} lacks kernels of this checkout: npm run build:cuda\n`);
  process.exit(1);
}

const platform = `${process.platform}-${process.arch}`;
const variant = `${platform}-cuda${cudaMajor}`;
const folder = join(root, 'build-cmake', 'packages', variant);
const prebuilds = join(folder, 'prebuilds', platform);
rmSync(folder, { recursive: true, force: true });
mkdirSync(prebuilds, { recursive: true });
const addon = join(prebuilds, 'node.napi.node');
copyFileSync(ADDON, addon);
run('strip', ['--strip-unneeded', addon]);
copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));

const writeJson = (name, value) => writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
writeJson('package.json', {
  name: `@open-autoglm/${variant}`,
  version: main.version,
  description: `The CUDA ${cudaMajor} build of open-autoglm's native engine for ${platform}.`,
  license: main.license,
  engines: main.engines,
  os: [process.platform],
  cpu: [process.arch],
  libc: ['glibc'],
  files: ['prebuilds', 'manifest.json', 'LICENSE'],
});
const targets = readTargets(readFileSync(modules[0].fatbin), modules[0].fatbin);
const manifest = {
  version: main.version,
  abi,
  variant: `cuda${cudaMajor}`,
  cudaMajor,
  compiler: toolkit.version,
  targets: TARGETS.map((target) => `sm_${target}`),
  ptx: targets.filter((target) => target.startsWith('compute_')),
  minimumDriver: MINIMUM_DRIVER[cudaMajor] ?? null,
  minimumGlibc: glibcFloor(new Elf(original, ADDON)),
  kernelsSha256: hashOfKernels(modules),
  addonSha256: hashOf(readFileSync(addon)),
};
writeJson('manifest.json', manifest);
process.stdout.write(`${folder}: ${(statSync(addon).size / 1e6).toFixed(2)} MB\n`);
