import { readFileSync } from 'node:fs';
import { Abi } from './abi';

// The manifest of the package with the CUDA binary, written by scripts/cuda/make-package.mjs. It is read before the
// binary is opened: a package of another release says so itself, and not as a missing symbol.

/** The fields that decide whether the binary is opened, and those that a person wants to see. */
interface CudaManifest {
  readonly version: string;
  readonly abi: number;
  readonly cudaMajor: number;
  readonly targets: readonly string[];
  /** null where no driver or C library is asked for. */
  readonly minimumDriver: string | null;
  readonly minimumGlibc: string | null;
}

export interface ManifestJudgement {
  readonly isUsable: boolean;
  /** Why the binary must not be opened, or what it has. */
  readonly verdict: string;
}

/**
 * Reads the manifest at `path` and compares it with this package, whose package.json is `packageFile`, and with `glibc`: the
 * GNU C library's version, null on a system with another one. Never throws: whatever is wrong is the verdict.
 */
export function judgeManifest(path: string, packageFile: string, glibc: string | null): ManifestJudgement {
  let manifest: CudaManifest;
  let version: string;
  try {
    manifest = parseManifest(readFileSync(path, 'utf8'));
    ({ version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string });
  } catch (error) {
    return refused(`cannot be judged by its manifest.json: ${(error as Error).message}`);
  }
  if (manifest.version !== version)
    return refused(`is of version ${manifest.version}, this package needs ${version}`);
  if (manifest.abi !== Abi.version)
    return refused(`has ABI version ${manifest.abi}, this package needs ${Abi.version}`);
  if (manifest.minimumGlibc !== null && !isAtLeast(glibc, manifest.minimumGlibc)) {
    const found = glibc === null ? 'another C library' : glibc;
    return refused(`needs the GNU C library ${manifest.minimumGlibc} or newer, this system has ${found}`);
  }
  return { isUsable: true, verdict: describeManifest(manifest) };
}

/** The version of the GNU C library that this process runs on; null where it runs on another one. */
export function runningGlibc(): string | null {
  // A report looks up the names of every open socket's peer, which takes seconds offline, unless told not to; the first
  // versions of Node 20 cannot be told.
  const report: { excludeNetwork?: boolean; getReport(): object } | undefined = process.report;
  if (report === undefined) return null;
  const { excludeNetwork } = report;
  try {
    if (excludeNetwork !== undefined) report.excludeNetwork = true;
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return header?.glibcVersionRuntime ?? null;
  } finally {
    if (excludeNetwork !== undefined) report.excludeNetwork = excludeNetwork;
  }
}

const refused = (verdict: string): ManifestJudgement => ({ isUsable: false, verdict });

function describeManifest({ cudaMajor, targets, minimumDriver }: CudaManifest): string {
  const driver = minimumDriver === null ? '' : `, driver ${minimumDriver} or newer`;
  return `CUDA ${cudaMajor} for ${targets.join(', ')}${driver}`;
}

function parseManifest(text: string): CudaManifest {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw unexpected('its content', value, 'an object');
  const { version, abi, cudaMajor, targets, minimumDriver, minimumGlibc } = value as Record<string, unknown>;
  if (typeof version !== 'string') throw unexpected('version', version, 'a string');
  if (!Array.isArray(targets) || !targets.every((target) => typeof target === 'string'))
    throw unexpected('targets', targets, 'a list of strings');
  return {
    version,
    abi: wholeNumber('abi', abi),
    cudaMajor: wholeNumber('cudaMajor', cudaMajor),
    targets,
    minimumDriver: versionOrNull('minimumDriver', minimumDriver),
    minimumGlibc: versionOrNull('minimumGlibc', minimumGlibc),
  };
}

function wholeNumber(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw unexpected(name, value, 'a whole number');
}

function versionOrNull(name: string, value: unknown): string | null {
  if (value === null || (typeof value === 'string' && /^\d{1,9}(\.\d{1,9}){0,3}$/.test(value))) return value;
  throw unexpected(name, value, 'a version such as "2.35", or null');
}

function unexpected(name: string, found: unknown, expected: string): Error {
  const shown = String(JSON.stringify(found)).slice(0, 60);
  return new Error(`${name} is ${shown}, expected ${expected}`);
}

/** Compares numbers between dots; a version that is missing is never enough. */
function isAtLeast(found: string | null, wanted: string): boolean {
  if (found === null) return false;
  const [have, need] = [found.split('.'), wanted.split('.')];
  for (const [i, part] of need.entries()) {
    const difference = Number(have[i] ?? 0) - Number(part);
    if (difference !== 0) return difference > 0;
  }
  return true;
}
