// Checks formatting and lint of TypeScript (Biome) and C++ (clang-format); `--write` applies them.
// clang-format comes as a Python wheel, installed once into an ignored folder so that every machine uses one version.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bin, root, run } from './run.mjs';

const CLANG_FORMAT = '19.1.7';
const write = process.argv.includes('--write');

run(bin('biome'), ['check', '--error-on-warnings', ...(write ? ['--write'] : []), '.']);

const venv = join(root, '.cache', `clang-format-${CLANG_FORMAT}`);
const program = join(venv, 'bin', 'clang-format');
if (!existsSync(program)) {
  run('python3', ['-m', 'venv', venv]);
  run(join(venv, 'bin', 'python'), [
    '-m',
    'pip',
    'install',
    '--quiet',
    '--disable-pip-version-check',
    `clang-format==${CLANG_FORMAT}`,
  ]);
}
const listed = run(
  'git',
  ['ls-files', '--cached', '--others', '--exclude-standard', 'native', 'test/native', 'bench'],
  { quiet: true },
);
const sources = listed.stdout
  .split('\n')
  .filter((file) => /\.(h|cpp|cu|cuh)$/.test(file) && existsSync(join(root, file)));
if (sources.length > 0) run(program, [...(write ? ['-i'] : ['--dry-run', '-Werror']), ...sources]);
