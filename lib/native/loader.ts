import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { path as findBuild } from 'node-gyp-build';
import { AutoglmError } from '../errors';
import { Abi } from './abi';
import type { CpuDescription, NativeAddon } from './addon';
import { judgeManifest, runningGlibc } from './cuda-manifest';
import { fromNativeError } from './native-error';

/** One file the loader looked at, with what came of it in words. */
export interface BinaryCandidate {
  readonly path: string;
  readonly verdict: string;
}

export interface LoadedAddon {
  readonly addon: NativeAddon;
  readonly path: string;
  readonly candidates: readonly BinaryCandidate[];
  /** The OPEN_AUTOGLM_ISA setting, to be handed to `createEngine`; null lets the addon choose. */
  readonly isa: string | null;
  readonly cpu: CpuDescription;
}

/** `cuda` is the same engine with the kernels of GPUs. */
export type BinaryVariant = 'cpu' | 'cuda';

export interface LoaderSettings {
  readonly variant: BinaryVariant;
  /** Folder of package.json. */
  readonly root: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}

const PACKAGE_ROOT = join(__dirname, '..', '..');
/** The package that carries the CUDA binary of this platform. */
const CUDA_PACKAGE = `@open-autoglm/${process.platform}-${process.arch}-cuda13`;
/** A file to try, with the manifest that says beforehand whether it fits; a build of a checkout has none. */
interface ListedFile {
  readonly path: string;
  readonly manifest: string | null;
}

const PREBUILD = join('prebuilds', `${process.platform}-${process.arch}`, 'node.napi.node');

/**
 * Finds, loads and checks the addon. A file named by OPEN_AUTOGLM_BINARY (of the CUDA variant: OPEN_AUTOGLM_CUDA_BINARY) is
 * the only candidate: a setting that cannot be followed is an error, never a reason to take another file. Throws
 * `no_binary` with every verdict, and `invalid_parameter` when OPEN_AUTOGLM_ISA names an instruction set this processor or
 * build lacks.
 */
export function loadAddon(settings: Partial<LoaderSettings> = {}): LoadedAddon {
  const { variant = 'cpu', root = PACKAGE_ROOT, env = process.env } = settings;
  const candidates: BinaryCandidate[] = [];
  const files = variant === 'cuda' ? listCudaCandidates(root, env) : listCandidates(root, env);
  for (const file of files) {
    const { path } = file;
    const { addon, verdict } = tryCandidate(file, variant, root);
    candidates.push({ path, verdict });
    if (addon === null) continue;
    const isa = env.OPEN_AUTOGLM_ISA || null;
    return { addon, path, candidates, isa, cpu: describeCpu(addon, isa) };
  }
  throw noBinary(variant, candidates, env);
}

/** Files to try, in order. Nothing is opened yet, and a file may be absent. */
function listCandidates(root: string, env: LoaderSettings['env']): ListedFile[] {
  const explicit = env.OPEN_AUTOGLM_BINARY;
  if (explicit) return [withoutManifest(outsideArchive(resolve(explicit)))];
  const folder = outsideArchive(resolve(root));
  const paths = [join(folder, 'build', 'Release', 'open_autoglm.node')];
  try {
    paths.push(findBuild(folder));
  } catch {
    // It throws when it finds nothing; the conventional path below then carries the verdict.
  }
  paths.push(join(folder, PREBUILD));
  return [...new Set(paths)].map(withoutManifest);
}

/** A checkout's build, then the package of this platform beside this one. */
function listCudaCandidates(root: string, env: LoaderSettings['env']): ListedFile[] {
  const explicit = env.OPEN_AUTOGLM_CUDA_BINARY;
  if (explicit) return [withoutManifest(outsideArchive(resolve(explicit)))];
  const folder = resolve(root);
  const built = join(folder, 'build', 'Release-cuda', 'open_autoglm_cuda.node');
  let installed: string;
  try {
    installed = dirname(createRequire(join(folder, 'package.json')).resolve(`${CUDA_PACKAGE}/package.json`));
  } catch {
    installed = join(folder, 'node_modules', CUDA_PACKAGE); // carries the verdict "not found"
  }
  return [
    withoutManifest(outsideArchive(built)),
    {
      path: outsideArchive(join(installed, PREBUILD)),
      manifest: outsideArchive(join(installed, 'manifest.json')),
    },
  ];
}

