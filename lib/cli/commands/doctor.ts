import { execFile } from 'node:child_process';
import { access, constants, mkdir, statfs } from 'node:fs/promises';
import { cpus } from 'node:os';
import { promisify } from 'node:util';
import { createEngine } from '../../engine/create-engine';
import { freeMemory } from '../../engine/worker/free-memory';
import { driverLibrary } from '../../engine/worker/gpu';
import { AutoglmError } from '../../errors';
import { cacheFolder, hubCacheFolder, isOfflineByEnvironment } from '../../model/source/cache-folders';
import { listCached } from '../../model/source/cached-models';
import { loadAddon } from '../../native/loader';
import { EXIT_FAILURE } from '../failure';
import { formatBytes } from '../figures';
import { answer, answerJson, colors } from '../terminal';

export interface DoctorFlags {
  readonly json?: boolean;
}

interface Finding {
  readonly what: string;
  readonly state: 'good' | 'limited' | 'bad';
  readonly text: string;
  /** Further lines, such as every binary that was looked at. */
  readonly lines?: readonly string[];
  readonly hint?: string;
}

/** Checks what this package needs on this machine. Fails when no model could run. */
export async function doctor(flags: DoctorFlags): Promise<number> {
  const checks = [checkNode, checkBinary, checkGpus, checkMemory, checkCaches, checkModels, checkPip];
  const findings: Finding[] = [];
  for (const check of checks) findings.push(...(await check()));
  if (flags.json === true) answerJson(findings);
  else for (const finding of findings) show(finding);
  return findings.some(({ state }) => state === 'bad') ? EXIT_FAILURE : 0;
}

const MARKS = { good: colors.green('ok  '), limited: colors.yellow('note'), bad: colors.red('fail') };

function show({ what, state, text, lines = [], hint }: Finding): void {
  answer(`${MARKS[state]} ${what}: ${text}`);
  for (const line of lines) answer(`       ${line}`);
  if (hint !== undefined) answer(`       hint: ${hint}`);
}

async function checkNode(): Promise<Finding[]> {
  const { version, platform, arch } = process;
  return [{ what: 'Node', state: 'good', text: `${version} on ${platform}-${arch}` }];
}

/** The binary that is chosen, and why the others are not. */
async function checkBinary(): Promise<Finding[]> {
  const what = 'native binary';
  try {
    const { path, candidates, cpu } = loadAddon();
    const lines = candidates.map((candidate) => `${candidate.path}: ${candidate.verdict}`);
    const name = cpus()[0]?.model.trim() ?? cpu.model;
    const text = `${name}, ${cpu.numCores} processors, kernels for ${cpu.isa} (possible: ${cpu.supported.join(', ')})`;
    return [
      { what, state: 'good', text: path, lines },
      { what: 'processor', state: 'good', text },
      await checkEngine(),
    ];
  } catch (error) {
    return [failed(what, error)];
  }
}

/** GPUs are a choice: nothing that is missing here keeps a model from running. */
async function checkGpus(): Promise<Finding[]> {
  const what = 'GPU';
  try {
    const { addon, candidates } = loadAddon({ variant: 'cuda' });
    const report = addon.describeGpus?.(driverLibrary());
    if (report === undefined) return [];
    const lines = [
      ...candidates.map(({ path, verdict }) => `${path}: ${verdict}`),
      ...report.devices.map(
        ({ index, name, computeCapability, totalBytes, isSupported }) =>
          `cuda:${index} ${name}, compute capability ${computeCapability / 10}, ${formatBytes(totalBytes)}${isSupported ? '' : ': not supported'}`,
      ),
    ];
    if (report.status !== 'ready')
      return [{ what, state: 'limited', text: report.problem, lines, hint: report.remedy }];
    return [{ what, state: 'good', text: `CUDA driver ${report.driverVersion / 1000}`, lines }];
  } catch (error) {
    return [{ ...failed(what, error), state: 'limited' }];
  }
}

async function checkEngine(): Promise<Finding> {
  const what = 'engine';
  try {
    const engine = await createEngine();
    const { threads } = engine;
    await engine.close();
    return { what, state: 'good', text: `starts and stops, ${threads} compute threads` };
  } catch (error) {
    return failed(what, error);
  }
}

async function checkMemory(): Promise<Finding[]> {
  return [{ what: 'memory', state: 'good', text: `${formatBytes(freeMemory())} free for models` }];
}

async function checkCaches(): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const [what, folder] of [
    ['cache', cacheFolder()],
    ['Hugging Face cache', hubCacheFolder()],
  ] as const) {
    findings.push(await checkFolder(what, folder));
  }
  return findings;
}

async function checkFolder(what: string, folder: string): Promise<Finding> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
    const { bavail, bsize } = await statfs(folder);
    return { what, state: 'good', text: `${folder}, ${formatBytes(bavail * bsize)} free` };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const hint = 'Set OPEN_AUTOGLM_CACHE and HF_HOME to folders that can be written.';
    return { what, state: 'limited', text: `${folder} cannot be written (${code})`, hint };
  }
}

async function checkModels(): Promise<Finding[]> {
  const models = await listCached();
  const bytes = models.reduce((sum, model) => sum + model.bytes, 0);
  const offline = isOfflineByEnvironment() ? '; HF_HUB_OFFLINE forbids the network' : '';
  return [
    { what: 'models', state: 'good', text: `${models.length} cached, ${formatBytes(bytes)}${offline}` },
  ];
}

/** Needed only for models that ship inside Python wheels. */
async function checkPip(): Promise<Finding[]> {
  const what = 'pip';
  try {
    const { stdout } = await promisify(execFile)('python3', ['-m', 'pip', '--version'], { timeout: 10_000 });
    const version = /^pip \S+/.exec(stdout)?.[0] ?? 'pip';
    return [{ what, state: 'good', text: `${version}, for models inside wheels` }];
  } catch {
    const text = 'not found: sources that begin with pip: cannot be fetched';
    return [{ what, state: 'limited', text }];
  }
}

function failed(what: string, error: unknown): Finding {
  if (!AutoglmError.is(error)) return { what, state: 'bad', text: String(error) };
  const [text = '', ...lines] = error.message.split('\n');
  const hint = error.hint === undefined ? {} : { hint: error.hint };
  return { what, state: 'bad', text, lines, ...hint };
}
