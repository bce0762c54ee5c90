import { openModel } from '../../engine/text/opened-model';
import { AutoglmError } from '../../errors';
import { resolveSource } from '../../model/source/resolve-source';
import { formatTable } from '../figures';
import { Interrupt } from '../interrupt';
import { ProgressDisplay } from '../progress-display';
import { readStandardInput } from '../standard-input';
import { answer, answerJson, note, terminalLogger } from '../terminal';

export interface TokenizeFlags {
  readonly special?: boolean;
  readonly bos?: boolean;
  readonly count?: boolean;
  readonly offline?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

interface ShownToken {
  readonly id: number;
  /** Null for bytes that are no UTF-8 by themselves: a part of a character. */
  readonly text: string | null;
  readonly bytes: readonly number[];
}

/** Shows the tokens of a text. Reads the tokenizer only, no weights. */
export async function tokenize(
  source: string,
  words: readonly string[],
  flags: TokenizeFlags,
): Promise<number> {
  const text = words.length > 0 ? words.join(' ') : await readStandardInput('the text');
  const interrupt = new Interrupt();
  const display = new ProgressDisplay(process.stderr);
  try {
    const { signal } = interrupt;
    const { path } = await resolveSource(source, {
      signal,
      offline: flags.offline === true,
      logger: terminalLogger(flags.verbose === true),
      onProgress: (progress) => {
        if (flags.quiet !== true) display.update({ phase: 'download', ...progress });
      },
    });
    display.clear();
    const request = { path, chatTemplate: null, chatDialect: null, decoderPort: null, signal };
    const { tokenizer } = await openModel(request);
    if (tokenizer === null) throw new AutoglmError('unsupported_model', `${source} has no tokenizer`);
    const options = { addSpecialTokens: flags.bos === true, parseSpecialTokens: flags.special === true };
    const ids = tokenizer.encode(text, options);
    const { bytes, offsets } = tokenizer.table;
    const tokens = [...ids].map((id) => showToken(id, bytes.subarray(offsets[id], offsets[id + 1])));
    show(tokens, flags);
    return 0;
  } finally {
    display.clear();
    interrupt.stop();
  }
}

function showToken(id: number, bytes: Uint8Array): ShownToken {
  const text = Buffer.from(bytes).toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(bytes);
  return { id, text: isText ? text : null, bytes: [...bytes] };
}

/** Quoted text, or the bytes in hexadecimal. */
function spell({ text, bytes }: ShownToken): string {
  if (text !== null) return JSON.stringify(text);
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function show(tokens: readonly ShownToken[], flags: TokenizeFlags): void {
  if (flags.json === true) answerJson({ count: tokens.length, tokens });
  else if (flags.count === true) answer(String(tokens.length));
  else {
    const rows = tokens.map((token) => [String(token.id), spell(token)]);
    answer(formatTable(['ID', 'TEXT'], rows, [0]));
    if (flags.quiet !== true) note(`${tokens.length} tokens`);
  }
}
