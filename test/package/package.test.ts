import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(__dirname, '..', '..');
const folder = mkdtempSync(join(tmpdir(), 'open-autoglm-package-'));
const project = join(folder, 'project with spaces');

/** npm's own configuration of this run must not leak into the commands under test. */
function cleanEnv(extra: Record<string, string> = {}): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    ([name]) => !/^npm_(config_(?!cache)|package|lifecycle)/i.test(name),
  );
  return { ...(Object.fromEntries(entries) as Record<string, string>), ...extra };
}

function sh(command: string, args: string[], cwd: string, env = cleanEnv()): string {
  return execFileSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

interface PackReport {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}
let report: PackReport;

/** A PATH on which node, npm and a shell are the only programs: no compiler, no Python, no CMake. */
function barePath(): string {
  const bare = join(folder, 'bin');
  mkdirSync(bare, { recursive: true });
  symlinkSync(process.execPath, join(bare, 'node'));
  symlinkSync(execFileSync('which', ['npm'], { encoding: 'utf8' }).trim(), join(bare, 'npm'));
  symlinkSync('/bin/sh', join(bare, 'sh'));
  return bare;
}

beforeAll(() => {
  sh('npm', ['run', '--silent', 'make:prebuilds'], root);
  const output = sh('npm', ['pack', '--json', '--pack-destination', folder], root);
  // npm 11 prints a list, npm 12 an object keyed by name.
  const parsed = JSON.parse(output) as PackReport[] | Record<string, PackReport>;
  report = Object.values(parsed)[0] as PackReport;
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "empty", "private": true }');
  const bare = barePath();
  sh(
    join(bare, 'npm'),
    ['install', '--ignore-scripts', '--no-audit', '--no-fund', join(folder, report.filename)],
    project,
    cleanEnv({ PATH: bare }),
  );
}, 600_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the tarball', () => {
  test('holds the build, this platform prebuild and nothing that would compile', () => {
    const paths = report.files.map((file) => file.path);
    expect(paths).toContain(`prebuilds/${process.platform}-${process.arch}/node.napi.node`);
    expect(paths).toContain('dist/index.mjs');
    const stray = paths.filter(
      (path) => !/^(dist\/|prebuilds\/|README\.md$|LICENSE$|package\.json$)/.test(path),
    );
    expect(stray).toEqual([]);
    expect(paths.filter((path) => /binding\.gyp|CMakeLists|\.(cpp|h|def)$/.test(path))).toEqual([]);
  });

  test('stays below 8 MB', () => {
    expect(report.size).toBeLessThan(8_000_000);
  });

  test('has an addon that needs only the C library and exports only the Node-API entry points', () => {
    const addon = join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'node.napi.node');
    const needed = [...sh('readelf', ['-d', addon], root).matchAll(/NEEDED.*\[(.*)\]/g)].map(
      (match) => match[1] ?? '',
    );
    expect(
      needed.filter((name) => !/^(libc|libm|libdl|libpthread|librt|ld-linux-x86-64)\.so/.test(name)),
    ).toEqual([]);
    const exported = sh('nm', ['-D', '--defined-only', addon], root)
      .split('\n')
      .flatMap((line) => line.split(' ')[2] ?? []);
    expect(
      exported.filter((name) => !/^(napi_register_module_v1|node_api_module_get_api_version_v1)$/.test(name)),
    ).toEqual([]);
  });
});

describe('an empty project that installed it without scripts and without a compiler', () => {
  const generate = "generate({ prompt: 'The capital of France is', maxTokens: 4, temperature: 0 })";
  const run = (file: string, code: string): string => {
    const path = join(project, file);
    writeFileSync(path, code);
    const bare = dirname(join(folder, 'bin', 'node'));
    return sh(process.execPath, [path], project, cleanEnv({ PATH: bare, HF_HUB_OFFLINE: '1' }));
  };

  test('generates text by import', () => {
    const code = `import { loadModel } from 'open-autoglm';
      const model = await loadModel('smollm2-135m-instruct');
      console.log((await model.${generate}).text);`;
    expect(run('esm.mjs', code)).toContain('Paris');
  });

  test('generates text by require', () => {
    const code = `const { loadModel } = require('open-autoglm');
      loadModel('smollm2-135m-instruct').then(async (model) => console.log((await model.${generate}).text));`;
    expect(run('cjs.cjs', code)).toContain('Paris');
  });

  test('shares one set of classes between import and require', () => {
    const code = `import { createRequire } from 'node:module';
      import * as esm from 'open-autoglm';
      const cjs = createRequire(import.meta.url)('open-autoglm');
      const names = Object.keys(cjs).filter((name) => name !== '__esModule');
      console.log(names.length > 0 && names.every((name) => cjs[name] === esm[name]));`;
    expect(run('both.mjs', code).trim()).toBe('true');
  });

  test('loads nothing native on import', () => {
    const code = `const before = process.report.getReport().sharedObjects.length;
      require('open-autoglm');
      const added = process.report.getReport().sharedObjects.slice(before).filter((name) => name.endsWith('.node'));
      console.log(JSON.stringify(added));`;
    expect(run('inert.cjs', code).trim()).toBe('[]');
  });
});
