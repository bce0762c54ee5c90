// Checks of the CUDA addon that need no GPU: what it is linked with, what it exports, that it carries every kernel, its
// size, and that none of its CUDA code runs before main or when the process ends.
//   node scripts/cuda/addon-checks.mjs    after npm run build:cuda; --report=FILE writes the counts as JSON
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { root } from '../run.mjs';
import { compileKernels, KERNEL_FOLDER, listFiles } from './compile.mjs';
import { Elf } from './elf.mjs';
import { findToolkit } from './toolkit.mjs';

export const ADDON = join(root, 'build', 'Release-cuda', 'open_autoglm_cuda.node');
const CPU_ADDON = join(root, 'build', 'Release', 'open_autoglm.node');
// Code that calls the driver, or owns what does.
const CUDA_CODE = [KERNEL_FOLDER, join(root, 'native', 'model', 'gpu')];
const OBJECTS = join(root, 'build-cmake', 'cuda', 'CMakeFiles', 'autoglm_engine.dir');

const NEEDED_TAG = 1;
const SYSTEM_LIBRARIES = /^(libc|libm|libdl|libpthread|librt|ld-linux-x86-64|ld-linux-aarch64)\.so/;
const EXPORTS = /^(napi_register_module_v1|node_api_module_get_api_version_v1)$/;
const CUDA_SYMBOL = /^(cu[A-Z]|cuda[A-Z_]|__cuda|cublas|cudnn|nvrtc|nvinfer)/;

/** Libraries that the addon needs beside the system's own. */
export function foreignLibraries(elf) {
  return elf.dynamicNames(NEEDED_TAG).filter((name) => !SYSTEM_LIBRARIES.test(name));
}

/** Names that the addon shows to others beside Node's entry points. */
export function strayExports(elf) {
  return elf
    .symbols({ isDynamic: true })
    .filter(({ name, section }) => name !== '' && section !== 0 && !EXPORTS.test(name))
    .map(({ name }) => name);
}

/** Names of CUDA libraries that the system would have to find when it loads the addon. */
export function linkedCudaSymbols(elf) {
  const isMissing = ({ name, section }) => section === 0 && CUDA_SYMBOL.test(name);
  return elf
    .symbols({ isDynamic: true })
    .filter(isMissing)
    .map(({ name }) => name);
}

/**
 * What of an object runs by itself: constructors before main, destructors of statics and of threads at their end. The
 * driver may be gone by then, and a call into it ends the process.
 */
export function automaticCode(elf) {
  const sections = elf.sections
    .filter(({ name, size }) => size > 0 && /^\.(init_array|fini_array|ctors|dtors|init|fini)\b/.test(name))
    .map(({ name }) => name);
  const registrations = elf
    .symbols()
    .filter(
      ({ name, section }) =>
        section === 0 && /^(__cxa_(thread_)?atexit|__cxa_thread_atexit_impl|atexit)$/.test(name),
    )
    .map(({ name }) => name);
  return [...sections, ...registrations];
}

const gzipBytes = (bytes) => gzipSync(bytes, { level: 9 }).length;
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
const LARGEST_PART = 40_000_000; // compressed: what the CUDA variant adds

function partSize(addon) {
  const cpu = existsSync(CPU_ADDON) ? gzipBytes(readFileSync(CPU_ADDON)) : 0;
  return gzipBytes(addon) - cpu;
}

async function runChecks() {
  const addon = readFileSync(ADDON);
  const elf = new Elf(addon, ADDON);
  const modules = await compileKernels(findToolkit());
  const images = modules.map(({ source, fatbin }) => ({ source, bytes: readFileSync(fatbin) }));
  const absent = images.filter(({ bytes }) => !addon.includes(bytes)).map(({ source }) => source);
  const sources = CUDA_CODE.filter((folder) => existsSync(folder)).flatMap((folder) =>
    listFiles(folder, '.cpp'),
  );
  const automatic = sources.flatMap((source) => {
    const name = relative(root, source);
    const object = join(OBJECTS, `${name}.o`);
    if (!existsSync(object)) return [`${name} is not built: npm run build:cuda`];
    return automaticCode(new Elf(readFileSync(object), object)).map((found) => `${name} has ${found}`);
  });
  const fatbins = images.reduce((sum, { bytes }) => sum + bytes.length, 0);
  const part = partSize(addon);
  process.stdout.write(
    `fatbins ${megabytes(fatbins)}, as gzip ${megabytes(gzipBytes(Buffer.concat(images.map(({ bytes }) => bytes))))}; ` +
      `addon ${megabytes(addon.length)}, its CUDA part as gzip ${megabytes(part)}\n`,
  );
  return {
    'needs no library of CUDA': foreignLibraries(elf),
    'imports no symbol of CUDA': linkedCudaSymbols(elf),
    'exports only the entry points of Node-API': strayExports(elf),
    'carries every kernel': absent.map((source) => `lacks ${source}`),
    'has no CUDA code in static constructors and destructors': automatic,
    'adds at most 40 MB compressed': part > LARGEST_PART ? [megabytes(part)] : [],
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const results = Object.entries(await runChecks());
  const details = results
    .filter(([, problems]) => problems.length > 0)
    .map(([check, problems]) => `the CUDA addon ${check}: ${problems.join(', ')}`);
  for (const [check, problems] of results)
    process.stdout.write(`${problems.length === 0 ? 'passed' : 'failed'}: ${check} ${problems.join(', ')}\n`);
  const report = process.argv.find((arg) => arg.startsWith('--report='))?.slice('--report='.length);
  const counts = { passed: results.length - details.length, failed: details.length, details };
  if (report !== undefined) writeFileSync(report, JSON.stringify(counts));
  process.exitCode = details.length > 0 ? 1 : 0;
}
