import { basename } from 'node:path';
import { FileSource, throwIfAborted } from '../byte-source';
import type { CheckpointFile, StoredTensor } from '../checkpoint-types';
import { invalidModelFile, quoted } from '../model-file-error';
import type { GgufMetadata } from './metadata';
import { type GgufHeader, parseGguf } from './parse';
import { parseSplitName } from './split-name';

/** A model's GGUF files, one or many, and the tensors of all of them. */
export interface GgufParts {
  readonly files: readonly CheckpointFile[];
  /** Of the first part, which has the model's settings. */
  readonly metadata: GgufMetadata;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

const MAX_SPLIT = 65_535;

/** Reads the header of a GGUF file, and of all its siblings when it is one part of a split file. */
export async function readGgufParts(path: string, signal?: AbortSignal): Promise<GgufParts> {
  const given = await readPart(path, signal);
  const count = splitCount(given.header.metadata);
  const paths = count > 1 ? partPaths(path, given.header.metadata, count) : [path];
  const files: CheckpointFile[] = [];
  const tensors = new Map<string, StoredTensor>();
  let first = given;
  for (const [index, partPath] of paths.entries()) {
    throwIfAborted(signal);
    const part = partPath === path ? given : await readSibling(path, partPath, signal);
    if (count > 1) checkPart(part.header.metadata, index, count);
    if (index === 0) first = part;
    files.push(part.file);
    addTensors(tensors, part, files);
  }
  const { metadata } = first.header;
  const expected = metadata.integer('split.tensors.count', 0, Number.MAX_SAFE_INTEGER);
  if (count > 1 && expected !== null && expected !== tensors.size) {
    throw metadata.fault('split.tensors.count', `the ${tensors.size} tensors of all parts`, `${expected}`);
  }
  return { files, metadata, tensors };
}

interface Part {
  readonly file: CheckpointFile;
  readonly header: GgufHeader;
}

async function readPart(path: string, signal: AbortSignal | undefined): Promise<Part> {
  const source = await FileSource.open(path, signal);
  try {
    const header = await parseGguf(source);
    return { file: { path, size: source.size, mtimeMs: source.mtimeMs }, header };
  } finally {
    await source.close();
  }
}

async function readSibling(path: string, partPath: string, signal: AbortSignal | undefined): Promise<Part> {
  return readPart(partPath, signal).catch((error: unknown) => {
    if ((error as { code?: unknown }).code !== 'model_not_found') throw error;
    throw invalidModelFile({
      file: path,
      where: 'parts',
      expected: `${quoted(basename(partPath))} in the same folder`,
      found: 'no such file',
      hint: 'The download is incomplete; fetch every part.',
      cause: error,
    });
  });
}

function splitCount(metadata: GgufMetadata): number {
  return metadata.integer('split.count', 0, MAX_SPLIT) ?? 0;
}

/** Where the parts are: their names are all that says so. */
function partPaths(path: string, metadata: GgufMetadata, count: number): readonly string[] {
  const name = parseSplitName(path);
  if (name !== null && name.parts.length === count) return name.parts;
  throw invalidModelFile({
    file: path,
    where: 'file name',
    expected: `a name that ends in -NNNNN-of-${String(count).padStart(5, '0')}.gguf`,
    found: quoted(basename(path)),
    hint: `The file is part ${(metadata.integer('split.no', 0, MAX_SPLIT) ?? 0) + 1} of ${count}: give the parts the names they had when they were made.`,
  });
}

function checkPart(metadata: GgufMetadata, index: number, count: number): void {
  const foundCount = splitCount(metadata);
  if (foundCount !== count)
    throw metadata.fault('split.count', `${count}, as in the other parts`, `${foundCount}`);
  const found = metadata.integer('split.no', 0, MAX_SPLIT);
  if (found !== index)
    throw metadata.fault('split.no', `${index}, as the file's name says`, `${found ?? 'nothing'}`);
}

function addTensors(
  tensors: Map<string, StoredTensor>,
  { file, header }: Part,
  files: readonly CheckpointFile[],
): void {
  for (const [name, tensor] of header.tensors) {
    const other = tensors.get(name);
    if (other !== undefined) {
      throw invalidModelFile({
        file: file.path,
        where: `tensor ${quoted(name)}`,
        expected: 'each tensor in one part',
        found: `it in ${quoted(basename(files[other.file]?.path ?? ''))} as well`,
      });
    }
    tensors.set(name, { ...tensor, file: files.length - 1 });
  }
}
