// The CUDA compiler: one that is installed, or NVIDIA's Python wheels in the build folder. No GPU and no driver is needed.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { root, run } from '../run.mjs';

// The budget of registers (test/cuda-gate) holds for exactly this compiler.
const WHEELS = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
  'nvidia-cuda-cccl==13.0.85',
];
const OLDEST = [12, 8]; // the first that knows sm_120 and --compress-mode

/** The installed compiler, or the wheels where there is none: {nvcc, version, origin}. */
export function findToolkit() {
  for (const [origin, nvcc] of installedCompilers()) {
    const toolkit = describe(nvcc, origin);
    if (isNewEnough(toolkit.version)) return toolkit;
    process.stdout.write(`${nvcc} (${origin}) is CUDA ${toolkit.version}, older than ${OLDEST.join('.')}\n`);
  }
  return pinnedToolkit();
}

/** The wheels, installed into `folder` on the first call. Ends the process when pip cannot get them. */
export function pinnedToolkit(folder = join(root, 'build-cmake', 'cuda-toolkit')) {
  const stamp = join(folder, createHash('sha256').update(WHEELS.join()).digest('hex').slice(0, 16));
  if (!existsSync(stamp)) {
    installWheels(folder);
    writeFileSync(stamp, `${WHEELS.join('\n')}\n`);
  }
  const library = join(folder, 'lib');
  const python = readdirSync(library).find((name) => name.startsWith('python3'));
  const nvcc = join(library, python ?? '', 'site-packages', 'nvidia', 'cu13', 'bin', 'nvcc');
  return describe(nvcc, 'wheels');
}

function installWheels(folder) {
  process.stdout.write(`installing ${WHEELS.join(' ')}\n`);
  const commands = [
    ['python3', ['-m', 'venv', '--clear', folder]],
    [
      join(folder, 'bin', 'python'),
      ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...WHEELS],
    ],
  ];
  for (const [command, args] of commands) {
    const { status } = run(command, args, { allowFailure: true });
    if (status === 0) continue;
    process.stderr.write(
      `no CUDA compiler: ${[command, ...args].join(' ')} failed. Its Python wheels need the network once; or let CUDA_HOME\n` +
        `name a toolkit >= ${OLDEST.join('.')} for build:cuda. The compile gate takes the wheels only.\n`,
    );
    process.exit(1);
  }
}

/** [where it was named, path], in the order of preference. */
function installedCompilers() {
  const { CUDA_HOME, CUDA_PATH, PATH = '' } = process.env;
  const named = [
    ['CUDA_HOME', CUDA_HOME && join(CUDA_HOME, 'bin', 'nvcc')],
    ['CUDA_PATH', CUDA_PATH && join(CUDA_PATH, 'bin', 'nvcc')],
    ...PATH.split(delimiter).map((path) => ['PATH', join(path, 'nvcc')]),
  ];
  return named.filter(([, path]) => path && existsSync(path));
}

function describe(nvcc, origin) {
  const { stdout } = run(nvcc, ['--version'], { quiet: true });
  const version = /release [\d.]+, V([\d.]+)/.exec(stdout)?.[1];
  if (version === undefined) throw new Error(`${nvcc} --version names no release:\n${stdout}`);
  return { nvcc, version, origin };
}

function isNewEnough(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}
