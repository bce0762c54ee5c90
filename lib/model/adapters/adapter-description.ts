import type { NativeAdapterPart } from '../../native/addon';
import type { CheckpointFile } from '../checkpoint-types';

/** What an adapter's files say: where the additions are, and to which products of the decoder. */
export interface AdapterDescription {
  readonly format: 'peft' | 'gguf';
  readonly files: readonly CheckpointFile[];
  readonly parts: readonly NativeAdapterPart[];
  /** The largest of its matrices. */
  readonly rank: number;
  /** `base_model_name_or_path`, where the file says. */
  readonly baseModel: string | null;
}

/** Ranks above it are refused; published adapters have 4 to 256. */
export const MAX_RANK = 256;
