// Builds the addon into build/Release, where node-gyp-build looks.
// --sanitize=address,undefined|thread builds into a folder of its own and leaves build/Release alone.
import { join } from 'node:path';
import { compileAddon, putInPlace } from './addon.mjs';
import { root } from './run.mjs';

const sanitize = process.argv.find((arg) => arg.startsWith('--sanitize='))?.slice('--sanitize='.length) ?? '';
const folder = join('build-cmake', sanitize === '' ? 'cpu' : sanitize.replace(',', '-'));
const built = compileAddon(folder, [`AUTOGLM_SANITIZE=${sanitize}`]);
if (sanitize === '') putInPlace(built, join(root, 'build', 'Release', 'open_autoglm.node'));
