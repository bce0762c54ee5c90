import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = join(__dirname, '..', '..');

const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const ours = tracked.filter(
  (file) =>
    /^(lib|native|test|bench|scripts)\//.test(file) && /\.(ts|mjs|mts|h|cpp|cu|cuh|def|py)$/.test(file),
);
const GENERATED = new Set(['lib/native/abi.ts']);

/** Folders of lib/, top first: each may import from itself and from those after it. */
const TYPESCRIPT_ORDER = [
  'index',
  'cli',
  'server',
  'engine',
  'chat',
  'scheduler',
  'tokenizer',
  'model',
  'native',
  'errors',
];
/** Folders of native/, top first. */
const NATIVE_ORDER = ['addon', 'runtime', 'model', 'memory', 'ops', 'quant', 'cpu', 'cuda', 'base'];

const layerOf = (file: string): string =>
  file
    .replace(/^lib\//, '')
    .split('/')[0]
    ?.replace(/\.ts$/, '') ?? '';

describe('the import matrix', () => {
  test('a TypeScript folder imports only from folders below it', () => {
    const wrong: string[] = [];
    for (const file of tracked.filter((name) => name.startsWith('lib/') && name.endsWith('.ts'))) {
      const from = TYPESCRIPT_ORDER.indexOf(layerOf(file));
      expect(from, `${file} is in no known folder`).toBeGreaterThanOrEqual(0);
      for (const match of read(file).matchAll(/(?:from|import|require)\s*\(?\s*['"](\.[^'"]+)['"]/g)) {
        const target = relative(root, normalize(join(root, dirname(file), match[1] ?? '')));
        const to = TYPESCRIPT_ORDER.indexOf(layerOf(target));
        if (to < from) wrong.push(`${file} imports ${match[1]}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('a native folder includes only from folders below it', () => {
    const wrong: string[] = [];
    for (const file of tracked.filter(
      (name) => name.startsWith('native/') && /\.(h|cpp|cu|cuh)$/.test(name),
    )) {
      const from = NATIVE_ORDER.indexOf(file.split('/')[1] ?? '');
      expect(from, `${file} is in no known folder`).toBeGreaterThanOrEqual(0);
      for (const match of read(file).matchAll(/#include "([^"]+)"/g)) {
        const to = NATIVE_ORDER.indexOf((match[1] ?? '').split('/')[0] ?? '');
        if (to < from) wrong.push(`${file} includes ${match[1]}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('only native/addon knows Node-API', () => {
    const wrong = tracked.filter(
      (file) =>
        /^native\/.*\.(h|cpp)$/.test(file) &&
        !file.startsWith('native/addon/') &&
        /napi\.h|node_api/.test(read(file)),
    );
    expect(wrong).toEqual([]);
  });

  test('the scheduler is pure: no clock, no timers, no files, no randomness, no environment', () => {
    const impure =
      /\b(process\.|setTimeout|setInterval|setImmediate|Date\.|performance\.|Math\.random|node:(?!crypto))/;
    const wrong = tracked.filter((file) => file.startsWith('lib/scheduler/') && impure.test(read(file)));
    expect(wrong).toEqual([]);
  });

  test('the library itself never prints and never exits', () => {
    const wrong: string[] = [];
    for (const file of tracked.filter((name) => /^lib\/.*\.ts$/.test(name) && !name.startsWith('lib/cli/'))) {
      if (/\bconsole\.|process\.(stdout|stderr|exit)\b/.test(read(file))) wrong.push(file);
    }
    for (const file of tracked.filter((name) => /^native\/.*\.(h|cpp|cu|cuh)$/.test(name))) {
      if (
        /\b(std::)?(abort|exit|_exit|terminate)\s*\(\s*\)|\bassert\s*\(|\bprintf\s*\(|std::c(out|err)\b/.test(
          read(file),
        )
      )
        wrong.push(file);
    }
    expect(wrong).toEqual([]);
  });
});

describe('sizes', () => {
  test('no source file exceeds 500 lines', () => {
    const long = ours
      .filter((file) => !GENERATED.has(file))
      .map((file) => ({ file, lines: read(file).split('\n').length - 1 }));
    expect(long.filter(({ lines }) => lines > 500)).toEqual([]);
  });

  // A function ends at the first line that closes at its own indentation; the formatters guarantee that shape.
  test('no function of the library exceeds 70 lines', () => {
    const wrong: string[] = [];
    for (const file of tracked.filter((name) => /^(lib|native)\/.*\.(ts|cpp|h|cu|cuh)$/.test(name))) {
      if (/^native\/(cpu|cuda)\//.test(file)) continue; // kernels: a body may take 150 lines in named sections
      const lines = read(file).split('\n');
      const isTypeScript = file.endsWith('.ts');
      const start = isTypeScript
        ? /^(\s*)(?:export )?(?:async )?(?:function\*? |(?:static |private |override |async |get |set |\*)*#?[a-zA-Z]\w*\([^)]*\)?.*\{$|constructor)/
        : /^(\s*)[\w:<>&*~ ,[\]]+\([^;]*\{$/;
      for (let i = 0; i < lines.length; i += 1) {
        const match = start.exec(lines[i] ?? '');
        if (
          match === null ||
          /^\s*:/.test(lines[i] ?? '') || // a constructor's initializers, one line or many
          lines[i - 1]?.endsWith(',') ||
          /^\s*(if|for|while|switch|return|else|namespace|struct|class|do|try|catch|await|export (class|const)|describe)\b/.test(
            lines[i] ?? '',
          )
        )
          continue;
        const end = lines.findIndex((line, j) => j > i && line.startsWith(`${match[1]}}`));
        if (end - i + 1 > 70) wrong.push(`${file}:${i + 1} has ${end - i + 1} lines`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

describe('words', () => {
  test('no file is named after a drawer', () => {
    const wrong = ours.filter((file) =>
      /(^|\/|[-_])(utils?|helpers?|common|misc|managers?|factory)\.(ts|h|cpp|mjs)$/.test(file),
    );
    expect(wrong).toEqual([]);
  });

  test('comments neither narrate edits nor praise', () => {
    const banned =
      /(?:\/\/|\*|#).*\b(previously|no longer|simply|robust|comprehensive|for now|TODO|FIXME|XXX|HACK)\b/;
    const wrong: string[] = [];
    for (const file of ours.filter((name) => name !== 'test/style/tidy.test.ts')) {
      for (const [i, line] of read(file).split('\n').entries())
        if (banned.test(line)) wrong.push(`${file}:${i + 1} ${line.trim()}`);
    }
    expect(wrong).toEqual([]);
  });

  // One word per thing: docs/architecture.md has the glossary.
  test('synonyms that the glossary bans are not used for KV pages and rows', () => {
    const banned = /\b(kv_?block|kvBlock|block_table|blockTable|numBlocks|num_blocks|pageTableBlock)\b/;
    const wrong = ours.filter((file) => /^(lib|native)\//.test(file) && banned.test(read(file)));
    expect(wrong).toEqual([]);
  });

  test('no registry host and no path of a build machine is written down', () => {
    const banned = new RegExp(
      ['/wo' + 'rk/', '/ro' + 'ot/', 'pypi\\.o' + 'rg', 'registry\\.npm' + 'js', 'pythonho' + 'sted'].join(
        '|',
      ),
    );
    const texts = tracked.filter((file) =>
      /\.(ts|mjs|mts|h|cpp|def|py|json|md|txt|yml|html|sh)$|^\.ci\//.test(file),
    );
    expect(texts.filter((file) => banned.test(read(file)))).toEqual([]);
  });
});

describe('what is generated', () => {
  test('lib/native/abi.ts is what native/base/*.def says', () => {
    execFileSync(process.execPath, [join(root, 'scripts', 'generate-abi.mjs'), '--check'], { cwd: root });
  });

  test('every native error code exists in TypeScript', () => {
    const union = read('lib/errors.ts');
    for (const match of read('native/base/error_codes.def').matchAll(/^AUTOGLM_ERROR_CODE\((\w+)\)/gm)) {
      expect(union, `${match[1]} is missing in lib/errors.ts`).toContain(`'${match[1]}'`);
    }
  });
});

describe('the repository', () => {
  test('has the mandated top level', () => {
    for (const name of [
      'package.json',
      'CMakeLists.txt',
      'binding.gyp',
      'native',
      'lib',
      'prebuilds',
      'test',
    ]) {
      expect(existsSync(join(root, name)), `${name} is missing`).toBe(true);
    }
  });

  test('the package has no lifecycle scripts and pins its run-time dependencies', () => {
    const manifest = JSON.parse(read('package.json')) as {
      scripts: Record<string, string>;
      dependencies: Record<string, string>;
      gypfile: boolean;
    };
    const lifecycle = [
      'preinstall',
      'install',
      'postinstall',
      'prepare',
      'prepack',
      'postpack',
      'prepublish',
      'prepublishOnly',
      'prebuild',
      'postbuild',
      'pretest',
      'posttest',
    ];
    expect(Object.keys(manifest.scripts).filter((name) => lifecycle.includes(name))).toEqual([]);
    expect(manifest.gypfile).toBe(false);
    expect(
      Object.values(manifest.dependencies).filter((version) => !/^\d+\.\d+\.\d+$/.test(version)),
    ).toEqual([]);
  });
});
