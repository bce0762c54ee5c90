import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { AutoglmError } from '../../../lib/errors';
import { Abi } from '../../../lib/native/abi';
import { judgeManifest, runningGlibc } from '../../../lib/native/cuda-manifest';
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

function failure(env: Record<string, string>, variant: BinaryVariant = 'cpu', folder = root): AutoglmError {
  try {
    loadAddon({ variant, root: folder, env });
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
  /** As scripts/cuda/make-package.mjs writes it. */
  const MANIFEST = {
    version: '1.2.3',
    abi: Abi.version,
    variant: 'cuda13',
    cudaMajor: 13,
    compiler: '13.0.88',
    targets: ['sm_80', 'sm_90'],
    ptx: ['compute_80'],
    minimumDriver: '580.65',
    minimumGlibc: '2.17' as string | null,
    kernelsSha256: '0'.repeat(64),
    addonSha256: '0'.repeat(64),
  };

  /** An installed package beside a main package of version 1.2.3; returns the path of its binary, which is no library. */
  function writePackage(manifest: object | string | null): string {
    const folder = join('node_modules', packaged);
    write('package.json', '{"version":"1.2.3"}');
    write(join(folder, 'package.json'), '{}');
    if (manifest !== null)
      write(
        join(folder, 'manifest.json'),
        typeof manifest === 'string' ? manifest : JSON.stringify(manifest),
      );
    return write(join(folder, PREBUILD), 'not a library');
  }

  function lastCandidate(folder = root): unknown {
    const { details } = failure({}, 'cuda', folder);
    return (details.candidates as readonly object[]).at(-1);
  }

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
    const path = writePackage(MANIFEST);
    const below = join(root, 'node_modules', 'open-autoglm');
    write(join('node_modules', 'open-autoglm', 'package.json'), '{"version":"1.2.3"}');
    expect(lastCandidate(below)).toEqual({ path, verdict: expect.stringMatching(/^cannot be loaded/) });
  });

  test('takes OPEN_AUTOGLM_CUDA_BINARY and nothing else, if it has CUDA code', () => {
    const without = write('without.js', standIn(Abi.version));
    const error = failure({ OPEN_AUTOGLM_CUDA_BINARY: without }, 'cuda');
    expect(error.details.candidates).toEqual([{ path: without, verdict: 'has no CUDA code' }]);
    expect(error.hint).toContain('OPEN_AUTOGLM_CUDA_BINARY');
    const path = write('with.js', `${standIn(Abi.version)}\n  exports.describeGpus = () => ({});`);
    expect(loadAddon({ variant: 'cuda', root, env: { OPEN_AUTOGLM_CUDA_BINARY: path } }).path).toBe(path);
  });

  // A binary that was opened would have the verdict "cannot be loaded".
  test.each<[string, object | string | null, string | RegExp]>([
    [
      'of another version',
      { ...MANIFEST, version: '1.3.0' },
      'is of version 1.3.0, this package needs 1.2.3',
    ],
    [
      'of another ABI',
      { ...MANIFEST, abi: Abi.version + 1 },
      `has ABI version ${Abi.version + 1}, this package needs ${Abi.version}`,
    ],
    [
      'for a newer C library',
      { ...MANIFEST, minimumGlibc: '2.999' },
      /^needs the GNU C library 2\.999 or newer, this system has (\d+\.\d+|another C library)$/,
    ],
    ['without a manifest', null, /^cannot be judged by its manifest\.json: ENOENT.*manifest\.json/],
    [
      'with half a manifest',
      JSON.stringify(MANIFEST).slice(0, 40),
      /^cannot be judged by its manifest\.json: .*JSON/,
    ],
    ['with a list', [MANIFEST], /its content is \[.*expected an object$/],
    ['with no object', 'null', /its content is null, expected an object$/],
    ['with a version that is none', { ...MANIFEST, version: 1 }, /version is 1, expected a string$/],
    ['with an ABI in words', { ...MANIFEST, abi: 'six' }, /abi is "six", expected a whole number$/],
    ['with an ABI of a fraction', { ...MANIFEST, abi: 6.5 }, /abi is 6\.5, expected a whole number$/],
    ['without an ABI', { ...MANIFEST, abi: undefined }, /abi is undefined, expected a whole number$/],
    [
      'without a CUDA version',
      { ...MANIFEST, cudaMajor: null },
      /cudaMajor is null, expected a whole number$/,
    ],
    [
      'with targets that are none',
      { ...MANIFEST, targets: [80] },
      /targets is \[80\], expected a list of str/,
    ],
    [
      'with a C library in words',
      { ...MANIFEST, minimumGlibc: 'new' },
      /minimumGlibc is "new", expected a ver/,
    ],
    [
      'with a driver in numbers',
      { ...MANIFEST, minimumDriver: 580 },
      /minimumDriver is 580, expected a version/,
    ],
  ])('does not open the binary of a package %s', (_what, manifest, verdict) => {
    const path = writePackage(manifest);
    expect(lastCandidate()).toEqual({
      path,
      verdict: typeof verdict === 'string' ? verdict : expect.stringMatching(verdict),
    });
  });

  test('judges no manifest where the binary itself is missing', () => {
    rmSync(writePackage({ ...MANIFEST, version: '1.3.0' }));
    expect(lastCandidate()).toMatchObject({ verdict: 'not found' });
  });

  test('a checkout without package.json cannot be compared', () => {
    writePackage(MANIFEST);
    rmSync(join(root, 'package.json'));
    expect(lastCandidate()).toMatchObject({
      verdict: expect.stringMatching(/^cannot be judged.*package\.json/),
    });
  });

  test.each([
    ['2.35', '2.35', true],
    ['2.35', '2.36', true],
    ['2.35', '2.35.1', true],
    ['2.35', '3.0', true],
    ['2.35', '2.34', false],
    ['2.35', '2.4', false],
    ['2.35.1', '2.35', false],
    ['3', '2.35', false],
    ['2.35', null, false],
    [null, null, true],
  ])('a binary for C library %s on a system with %s: %s', (minimumGlibc, glibc, isUsable) => {
    writePackage({ ...MANIFEST, minimumGlibc });
    const manifest = join(root, 'node_modules', packaged, 'manifest.json');
    const judged = judgeManifest(manifest, join(root, 'package.json'), glibc);
    expect(judged.isUsable).toBe(isUsable);
    if (isUsable) expect(judged.verdict).toBe('CUDA 13 for sm_80, sm_90, driver 580.65 or newer');
    else expect(judged.verdict).toContain(`this system has ${glibc ?? 'another C library'}`);
  });

  test.runIf(process.platform === 'linux')('knows the C library it runs on', () => {
    const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
    expect(runningGlibc()).toBe(header.glibcVersionRuntime ?? null);
  });
});
