// Builds the addon with cmake-js (offline: headers come from node-api-headers) and puts it where node-gyp-build looks.
// --sanitize=address,undefined|thread builds into a folder of its own and leaves build/Release alone.
import { copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { bin, root, run } from './run.mjs';

const sanitize = process.argv.find((arg) => arg.startsWith('--sanitize='))?.slice('--sanitize='.length) ?? '';
const folder = join('build-cmake', sanitize === '' ? 'cpu' : sanitize.replace(',', '-'));
const hasNinja = run('ninja', ['--version'], { quiet: true, allowFailure: true }).status === 0;

run(bin('cmake-js'), [
  'compile',
  '--log-level',
  'warn',
  '-O',
  folder,
  '--CDCMAKE_POLICY_VERSION_MINIMUM=3.18',
  `--CDAUTOGLM_SANITIZE=${sanitize}`,
  '--parallel',
  '2',
  ...(hasNinja ? ['-G', 'Ninja'] : []),
]);
const built = [
  join(root, folder, 'open_autoglm.node'),
  join(root, folder, 'Release', 'open_autoglm.node'),
].find(existsSync);
if (built === undefined) {
  process.stderr.write(`cmake-js left no open_autoglm.node in ${folder}\n`);
  process.exit(1);
}
if (sanitize === '') {
  mkdirSync(join(root, 'build', 'Release'), { recursive: true });
  // Renamed into place: a process that has the old file loaded keeps it.
  const target = join(root, 'build', 'Release', 'open_autoglm.node');
  copyFileSync(built, `${target}.new`);
  renameSync(`${target}.new`, target);
}
