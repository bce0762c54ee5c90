// Compiles the addon with cmake-js (offline: headers come from node-api-headers) and puts it where it is looked for.
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { bin, root, run } from './run.mjs';

/** Builds in `folder`, below the root, with `defines` such as `AUTOGLM_CUDA=ON`, and returns the file. */
export function compileAddon(folder, defines) {
  const hasNinja = run('ninja', ['--version'], { quiet: true, allowFailure: true }).status === 0;
  run(bin('cmake-js'), [
    'compile',
    '--log-level',
    'warn',
    '-O',
    folder,
    '--CDCMAKE_POLICY_VERSION_MINIMUM=3.18',
    ...defines.map((define) => `--CD${define}`),
    '--parallel',
    '2',
    ...(hasNinja ? ['-G', 'Ninja'] : []),
  ]);
  const built = ['', 'Release'].map((name) => join(root, folder, name, 'open_autoglm.node')).find(existsSync);
  if (built === undefined) {
    process.stderr.write(`cmake-js left no open_autoglm.node in ${folder}\n`);
    process.exit(1);
  }
  return built;
}

/** Renamed into place: a process that has the old file loaded keeps it. */
export function putInPlace(built, target) {
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(built, `${target}.new`);
  renameSync(`${target}.new`, target);
}
