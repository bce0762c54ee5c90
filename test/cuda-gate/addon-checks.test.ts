import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(__dirname, '..', '..');
const scripts = join(root, 'scripts', 'cuda');
const native = join(root, 'native');
const folder = mkdtempSync(join(tmpdir(), 'open-autoglm-cuda-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Elf {
  readonly sections: readonly { readonly name: string }[];
}
interface Module {
  readonly source: string;
  readonly fatbin: string;
}
let Elf: new (bytes: Buffer, path: string) => Elf;
let checks: Record<
  'automaticCode' | 'foreignLibraries' | 'linkedCudaSymbols' | 'strayExports',
  (elf: Elf) => string[]
>;
let writeEmbeddedKernels: (modules: readonly Module[], file: string) => void;
let compileKernels: (toolkit: unknown, options: { folder: string }) => Promise<Module[]>;
let pinnedToolkit: () => unknown;

beforeAll(async () => {
  ({ Elf } = await import(join(scripts, 'elf.mjs')));
  checks = await import(join(scripts, 'addon-checks.mjs'));
  ({ writeEmbeddedKernels } = await import(join(scripts, 'embed.mjs')));
  ({ compileKernels } = await import(join(scripts, 'compile.mjs')));
  ({ pinnedToolkit } = await import(join(scripts, 'toolkit.mjs')));
});

const compiler = (...args: string[]) =>
  execFileSync('g++', ['-std=c++20', '-O2', '-fPIC', ...args], { cwd: folder });

function objectOf(name: string, text: string) {
  writeFileSync(join(folder, `${name}.cpp`), text);
  compiler('-fno-exceptions', '-c', `${name}.cpp`, '-o', `${name}.o`);
  return new Elf(readFileSync(join(folder, `${name}.o`)), name);
}

describe('code that runs by itself', () => {
  test('is found: a constructor before main', () => {
    const elf = objectOf('constructed', 'int open(); int handle = open();');
    expect(checks.automaticCode(elf)).toContain('.init_array');
  });

  test('is found: the destructor of a static', () => {
    const elf = objectOf(
      'static',
      'struct Owner { ~Owner(); }; Owner* get() { static Owner owner; return &owner; }',
    );
    expect(checks.automaticCode(elf)).toEqual(['__cxa_atexit']);
  });

  test('is found: the destructor of a thread_local', () => {
    const elf = objectOf(
      'thread',
      'struct Owner { ~Owner(); int x; }; int get() { thread_local Owner owner; return owner.x; }',
    );
    expect(checks.automaticCode(elf)).toEqual(['__cxa_thread_atexit']);
  });

  test('is found: a destructor function', () => {
    const elf = objectOf('function', '[[gnu::destructor]] void close() {}');
    expect(checks.automaticCode(elf)).toEqual(['.fini_array']);
  });

  test('is not found in constant data', () => {
    expect(checks.automaticCode(objectOf('constant', 'extern const int values[3] = {1, 2, 3};'))).toEqual([]);
  });
});

describe('an addon', () => {
  beforeAll(() => {
    writeFileSync(join(folder, 'driver.cpp'), 'extern "C" int cuInit(unsigned) { return 0; }');
    compiler('-shared', 'driver.cpp', '-Wl,-soname,libcuda.so.1', '-o', 'libcuda.so');
    writeFileSync(
      join(folder, 'addon.cpp'),
      'extern "C" int cuInit(unsigned); extern "C" int napi_register_module_v1() { return cuInit(0); } int stray() { return 1; }',
    );
  });

  test('that is linked with the driver is found out, with its stray exports', () => {
    compiler('-shared', 'addon.cpp', '-L.', '-lcuda', '-nostdlib', '-o', 'linked.node');
    const elf = new Elf(readFileSync(join(folder, 'linked.node')), 'linked.node');
    expect(checks.foreignLibraries(elf)).toEqual(['libcuda.so.1']);
    expect(checks.linkedCudaSymbols(elf)).toEqual(['cuInit']);
    expect(checks.strayExports(elf)).toEqual(['_Z5strayv']);
  });
});

// Goal: the generated source is constant data, and what it holds are the fatbins. Method: a program of its own links it.
describe('embedded kernels', () => {
  // Of its own: the gate's tests compile the others at the same time.
  const kernels = join(root, '.cache', 'cuda-embedded');
  const source = join(folder, 'embedded_kernels.cpp');
  let modules: readonly Module[];
  beforeAll(async () => {
    mkdirSync(kernels, { recursive: true });
    for (const name of ['faults.cu', 'sound.cu', 'planted.h'])
      cpSync(join(__dirname, 'planted', name), join(kernels, name));
    modules = await compileKernels(pinnedToolkit(), { folder: kernels });
    writeEmbeddedKernels(modules, source);
  }, 300_000);

  test('are found under the names of their entry points', () => {
    writeFileSync(
      join(folder, 'main.cpp'),
      `#include <cstdio>
#include "cuda/driver/embedded_kernels.h"
int main() {
  for (const auto& module : autoglm::cuda::embedded_modules()) {
    unsigned sum = 0;
    for (std::byte each : module.image) sum = sum * 31 + static_cast<unsigned>(each);
    std::printf("%zu %u %s %zu\\n", module.image.size(), sum, module.entries[0], module.entries.size());
  }
}`,
    );
    compiler(`-I${native}`, 'main.cpp', source, '-o', 'embedded');
    const lines = execFileSync(join(folder, 'embedded'), { encoding: 'utf8' }).trim().split('\n');
    const firsts = ['float64 9', 'sound 1'];
    const expected = modules.map(({ fatbin }, i) => {
      const image = readFileSync(fatbin);
      const sum = image.reduce((total, byte) => (Math.imul(total, 31) + byte) >>> 0, 0);
      return `${image.length} ${sum} ${firsts[i]}`;
    });
    expect(lines).toEqual(expected);
  });

  test('need no code before main or at the end', () => {
    compiler(`-I${native}`, '-c', source, '-o', 'embedded.o');
    expect(checks.automaticCode(new Elf(readFileSync(join(folder, 'embedded.o')), 'embedded.o'))).toEqual([]);
  });

  test('of one name in two files are refused', () => {
    expect(() => writeEmbeddedKernels([...modules, ...modules], source)).toThrow(
      /float64 is an entry point of .* and/,
    );
  });
});
