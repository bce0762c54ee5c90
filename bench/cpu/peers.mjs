// The peers: llama.cpp, whose source comes inside node-llama-cpp's package, and ik_llama.cpp from a checkout given by path.
// Both are built for this machine.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../scripts/run.mjs';
import { installPeer, PEER, peerFolder } from '../subjects.mjs';
import { places } from './places.mjs';

const TOOLS = ['llama-bench', 'llama-batched-bench', 'llama-perplexity', 'llama-server'];
const PARALLEL_JOBS = '2';

/** A peer's programs: `tool` gives the path of one, `isIk` tells whose options it takes. */
function peer(name, build, { isIk, source }) {
  return { name, isIk, version: commitOf(source), tool: (program) => join(build, 'bin', program) };
}

function commitOf(source) {
  if (source === null) return 'a finished build';
  const { status, stdout } = run('git', ['-C', source, 'rev-parse', '--short', 'HEAD'], {
    quiet: true,
    allowFailure: true,
  });
  return status === 0 ? stdout.trim() : 'unknown';
}

/** `finished` is a build folder of llama.cpp to take instead of the one made here. */
export function llamaCpp(finished) {
  if (finished !== undefined) return peer('llama.cpp', finished, { isIk: false, source: null });
  const bundle = join(peerFolder, 'node_modules', PEER.name, 'llama', 'gitRelease.bundle');
  if (!TOOLS.every((tool) => existsSync(join(places.llamaBuild, 'bin', tool)))) {
    installPeer();
    if (!existsSync(join(places.llamaSource, 'CMakeLists.txt')))
      run('git', ['clone', '--quiet', bundle, places.llamaSource]);
    build(places.llamaSource, places.llamaBuild, TOOLS, [
      '-DLLAMA_BUILD_EXAMPLES=OFF',
      '-DLLAMA_BUILD_APP=OFF',
      '-DLLAMA_USE_PREBUILT_UI=OFF',
      '-DLLAMA_OPENSSL=OFF',
    ]);
  }
  return peer('llama.cpp', places.llamaBuild, { isIk: false, source: places.llamaSource });
}

/** Null when no checkout was given. The build lies beside it. */
export function ikLlamaCpp(checkout) {
  if (checkout === undefined) return null;
  const folder = `${checkout.replace(/\/+$/, '')}-build`;
  const tools = TOOLS.slice(0, 2);
  if (!tools.every((tool) => existsSync(join(folder, 'bin', tool)))) {
    build(checkout, folder, tools, ['-DLLAMA_CURL=OFF', '-DLLAMA_BUILD_SERVER=OFF']);
  }
  return peer('ik_llama.cpp', folder, { isIk: true, source: checkout });
}

function build(source, folder, targets, options) {
  const fixed = ['-DCMAKE_BUILD_TYPE=Release', '-DGGML_NATIVE=ON', '-DLLAMA_BUILD_TESTS=OFF'];
  run('cmake', ['-S', source, '-B', folder, ...fixed, ...options]);
  run('cmake', ['--build', folder, '-j', PARALLEL_JOBS, '--target', ...targets]);
}
