// Drives the sanitizer build of the addon inside an ordinary Node: load, a batch of requests, aborts, close.
//   node scripts/sanitized-addon.mjs address-undefined|thread
// The sanitizer's run-time library must come first in the process, hence LD_PRELOAD.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { root, run } from './run.mjs';

const kind = process.argv[2] ?? '';
const library = { 'address-undefined': ['libasan.so', 'libubsan.so'], thread: ['libtsan.so'] }[kind];
if (library === undefined) {
  process.stderr.write(`expected address-undefined or thread, got "${kind}"\n`);
  process.exit(2);
}
const preload = library.map((name) =>
  execFileSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
);
run(process.execPath, [join(root, 'test', 'engine', 'smoke.cjs')], {
  env: {
    OPEN_AUTOGLM_BINARY: join(root, 'build-cmake', kind, 'Release', 'open_autoglm.node'),
    LD_PRELOAD: preload.join(' '),
    // Node itself keeps memory until it exits, so leaks are looked for by the native tests only.
    ASAN_OPTIONS: 'detect_leaks=0:halt_on_error=1',
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
    // Node is not instrumented: only races with both sides in the addon count.
    TSAN_OPTIONS: 'halt_on_error=1:ignore_noninstrumented_modules=1',
  },
});
