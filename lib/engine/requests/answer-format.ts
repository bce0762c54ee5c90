import { randomInt } from 'node:crypto';
import type { ChatFormat } from '../../chat/chat-format';
import type { Dialect } from '../../chat/dialects/dialect';
import { DIALECTS } from '../../chat/dialects/registry';
import { OutputParser } from '../../chat/output/output-parser';
import { StopMatcher } from '../../tokenizer/stop-matcher';
import { StreamDecoder } from '../../tokenizer/stream-decoder';
import type { TokenTable } from '../../tokenizer/token-table';
import { AnswerReader } from './answer-reader';
import type { ParsedGenerate } from './generate-options';

/** What reading a model's answers takes. */
export interface AnswerSource {
  readonly tokenTable: TokenTable;
  /** Control tokens by their spelling. */
  readonly controlTokens: ReadonlyMap<string, number>;
  readonly chat: ChatFormat;
}

/** A prompt that is ready to be computed. */
export interface EncodedPrompt {
  readonly tokens: Int32Array;
  /** The model's first words belong to its reasoning. */
  readonly beginsInReasoning: boolean;
  /** What the prompt has written in the model's name: the head of a call. */
  readonly begun: string;
}

/** A reader for one answer. Conversations have reasoning and calls, raw prompts only text. */
export function answerReader(
  { tokenTable, controlTokens, chat }: AnswerSource,
  { input, stop }: ParsedGenerate,
  { beginsInReasoning }: EncodedPrompt,
): AnswerReader {
  const stops = new StopMatcher(stop);
  if (input.kind !== 'messages') {
    return new AnswerReader({ decoder: new StreamDecoder(tokenTable), parser: null, stops });
  }
  const { think } = chat;
  const { tools } = input.tools;
  const dialect = chat.dialect === null ? null : DIALECTS[chat.dialect];
  const calls = tools.length === 0 || dialect === null ? null : dialect;
  const spellings = [...(think === null ? [] : [think.open, think.close]), ...(calls?.controlTokens ?? [])];
  const shownTokens = new Set(spellings.flatMap((spelling) => controlTokens.get(spelling) ?? []));
  const parser = new OutputParser({
    think,
    beginsInReasoning,
    beginsWithNewline: dialect?.beginsWithNewline ?? false,
    calls: calls?.calls ?? null,
    tools,
    makeId: () => callId(calls),
  });
  return new AnswerReader({ decoder: new StreamDecoder(tokenTable, { shownTokens }), parser, stops });
}

/** What ends reasoning, in the form the model gives it. */
export function reasoningEnd({ think, dialect }: ChatFormat): string {
  if (think === null) return '';
  const isOnLines = dialect === null || DIALECTS[dialect].reasonsOnLines;
  return isOnLines ? `\n${think.close}\n\n` : think.close;
}

const ID_CHARACTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const ID_LENGTH = 24;

function callId(dialect: Dialect | null): string {
  const random = (length: number): string =>
    Array.from({ length }, () => ID_CHARACTERS[randomInt(ID_CHARACTERS.length)]).join('');
  const length = dialect?.idLength ?? null;
  return length === null ? `call_${random(ID_LENGTH)}` : random(length);
}
