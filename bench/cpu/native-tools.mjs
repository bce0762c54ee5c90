// Our own native programs (bench/native), built on first use.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from '../../scripts/run.mjs';
import { Companion } from './companion.mjs';
import { places } from './places.mjs';

function build(target) {
  const program = join(places.ourBuild, 'bench', 'native', target);
  if (!existsSync(join(places.ourBuild, 'CMakeCache.txt')))
    run('cmake', ['-S', root, '-B', places.ourBuild, '-DAUTOGLM_BENCH=ON', '-DCMAKE_BUILD_TYPE=Release']);
  run('cmake', ['--build', places.ourBuild, '-j', '2', '--target', target], { quiet: true });
  return program;
}

/** Answers with the machine's limits on that many threads: bench/native/machine_probe.cpp. */
export function machineProbe(threads) {
  return new Companion(build('autoglm_machine_probe'), [String(threads)]);
}

/** Our engine without Node, on a model that describe-model.mjs has described: bench/native/engine_bench.cpp. */
export function engineBench(description, file, threads) {
  return new Companion(build('autoglm_engine_bench'), [description, file, String(threads)]);
}

/** Answers with the speed of single products on that many threads: bench/native/product_bench.cpp. */
export function productBench(threads) {
  return new Companion(build('autoglm_product_bench'), [String(threads)]);
}
