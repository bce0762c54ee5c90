import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const script = join(__dirname, '..', '..', 'scripts', 'cuda', 'toolkit.mjs');
const folder = mkdtempSync(join(tmpdir(), 'open-autoglm-toolkit-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A folder with bin/`name`, a shell script. */
function withProgram(home: string, name: string, text: string): string {
  const bin = join(folder, home, 'bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  return join(folder, home);
}
const toolkitOf = (version: string) =>
  withProgram(version, 'nvcc', `echo "Cuda compilation tools, release ${version}, V${version}.88"`);

function ask(call: string, env: Record<string, string>) {
  return spawnSync(
    process.execPath,
    ['-e', `import('${script}').then((module) => console.log(JSON.stringify(module.${call})))`],
    { encoding: 'utf8', env: { PATH: process.env.PATH ?? '', ...env } },
  );
}
function found(env: Record<string, string>): { nvcc: string; version: string; origin: string } {
  const { stdout, stderr, status } = ask('findToolkit()', env);
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '');
}

describe('the CUDA compiler', () => {
  test('is that of CUDA_HOME before CUDA_PATH and PATH', () => {
    const env = {
      CUDA_HOME: toolkitOf('12.9'),
      CUDA_PATH: toolkitOf('13.0'),
      PATH: `${join(toolkitOf('13.1'), 'bin')}:${process.env.PATH}`,
    };
    expect(found(env)).toEqual({
      nvcc: join(folder, '12.9', 'bin', 'nvcc'),
      version: '12.9.88',
      origin: 'CUDA_HOME',
    });
    expect(found({ ...env, CUDA_HOME: '' }).origin).toBe('CUDA_PATH');
    expect(found({ PATH: env.PATH }).version).toBe('13.1.88');
  });

  test('is not one older than 12.8, which is said', () => {
    const env = { CUDA_HOME: toolkitOf('12.6'), CUDA_PATH: toolkitOf('12.8') };
    expect(found(env).origin).toBe('CUDA_PATH');
    expect(ask('findToolkit()', env).stdout).toContain('(CUDA_HOME) is CUDA 12.6.88, older than 12.8');
  });

  test('comes as wheels where none is installed', () => {
    const PATH = (process.env.PATH ?? '')
      .split(':')
      .filter((path) => !existsSync(join(path, 'nvcc')))
      .join(':');
    expect(found({ PATH })).toMatchObject({ version: '13.0.88', origin: 'wheels' });
  });

  test('that pip cannot get ends the run with what to do', () => {
    const python = withProgram('offline', 'python3', 'exit 1');
    const { status, stderr } = ask(`pinnedToolkit('${join(folder, 'none')}')`, {
      PATH: `${join(python, 'bin')}:${process.env.PATH}`,
    });
    expect(status).toBe(1);
    expect(stderr).toContain('no CUDA compiler');
    expect(stderr).toContain('need the network once');
  });
});
