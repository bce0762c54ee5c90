// Everything a checkout needs to run: the TypeScript and the addon.
import { join } from 'node:path';
import { root, run } from './run.mjs';

run(process.execPath, [join(root, 'scripts', 'build-ts.mjs')]);
run(process.execPath, [join(root, 'scripts', 'build-native.mjs')]);
