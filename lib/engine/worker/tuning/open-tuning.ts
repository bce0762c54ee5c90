import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ComputeLayout, KvDtype } from '../../../native/abi';
import type { CpuDescription } from '../../../native/addon';
import type { DecoderSpec } from '../../../native/decoder-spec';
import { ModelTuning } from './model-tuning';
import { TuningStore } from './tuning-store';

export interface TunedModel {
  readonly spec: DecoderSpec;
  readonly precision: 'fast' | 'exact';
  readonly kvDtype: KvDtype;
  /** What each weight tensor became, by role. */
  readonly layouts: Readonly<Record<string, ComputeLayout>>;
}

/** Tuning of a model whose choices lie in `folder`. */
export function openTuning(
  folder: string,
  cpu: CpuDescription,
  threads: number,
  model: TunedModel,
): ReturnType<typeof ModelTuning.open> {
  const key = { cpu: cpu.model, isa: cpu.isa, threads, shapes: shapesOf(model) };
  return ModelTuning.open(threads, new TuningStore(folder, key, packageVersion()));
}

function shapesOf({ spec, precision, kvDtype, layouts }: TunedModel): string {
  const { hiddenSize, vocabSize, layers } = spec;
  const shapes = JSON.stringify([hiddenSize, vocabSize, layers, layouts, precision, kvDtype]);
  return createHash('sha256').update(shapes).digest('hex').slice(0, 32);
}

function packageVersion(): string {
  const manifest = readFileSync(join(__dirname, '..', '..', '..', '..', 'package.json'), 'utf8');
  return (JSON.parse(manifest) as { version: string }).version;
}
