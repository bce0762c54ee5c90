import type { MessagePort } from 'node:worker_threads';
import type { DialectName } from '../../chat/dialects/dialect';
import type { MarkedText } from '../../chat/mark-markup';
import type { PromptFormat, PromptInput } from '../../chat/prompt';
import type { SerializedError } from '../../errors';
import type { AdapterDescription } from '../../model/adapters/adapter-description';
import type { TextRanges } from '../../tokenizer/added-tokens';
import type { EncoderInput, EncoderInputRequest } from '../../tokenizer/encoder-input';
import type { LoadedText } from './types';

/** Calls are numbered by the client; each gets one reply. */
export type Numbered<Command> = Command & { readonly call: number };

/** To the text worker. */
export type TextCommand =
  | {
      readonly type: 'load';
      readonly modelId: string;
      readonly path: string;
      readonly chatTemplate: string | null;
      readonly chatDialect: DialectName | 'none' | null;
      /** Null when the model is opened again for its tokenizer alone. */
      readonly decoderPort: MessagePort | null;
    }
  | ({ readonly type: 'encodeInput'; readonly modelId: string } & EncoderInputRequest)
  /** Reads the headers of an adapter for the model's decoder. */
  | { readonly type: 'describeAdapter'; readonly modelId: string; readonly path: string }
  | {
      readonly type: 'tokenize';
      readonly modelId: string;
      readonly text: string;
      readonly addSpecialTokens: boolean;
      readonly parseSpecialTokens: boolean;
      readonly plainRanges: TextRanges;
    };

/** Without a reply. */
export type TextNotice =
  | { readonly type: 'abort'; readonly call: number }
  | { readonly type: 'unload'; readonly modelId: string };

export interface TextResults {
  readonly load: { readonly loaded: LoadedText; readonly format: PromptFormat };
  readonly describeAdapter: AdapterDescription;
  readonly tokenize: Int32Array;
  readonly encodeInput: EncoderInput;
}

/** To the render worker. */
export type RenderCommand = {
  readonly type: 'render';
  readonly modelId: string;
  readonly input: PromptInput;
};

/** Without a reply; comes before the first rendering of a model. */
export type RenderNotice =
  | { readonly type: 'format'; readonly modelId: string; readonly format: PromptFormat }
  | { readonly type: 'forget'; readonly modelId: string };

export interface RenderResults {
  readonly render: MarkedText;
}

/** From either worker. */
export type WorkerReply =
  /** The call is being worked on: its time runs from here. */
  | { readonly type: 'began'; readonly call: number }
  | { readonly type: 'done'; readonly call: number; readonly value: unknown }
  | { readonly type: 'failed'; readonly call: number; readonly error: SerializedError };
