// Makes prebuilds/<platform>-<arch>/node.napi.node with prebuildify. prebuildify calls node-gyp; scripts/gyp-shim stands
// in for it and calls the one real build, scripts/build-native.mjs.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { bin, root, run } from './run.mjs';

run(bin('prebuildify'), [
  '--napi',
  '--name',
  'node.napi',
  '--strip',
  '--node-gyp',
  join(root, 'scripts', 'gyp-shim'),
]);
const file = join(root, 'prebuilds', `${process.platform}-${process.arch}`, 'node.napi.node');
if (!existsSync(file)) {
  process.stderr.write(`prebuildify left no ${file}\n`);
  process.exit(1);
}
process.stdout.write(`${file}: ${(statSync(file).size / 1e6).toFixed(2)} MB\n`);
