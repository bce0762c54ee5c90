import type { GenerateOptions, GenerateResult, Generation, Model } from '../../engine/types';
import { AutoglmError } from '../../errors';
import { chosenAdapter } from '../adapters';
import { AnswerPrinter } from '../answer-printer';
import { EXIT_INTERRUPTED } from '../failure';
import { formatSeconds } from '../figures';
import { Interrupt } from '../interrupt';
import { withModel } from '../open-model';
import { type ModelFlags, type SamplingFlags, samplingOptions } from '../options';
import { readStandardInput } from '../standard-input';
import { answerJson, colors, note } from '../terminal';

export interface RunFlags extends ModelFlags, SamplingFlags {
  readonly system?: string;
  readonly raw?: boolean;
  readonly json?: boolean;
}

/** Answers one prompt on standard output. */
export async function run(source: string, words: readonly string[], flags: RunFlags): Promise<number> {
  const prompt = words.length > 0 ? words.join(' ') : await readStandardInput('the prompt');
  const interrupt = new Interrupt();
  const { signal } = interrupt;
  try {
    return await withModel(source, flags, signal, async (model) => {
      const input = promptInput(model, prompt, flags);
      const settings = { ...samplingOptions(flags), ...chosenAdapter(model) };
      const generation = model.generate({ ...input, ...settings, signal, onAbort: 'partial' });
      const result =
        flags.json === true ? await generation : await printText(generation, flags.quiet !== true);
      for (const warning of result.warnings) note(`${colors.yellow('warning:')} ${warning.message}`);
      if (flags.json === true) answerJson(result);
      if (flags.quiet !== true) note(colors.dim(figures(result)));
      return result.finishReason === 'abort' ? EXIT_INTERRUPTED : 0;
    });
  } finally {
    interrupt.stop();
  }
}

function promptInput(
  model: Model,
  prompt: string,
  flags: RunFlags,
): Pick<GenerateOptions, 'prompt' | 'messages'> {
  if (flags.raw === true) {
    if (flags.system === undefined) return { prompt };
    throw new AutoglmError('invalid_parameter', '--system and --raw exclude each other', {
      hint: 'A system message needs the chat template, which --raw leaves out.',
    });
  }
  if (!model.info.hasChatTemplate) {
    note(
      `${colors.yellow('warning:')} the model has no chat template: it continues the prompt as plain text`,
    );
    return { prompt };
  }
  const system = flags.system === undefined ? [] : [{ role: 'system' as const, content: flags.system }];
  return { messages: [...system, { role: 'user', content: prompt }] };
}

/** Writes the text as it comes, with one newline at its end. */
export async function printText(generation: Generation, showsThoughts: boolean): Promise<GenerateResult> {
  const printer = new AnswerPrinter(showsThoughts);
  let last = '';
  for await (const event of generation) {
    if (event.type !== 'text' && event.type !== 'reasoning') continue;
    printer.write(event);
    if (event.type === 'text' && event.text !== '') last = event.text;
  }
  printer.end();
  if (!last.endsWith('\n')) process.stdout.write('\n');
  return generation;
}

function figures({ usage, timings }: GenerateResult): string {
  const speed = timings.tokensPerSecond.toFixed(1);
  const first = formatSeconds(timings.ttftMs / 1000);
  const prompt = `prompt ${usage.promptTokens} tokens, first token after ${first}`;
  return `${usage.completionTokens} tokens, ${speed} tokens/s; ${prompt}`;
}
