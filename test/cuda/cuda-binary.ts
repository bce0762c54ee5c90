import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(__dirname, '..', '..');

/** The addon with CUDA code, and a CUDA driver for it whose device is the emulator; `npm test -- --only=cuda` makes both. */
export const CUDA_BINARY = join(root, 'build', 'Release-cuda', 'open_autoglm_cuda.node');
export const FAKE_DRIVER = join(
  root,
  'build-cmake',
  'tests',
  'test',
  'native',
  'cuda',
  'fake_driver',
  'libautoglm_fake_cuda.so',
);

for (const file of [CUDA_BINARY, FAKE_DRIVER]) {
  if (!existsSync(file)) throw new Error(`${file} is not there: run \`npm test -- --only=cuda\``);
}

/** Lets engines of this process find both. `settings` are those of test/native/cuda/fake_driver/control.h. */
export function useFakeDriver(settings = ''): void {
  process.env.OPEN_AUTOGLM_CUDA_DRIVER = FAKE_DRIVER;
  process.env.AUTOGLM_FAKE_CUDA = settings;
}
