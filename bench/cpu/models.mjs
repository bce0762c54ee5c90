// The models: SmolLM2 as its authors' readers publish it, and files of known shapes with random weights.
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, run } from '../../scripts/run.mjs';
import { places } from './places.mjs';

const MADE = {
  '1b-q4_0': ['llama-3.2-1b', 'q4_0'],
  '1b-bf16': ['llama-3.2-1b', 'bf16'],
  '8b-q4_0': ['llama-3.1-8b', 'q4_0'],
};

/** The file of a model, fetched or made when it is not there yet. */
export async function modelFile(name) {
  return name === 'smollm2' ? smollm2() : made(name);
}

async function smollm2() {
  const { createEngine } = await import(pathToFileURL(join(root, 'dist', 'index.mjs')).href);
  const engine = await createEngine({ threads: 1 });
  try {
    const model = await engine.loadModel('smollm2-135m-instruct');
    return model.info.files[0];
  } finally {
    await engine.close();
  }
}

function made(name) {
  const [shape, format] = MADE[name];
  const file = join(places.models, `${shape}-${format}.gguf`);
  if (existsSync(file)) return file;
  mkdirSync(places.models, { recursive: true });
  const script = join(root, 'bench', 'cpu', 'make_model.py');
  run(python(), [script, shape, format, `${file}.part`]);
  renameSync(`${file}.part`, file);
  return file;
}

/** An interpreter of its own with the packages of requirements.txt. */
export function python() {
  const program = join(places.python, 'bin', 'python');
  if (!existsSync(program)) {
    run('python3', ['-m', 'venv', places.python]);
    run(program, ['-m', 'pip', 'install', '--quiet', '-r', join(root, 'bench', 'cpu', 'requirements.txt')]);
  }
  return program;
}
