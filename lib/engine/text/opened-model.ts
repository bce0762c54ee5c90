import type { MessagePort } from 'node:worker_threads';
import { chatFormatOf } from '../../chat/chat-format';
import type { DialectName } from '../../chat/dialects/dialect';
import type { PromptFormat } from '../../chat/prompt';
import { builtInTemplate } from '../../chat/templates/choose-template';
import { AutoglmError, serializeError } from '../../errors';
import { openCheckpoint } from '../../model/checkpoint';
import type { Checkpoint, CheckpointWarning } from '../../model/checkpoint-types';
import type { ModelDescription } from '../../model/families/pooled-output';
import { describeDecoder } from '../../model/families/registry';
import { type DecoderSpec, pooledSizeOf } from '../../native/decoder-spec';
import { maxTextLengthFor } from '../../tokenizer/text-check';
import type { TokenTable } from '../../tokenizer/token-table';
import { Tokenizer } from '../../tokenizer/tokenizer';
import { namedTokens } from '../../tokenizer/vocabulary/named-tokens';
import { readGenerationDefaults } from './generation-defaults';
import type { CheckpointInfo, DecoderMessage, LoadedText } from './types';

export interface OpenedModel {
  /** Null when the checkpoint has none: it then runs on token ids alone. */
  readonly tokenizer: Tokenizer | null;
  readonly loaded: LoadedText;
  readonly format: PromptFormat;
  /** What adapters are checked against. */
  readonly spec: DecoderSpec;
}

export interface OpenRequest {
  readonly path: string;
  readonly chatTemplate: string | null;
  readonly chatDialect: DialectName | 'none' | null;
  readonly decoderPort: MessagePort | null;
  readonly signal: AbortSignal;
}

/**
 * Opens a checkpoint. The decoder's parts go to the port before the tokenizer is built, so that the weights are read
 * meanwhile.
 */
export async function openModel({ path, decoderPort, signal, ...chat }: OpenRequest): Promise<OpenedModel> {
  let checkpoint: Checkpoint;
  let decoder: ModelDescription;
  try {
    checkpoint = await openCheckpoint(path, { signal });
    decoder = describeDecoder(checkpoint);
    post(decoderPort, {
      type: 'decoder',
      spec: decoder.spec,
      files: checkpoint.files,
      tensors: decoder.tensors,
    });
  } catch (error) {
    post(decoderPort, { type: 'failed', error: serializeError(error) });
    throw error;
  } finally {
    decoderPort?.close();
  }
  return describe(checkpoint, decoder, chat);
}

function post(port: MessagePort | null, message: DecoderMessage): void {
  port?.postMessage(message);
}

function describe(
  checkpoint: Checkpoint,
  { spec, tensors, info, pooled }: ModelDescription,
  { chatTemplate, chatDialect }: Pick<OpenRequest, 'chatTemplate' | 'chatDialect'>,
): OpenedModel {
  const { tokenizer: source } = checkpoint;
  const { contextLength, vocabSize } = spec;
  const tokenizer = source === null ? null : new Tokenizer(source, { vocabSize, contextLength });
  const tokenTable = tokenizer?.table ?? emptyTable(vocabSize);
  const named = source === null ? { bosToken: '', eosToken: '' } : namedTokens(source, tokenTable);
  const templates = chatTemplate === null ? checkpoint.chatTemplates : { default: chatTemplate, named: {} };
  const defaults = readGenerationDefaults(checkpoint.generationConfig);
  const format: PromptFormat = { templates, markup: tokenizer?.markup ?? [], ...named };
  const loaded: LoadedText = {
    info: checkpointInfo(checkpoint, spec, tensors, info),
    tokenTable,
    eosTokens: checkpoint.eosTokenIds,
    bosToken: tokenizer?.bosToken ?? null,
    generationDefaults: defaults.settings,
    hasLanguageHead: spec.head !== null,
    pooled,
    pooledSize: pooledSizeOf(spec),
    hasChatTemplate: hasTemplate(format),
    chat: chatFormatOf(format, chatDialect),
    maxTextLength: tokenizer?.limit.maxTextLength ?? maxTextLengthFor(contextLength),
    warnings: [
      ...checkpoint.warnings,
      ...info.warnings,
      ...defaults.warnings,
      ...(source === null ? [NO_TOKENIZER] : []),
    ],
  };
  return { tokenizer, loaded, format, spec };
}

function hasTemplate({ templates, markup }: PromptFormat): boolean {
  if (templates.default !== null || Object.keys(templates.named).length > 0) return true;
  return builtInTemplate(markup) !== null;
}

function checkpointInfo(
  checkpoint: Checkpoint,
  spec: ModelDescription['spec'],
  tensors: ModelDescription['tensors'],
  { family, name, numParameters }: ModelDescription['info'],
): CheckpointInfo {
  const attention = spec.layers[0]?.attention;
  if (attention === undefined)
    throw new AutoglmError('internal', `${checkpoint.path}: a decoder without layers`);
  const slices = tensors.flatMap(({ source }) => source.slices);
  return {
    family,
    name,
    format: checkpoint.format,
    files: checkpoint.files.map(({ path }) => path),
    contextLength: spec.contextLength,
    vocabSize: spec.vocabSize,
    numParameters,
    weightBytes: slices.reduce((sum, { byteLength }) => sum + byteLength, 0),
    numLayers: spec.layers.length,
    numKvHeads: attention.numKvHeads,
    headDim: attention.headDim,
    valueDim: attention.valueDim,
  };
}

const NO_TOKENIZER: CheckpointWarning = {
  code: 'no_tokenizer',
  message: 'the checkpoint has no tokenizer: only token ids can be given and returned',
};

function emptyTable(numTokens: number): TokenTable {
  return {
    bytes: new Uint8Array(0),
    offsets: new Uint32Array(numTokens + 1),
    isSpecial: new Uint8Array(numTokens),
    numLeadingSpaces: 0,
    hasTrailingSpace: false,
  };
}
