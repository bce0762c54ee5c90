// The test command: installs, builds and runs every check. The last line adds up all runners.
//   npm test                      everything
//   npm test -- --only=unit,style names of steps below
// A step that fails does not stop the others; the command fails in the end.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ensureInstalled } from './installed.mjs';
import { bin, root, run } from './run.mjs';

const results = join(root, '.cache', 'results');
const totals = { passed: 0, failed: 0, skipped: 0 };
const failures = [];

/** `details`: what failed, shown again at the end. */
function count(step, { passed = 0, failed = 0, skipped = 0, details = [] }) {
  totals.passed += passed;
  totals.failed += failed;
  totals.skipped += skipped;
  if (failed > 0) failures.push(`${step}: ${failed} failed`, ...details);
}

/** A check that either holds or not: formatting, types. */
function check(step, command, args) {
  const { status } = run(command, args, { allowFailure: true });
  count(step, status === 0 ? { passed: 1 } : { failed: 1 });
  return status === 0;
}

function vitest(step, folders, env = {}) {
  const file = join(results, `${step}.json`);
  const args = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${file}`, ...folders];
  const { status } = run(bin('vitest'), args, { allowFailure: true, env });
  if (!existsSync(file)) return count(step, { failed: 1 });
  const report = JSON.parse(readFileSync(file, 'utf8'));
  const failed = report.numFailedTests;
  // A file that fails to load has no test of its own, but it is a failure all the same.
  count(step, {
    passed: report.numPassedTests,
    failed: status !== 0 && failed === 0 ? 1 : failed,
    skipped: report.numPendingTests + report.numTodoTests,
    details: report.testResults.flatMap(failuresOfFile),
  });
}

function failuresOfFile(file) {
  const failed = file.assertionResults.filter((test) => test.status === 'failed');
  if (failed.length === 0) return file.status === 'failed' ? [`  ${file.name}: ${file.message}`] : [];
  return failed.map((test) => `  ${test.fullName}: ${test.failureMessages.join('\n').slice(0, 2_000)}`);
}

/** Builds test/native with the given sanitizers and runs the executables that `matches` names. */
function googleTest(step, sanitize, matches, { env, filter } = {}) {
  const folder = join(root, 'build-cmake', `tests${sanitize === '' ? '' : `-${sanitize.replace(',', '-')}`}`);
  buildAndRunTests(step, folder, [`-DAUTOGLM_SANITIZE=${sanitize}`], matches, { env, filter });
}

/** Whole models on the emulator take AddressSanitizer minutes: what others of autoglm_cuda_backend_tests go through, too. */
const REPEATING_MODELS = [
  'GpuDecoder.*',
  'GpuSteps.*',
  '*/GpuStepsOfLayers.*/0',
  '*/GpuAdaptersOfLayers.*/0',
  '*/GpuDecoderFormats.ComputeTheLogitsOfTheCpu/*',
  '*/GpuRunAhead.*',
  'GpuHostLayers.NormBehindSublayers',
  'GpuHostLayers.LeaveTheLogitsOfTheCpuWhereverTheySplitAModel',
  'GpuHostLayers.SlideWindowsAndRotateByTablesOfTheirOwn',
];

/** Runs the kernels of 64-bit ARM: compiled here, for the processor that qemu-user plays. */
function arm64Test(step) {
  const missing = ['aarch64-linux-gnu-g++', 'qemu-aarch64'].filter((name) => !isInstalled(name));
  if (!existsSync('/usr/src/googletest')) missing.push('/usr/src/googletest');
  if (missing.length > 0) {
    process.stdout.write(`skipped: not installed: ${missing.join(', ')}\n`);
    return count(step, { skipped: 1 });
  }
  const toolchain = join(root, 'scripts', 'aarch64-linux-gnu.cmake');
  buildAndRunTests(
    step,
    join(root, 'build-cmake', 'tests-arm64'),
    [`-DCMAKE_TOOLCHAIN_FILE=${toolchain}`],
    /_tests$/,
    {
      runner: ['qemu-aarch64', '-L', '/usr/aarch64-linux-gnu'],
      filter: '*/neon*:CpuInfo.*:Half.*:MachineCode.*',
    },
  );
}

/** The CUDA kernels and their addon, compiled and looked at; running them takes a GPU. */
function cudaGate(step) {
  for (const [name, script] of [
    ['gate', 'gate.mjs'],
    ['addon', 'addon-checks.mjs'],
  ]) {
    if (name === 'addon' && !check(`${step} addon (build)`, ...node('build-cuda.mjs'))) return;
    const file = join(results, `${step}-${name}.json`);
    run(process.execPath, [join(root, 'scripts', 'cuda', script), `--report=${file}`], {
      allowFailure: true,
    });
    count(`${step} ${name}`, existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : { failed: 1 });
  }
  const folder = join(root, 'build-cmake', 'tests');
  const built =
    check(`${step} (fake driver)`, 'cmake', [
      '-S',
      root,
      '-B',
      folder,
      '-G',
      'Ninja',
      '-DAUTOGLM_TESTS=ON',
    ]) &&
    check(`${step} (fake driver)`, 'cmake', [
      '--build',
      folder,
      '--parallel',
      '2',
      '--target',
      'autoglm_fake_cuda',
    ]);
  vitest(step, built ? ['test/cuda-gate', 'test/cuda'] : ['test/cuda-gate']);
}

function isInstalled(program) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, program)));
}

/** `runner` is what starts a program of another processor, `filter` a choice of tests. */
function buildAndRunTests(step, folder, options, matches, { env = {}, runner = [], filter = '*' }) {
  const configure = ['-S', root, '-B', folder, '-G', 'Ninja', '-DAUTOGLM_TESTS=ON', ...options];
  if (!check(`${step} (build)`, 'cmake', configure)) return;
  if (!check(`${step} (build)`, 'cmake', ['--build', folder, '--parallel', '2'])) return;
  for (const name of readdirSync(join(folder, 'test', 'native')).filter((file) => matches.test(file))) {
    const file = join(results, `${step}-${name}.json`);
    const program = join(folder, 'test', 'native', name);
    const [command, ...args] = [
      ...runner,
      program,
      '--gtest_brief=1',
      `--gtest_filter=${filter}`,
      `--gtest_output=json:${file}`,
    ];
    const { status, stdout, stderr } = run(command, args, { allowFailure: true, quiet: true, env });
    process.stdout.write(stdout);
    process.stdout.write(stderr);
    const details = [stdout.slice(-4_000), stderr.slice(0, 8_000)]; // a sanitizer says first what matters
    if (!existsSync(file)) count(`${step} ${name}`, { failed: 1, details });
    else {
      const report = JSON.parse(readFileSync(file, 'utf8'));
      const suites = report.testsuites.flatMap((suite) => suite.testsuite);
      const skipped = suites.filter((test) => test.result === 'SKIPPED').length;
      const failed = status !== 0 && report.failures === 0 ? 1 : report.failures;
      count(`${step} ${name}`, {
        passed: report.tests - report.failures - skipped,
        failed,
        skipped,
        details,
      });
    }
  }
}

const node = (script, ...args) => [process.execPath, [join(root, 'scripts', script), ...args]];
const model = 'smollm2-135m-instruct';

const steps = {
  format: () => check('format', ...node('format.mjs')),
  build: () => {
    check('build', ...node('build.mjs'));
    check('model', process.execPath, [join(root, 'dist', 'cli', 'main.js'), 'pull', model]);
  },
  // After the build: engine tests are typed against dist/.
  types: () => check('types', bin('tsc'), ['--noEmit', '-p', 'tsconfig.test.json']),
  style: () => vitest('style', ['test/style']),
  unit: () => vitest('unit', ['test/unit', 'test/simulation']),
  engine: () => vitest('engine', ['test/engine', 'test/parity']),
  server: () => vitest('server', ['test/server']),
  package: () => vitest('package', ['test/package']),
  native: () => googleTest('native', '', /_tests$/),
  arm64: () => arm64Test('arm64'),
  cuda: () => cudaGate('cuda'),
  asan: () => {
    googleTest('asan', 'address,undefined', /_tests$/, {
      env: { UBSAN_OPTIONS: 'halt_on_error=1' },
      filter: `-${REPEATING_MODELS.join(':')}`,
    });
    if (check('asan addon (build)', ...node('build-native.mjs', '--sanitize=address,undefined'))) {
      check('asan addon', ...node('sanitized-addon.mjs', 'address-undefined'));
    }
  },
  tsan: () => {
    googleTest('tsan', 'thread', /_tests$/, { env: { TSAN_OPTIONS: 'halt_on_error=1' } });
    if (check('tsan addon (build)', ...node('build-native.mjs', '--sanitize=thread'))) {
      check('tsan addon', ...node('sanitized-addon.mjs', 'thread'));
    }
  },
};

const only = process.argv
  .find((arg) => arg.startsWith('--only='))
  ?.slice('--only='.length)
  .split(',');
const unknown = only?.find((name) => !(name in steps));
if (unknown !== undefined) {
  process.stderr.write(`no step ${unknown}; there are ${Object.keys(steps).join(', ')}\n`);
  process.exit(2);
}
ensureInstalled();
rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });
for (const [name, step] of Object.entries(steps)) {
  if (only !== undefined && !only.includes(name)) continue;
  const started = process.hrtime.bigint();
  process.stdout.write(`\n== ${name}\n`);
  step();
  process.stdout.write(`== ${name}: ${Number((process.hrtime.bigint() - started) / 1_000_000_000n)} s\n`);
}
for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`);
process.exitCode = totals.failed > 0 ? 1 : 0;
