import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadAddon } from '../../lib/native/loader';

const root = join(__dirname, '..', '..');
const platform = `${process.platform}-${process.arch}`;
const FATBIN_START = Buffer.from('50ed55ba0100', 'hex');

interface PackReport {
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

function packed(folder: string): PackReport {
  const output = execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: folder, encoding: 'utf8' });
  // npm 11 prints a list, npm 12 an object keyed by name.
  return Object.values(JSON.parse(output) as PackReport[] | Record<string, PackReport>)[0] as PackReport;
}

describe('the main package', () => {
  test('has no file of CUDA beside the code that looks for the variant', () => {
    const paths = packed(root).files.map(({ path }) => path);
    expect(paths.length).toBeGreaterThan(10);
    expect(
      paths.filter((path) => /cuda|fatbin|cubin|\.cu$/i.test(path) && !/^dist\/.*\.m?[jt]s$/.test(path)),
    ).toEqual([]);
    const native = paths.filter((path) => path.endsWith('.node'));
    expect(native.filter((path) => path !== `prebuilds/${platform}/node.napi.node`)).toEqual([]);
  });

  test('has an addon without kernels', () => {
    for (const file of [
      join('build', 'Release', 'open_autoglm.node'),
      join('prebuilds', platform, 'node.napi.node'),
    ]) {
      if (existsSync(join(root, file)))
        expect(readFileSync(join(root, file)).includes(FATBIN_START)).toBe(false);
    }
  });
});

describe('the package of the CUDA variant', () => {
  const folder = join(root, 'build-cmake', 'packages', `${platform}-cuda13`);
  const readJson = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8'));
  beforeAll(() => {
    execFileSync(process.execPath, [join(root, 'scripts', 'cuda', 'make-package.mjs')], { stdio: 'pipe' });
  }, 600_000);

  test('holds the addon and its manifest, below 40 MB', () => {
    const { files, size } = packed(folder);
    expect(files.map(({ path }) => path).sort()).toEqual([
      'LICENSE',
      'manifest.json',
      'package.json',
      `prebuilds/${platform}/node.napi.node`,
    ]);
    expect(size).toBeLessThan(40_000_000);
  });

  test('has the version of the main package, and no scripts', () => {
    const { name, version, scripts, os, cpu } = readJson('package.json');
    expect(name).toBe(`@open-autoglm/${platform}-cuda13`);
    expect(version).toBe(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version);
    expect(scripts).toBeUndefined();
    expect([os, cpu]).toEqual([[process.platform], [process.arch]]);
  });

  test('says in its manifest what the addon is', () => {
    const addon = readFileSync(join(folder, 'prebuilds', platform, 'node.napi.node'));
    expect(readJson('manifest.json')).toEqual({
      version: readJson('package.json').version,
      abi: expect.any(Number),
      variant: 'cuda13',
      cudaMajor: 13,
      compiler: '13.0.88',
      targets: ['sm_80', 'sm_86', 'sm_89', 'sm_90', 'sm_100', 'sm_120'],
      ptx: ['compute_80'],
      minimumDriver: '580.65',
      minimumGlibc: expect.stringMatching(/^2\.\d+$/),
      kernelsSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      addonSha256: createHash('sha256').update(addon).digest('hex'),
    });
  });

  // node-gyp-build takes any folder as a root: the loader asks it once for each variant.
  test('is a root in which node-gyp-build finds the addon', () => {
    const find = createRequire(__filename)('node-gyp-build') as { path: (folder: string) => string };
    expect(find.path(folder)).toBe(join(folder, 'prebuilds', platform, 'node.napi.node'));
  });

  test('loads without a driver, and its process ends in peace', () => {
    const addon = join(folder, 'prebuilds', platform, 'node.napi.node');
    const code = 'console.log(require(process.argv[1]).abiVersion)';
    const output = execFileSync(process.execPath, ['-e', code, addon], { encoding: 'utf8' });
    expect(Number(output)).toBe(readJson('manifest.json').abi);
  });

  test('is taken by the loader where it is installed, and its manifest is part of the verdict', () => {
    const parent = mkdtempSync(join(tmpdir(), 'autoglm-installed-'));
    const installed = join(parent, 'node_modules', '@open-autoglm', `${platform}-cuda13`);
    mkdirSync(dirname(installed), { recursive: true });
    symlinkSync(folder, installed);
    symlinkSync(join(root, 'package.json'), join(parent, 'package.json'));
    try {
      const { candidates } = loadAddon({ variant: 'cuda', root: parent, env: {} });
      expect(candidates.at(-1)?.verdict).toMatch(
        /^loaded, ABI version \d+, CUDA 13 for sm_80.*sm_120, driver 580\.65 or newer$/,
      );
    } finally {
      rmSync(parent, { recursive: true });
    }
  });
});