const withoutManifest = (path: string): ListedFile => ({ path, manifest: null });

/** A library inside an Electron archive cannot be opened by the system; packagers put native files beside it. */
function outsideArchive(path: string): string {
  return path.replace(/\.asar([\\/]|$)/, '.asar.unpacked$1');
}

interface TriedFile {
  readonly addon: NativeAddon | null;
  readonly verdict: string;
}

function tryCandidate({ path, manifest }: ListedFile, variant: BinaryVariant, root: string): TriedFile {
  if (!existsSync(path)) {
    const isUnpacked = /\.asar\.unpacked[\\/]/.test(path);
    return {
      addon: null,
      verdict: isUnpacked ? 'not found: unpack the package folder from the archive' : 'not found',
    };
  }
  if (manifest === null) return openCandidate(path, variant);
  const { isUsable, verdict } = judgeManifest(manifest, join(root, 'package.json'), runningGlibc());
  if (!isUsable) return { addon: null, verdict };
  const opened = openCandidate(path, variant);
  return opened.addon === null ? opened : { ...opened, verdict: `${opened.verdict}, ${verdict}` };
}

function openCandidate(path: string, variant: BinaryVariant): TriedFile {
  let loaded: unknown;
  try {
    loaded = createRequire(__filename)(path);
  } catch (error) {
    return {
      addon: null,
      verdict: `cannot be loaded: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
  const version =
    typeof loaded === 'object' && loaded !== null && 'abiVersion' in loaded ? loaded.abiVersion : undefined;
  if (version === undefined)
    return { addon: null, verdict: 'is not an open-autoglm addon: it has no abiVersion' };
  if (version !== Abi.version) {
    return { addon: null, verdict: `has ABI version ${String(version)}, this package needs ${Abi.version}` };
  }
  const addon = loaded as NativeAddon;
  if (variant === 'cuda' && addon.describeGpus === undefined)
    return { addon: null, verdict: 'has no CUDA code' };
  return { addon, verdict: `loaded, ABI version ${Abi.version}` };
}

function describeCpu(addon: NativeAddon, isa: string | null): CpuDescription {
  try {
    return addon.describeCpu(isa);
  } catch (error) {
    const cause = fromNativeError(error);
    if (isa === null) throw cause;
    throw new AutoglmError('invalid_parameter', `OPEN_AUTOGLM_ISA: ${cause.message}`, {
      hint: 'Unset OPEN_AUTOGLM_ISA to let the engine choose.',
      details: { path: 'OPEN_AUTOGLM_ISA', found: isa },
      cause,
    });
  }
}

function noBinary(
  variant: BinaryVariant,
  candidates: readonly BinaryCandidate[],
  env: LoaderSettings['env'],
): AutoglmError {
  const lines = candidates.map(({ path, verdict }) => `  ${path}: ${verdict}`);
  const platform = `${process.platform}-${process.arch}`;
  const what = variant === 'cuda' ? 'native binary with CUDA code' : 'native binary';
  return new AutoglmError('no_binary', `no usable ${what} for ${platform}:\n${lines.join('\n')}`, {
    hint: hintFor(variant, env),
    details: { platform, candidates },
  });
}

function hintFor(variant: BinaryVariant, env: LoaderSettings['env']): string {
  const setting = variant === 'cuda' ? 'OPEN_AUTOGLM_CUDA_BINARY' : 'OPEN_AUTOGLM_BINARY';
  if (env[setting]) return `Let ${setting} name a binary built for this version of the package, or unset it.`;
  if (variant === 'cuda')
    return `Install ${CUDA_PACKAGE}, run \`npm run build:cuda\` in a checkout, or let ${setting} name a binary.`;
  return `Install the package again, run \`npm run build:native\` in a checkout, or let ${setting} name a binary.`;
}
