import type { NativeTensor } from '../../native/addon';
import type { DecoderSpec } from '../../native/decoder-spec';
import type { Checkpoint, CheckpointWarning } from '../checkpoint-types';
import type { ConfigReader } from '../config-reader';
import type { GgufMetadata } from '../gguf/metadata';

export interface DecoderInfo {
  readonly family: string;
  /** The model's own name, when the checkpoint has one. */
  readonly name: string | null;
  /** Numbers in all tensors that are used. */
  readonly numParameters: number;
  readonly warnings: readonly CheckpointWarning[];
}

/** What the native decoder is built from. */
export interface DecoderDescription {
  readonly spec: DecoderSpec;
  readonly tensors: readonly NativeTensor[];
  readonly info: DecoderInfo;
}

/** One family of models: how its configs and tensor names become a DecoderSpec. */
export interface Family {
  readonly name: string;
  /** `model_type` and `architectures` of config.json. */
  readonly modelTypes: readonly string[];
  readonly architectures: readonly string[];
  /** `general.architecture` of GGUF files, whose keys begin with it. */
  readonly ggufArchitectures: readonly string[];
  /** Where families share an architecture: whether a file is this one's. */
  readonly claimsGguf?: (metadata: GgufMetadata) => boolean;
  fromHuggingface(checkpoint: Checkpoint, config: ConfigReader): DecoderDescription;
  fromGguf(checkpoint: Checkpoint, metadata: GgufMetadata, architecture: string): DecoderDescription;
}
