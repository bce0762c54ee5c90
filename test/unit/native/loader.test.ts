import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AutoglmError } from '../../../lib/errors';
import { Abi } from '../../../lib/native/abi';
import { type BinaryVariant, loadAddon } from '../../../lib/native/loader';

const PREBUILD = join('prebuilds', `${process.platform}-${process.arch}`, 'node.napi.node');

let root = '';
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'autoglm loader ü-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const path = join(root, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  return path;
}

/** A module that stands where the addon is expected; only OPEN_AUTOGLM_BINARY can name one that is not a library. */
const standIn = (abiVersion: number): string => `
  exports.abiVersion = ${abiVersion};
  exports.describeCpu = (isa) => {
    if (isa === 'sse9') throw Object.assign(new Error('unknown instruction set sse9'), { code: 'invalid_parameter' });
    return { isa: isa ?? 'avx2', supported: ['avx2', 'plain'], numCores: 2, model: 'stand-in' };
  };`;

function failure(env: Record<string, string>, variant: BinaryVariant = 'cpu'): AutoglmError {
  try {
    loadAddon({ variant, root, env });
  } catch (error) {
    if (AutoglmError.is(error)) return error;
    throw error;
  }
  throw new Error('loadAddon did not throw');
}

describe('the addon loader', () => {
  test('names every file it looked at when there is none', () => {
    const error = failure({});
    expect(error.code).toBe('no_binary');
    expect(error.message).toContain(join(root, 'build', 'Release', 'open_autoglm.node'));
    expect(error.message).toContain(join(root, PREBUILD));
    expect(error.details.candidates).toEqual([
      { path: join(root, 'build', 'Release', 'open_autoglm.node'), verdict: 'not found' },
      { path: join(root, PREBUILD), verdict: 'not found' },
    ]);
    expect(error.hint).toMatch(/build:native/);
  });

  test('goes on to the prebuild when the file of the checkout cannot be loaded, and says why', () => {
    write('build/Release/open_autoglm.node', 'not a library');
    write(PREBUILD, 'not a library either');
    const verdicts = failure({}).details.candidates as { path: string; verdict: string }[];
    expect(verdicts.map(({ path }) => path)).toEqual([
      join(root, 'build', 'Release', 'open_autoglm.node'),
      join(root, PREBUILD),
    ]);
    for (const { verdict } of verdicts) expect(verdict).toMatch(/^cannot be loaded: /);
  });

  test('takes OPEN_AUTOGLM_BINARY and nothing else', () => {
    const path = write('mine.js', standIn(Abi.version));
    const loaded = loadAddon({ root, env: { OPEN_AUTOGLM_BINARY: path } });
    expect(loaded.path).toBe(path);
    expect(loaded.candidates).toEqual([{ path, verdict: `loaded, ABI version ${Abi.version}` }]);
    expect(loaded.cpu.isa).toBe('avx2');

    const missing = failure({ OPEN_AUTOGLM_BINARY: join(root, 'absent.node') });
    expect(missing.code).toBe('no_binary');
    expect(missing.details.candidates).toHaveLength(1);
  });

  test('refuses a binary of another ABI version, with both numbers', () => {
    const path = write('other.js', standIn(Abi.version + 1));
    const error = failure({ OPEN_AUTOGLM_BINARY: path });
    expect(error.code).toBe('no_binary');
    expect(error.message).toContain(`has ABI version ${Abi.version + 1}, this package needs ${Abi.version}`);
  });

  test('refuses a library that is no addon of this package', () => {
    const path = write('stranger.js', 'exports.hello = 1;');
    expect(failure({ OPEN_AUTOGLM_BINARY: path }).message).toContain('it has no abiVersion');
  });

  test('looks beside an Electron archive, where native files are unpacked', () => {
    const packed = join(root, 'app.asar', 'node_modules', 'open-autoglm', 'addon.js');
    const unpacked = write(
      join('app.asar.unpacked', 'node_modules', 'open-autoglm', 'addon.js'),
      standIn(Abi.version),
    );
    expect(loadAddon({ root, env: { OPEN_AUTOGLM_BINARY: packed } }).path).toBe(unpacked);
    rmSync(unpacked);
    expect(failure({ OPEN_AUTOGLM_BINARY: packed }).message).toMatch(/unpack the package folder/);
  });

  test('passes OPEN_AUTOGLM_ISA on, and names it when the addon refuses it', () => {
    const path = write('isa.js', standIn(Abi.version));
    expect(loadAddon({ root, env: { OPEN_AUTOGLM_BINARY: path, OPEN_AUTOGLM_ISA: 'plain' } }).isa).toBe(
      'plain',
    );
    const error = failure({ OPEN_AUTOGLM_BINARY: path, OPEN_AUTOGLM_ISA: 'sse9' });
    expect(error.code).toBe('invalid_parameter');
    expect(error.message).toContain('OPEN_AUTOGLM_ISA');
    expect(error.message).toContain('sse9');
  });
});

describe('the addon loader for the CUDA variant', () => {
  const packaged = `@open-autoglm/${process.platform}-${process.arch}-cuda13`;

  test('looks at the build of the checkout and at the package of this platform', () => {
    write(join('build', 'Release', 'open_autoglm.node'), 'of the processor');
    const error = failure({}, 'cuda');
    expect(error.code).toBe('no_binary');
    expect(error.details.candidates).toEqual([
      { path: join(root, 'build', 'Release-cuda', 'open_autoglm_cuda.node'), verdict: 'not found' },
      { path: join(root, 'node_modules', packaged, PREBUILD), verdict: 'not found' },
    ]);
    expect(error.hint).toMatch(/build:cuda/);
    expect(error.hint).toContain(packaged);
  });

  test('finds the package where Node would, also above the folder', () => {
    const path = write(join('node_modules', packaged, PREBUILD), 'not a library');
    write(join('node_modules', packaged, 'package.json'), '{}');
    const below = join(root, 'node_modules', 'open-autoglm');
    mkdirSync(below);
    const paths = (() => {
      try {
        loadAddon({ variant: 'cuda', root: below, env: {} });
      } catch (error) {
        return (error as AutoglmError).details.candidates as { path: string; verdict: string }[];
      }
      return [];
    })();
    expect(paths.at(-1)).toMatchObject({ path, verdict: expect.stringMatching(/^cannot be loaded/) });
  });

  test('takes OPEN_AUTOGLM_CUDA_BINARY and nothing else, if it has CUDA code', () => {
    const without = write('without.js', standIn(Abi.version));
    const error = failure({ OPEN_AUTOGLM_CUDA_BINARY: without }, 'cuda');
    expect(error.details.candidates).toEqual([{ path: without, verdict: 'has no CUDA code' }]);
    expect(error.hint).toContain('OPEN_AUTOGLM_CUDA_BINARY');
    const path = write('with.js', `${standIn(Abi.version)}\n  exports.describeGpus = () => ({});`);
    expect(loadAddon({ variant: 'cuda', root, env: { OPEN_AUTOGLM_CUDA_BINARY: path } }).path).toBe(path);
  });
});
