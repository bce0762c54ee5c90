import type { DialectName } from '../../../../lib/chat/dialects/dialect';
import { DIALECTS } from '../../../../lib/chat/dialects/registry';
import type { ThinkTags } from '../../../../lib/chat/output/output-grammar';
import { OutputParser } from '../../../../lib/chat/output/output-parser';
import type { OutputPiece, ToolDefinition } from '../../../../lib/chat/tool-types';

export const THINK: ThinkTags = { open: '<think>', close: '</think>' };

export const TOOLS: readonly ToolDefinition[] = [
  {
    name: 'get_weather',
    parameters: {
      type: 'object',
      properties: {
        city: { type: 'string' },
        days: { type: 'integer' },
        detailed: { type: 'boolean' },
        note: { type: ['string', 'null'] },
        place: { $ref: '#/$defs/place' },
        zip: { $ref: '#/$defs/zip' },
        unit: { enum: ['C', 'F'] },
        limit: { anyOf: [{ type: 'number' }, { type: 'null' }] },
        tags: { type: 'array', items: { type: 'string' } },
      },
      $defs: { place: { type: 'object', properties: {} }, zip: { type: 'string' } },
    },
  },
  { name: 'get_time' },
];

export interface Format {
  readonly dialect: DialectName | null;
  readonly think?: ThinkTags;
  readonly beginsInReasoning?: boolean;
  readonly tools?: readonly ToolDefinition[];
}

/** Everything an output says, in order, with neighbours of one kind joined. */
export interface Understood {
  readonly text: string;
  readonly reasoning: string;
  /** Name and arguments of the calls that became whole. */
  readonly calls: readonly (readonly [string, unknown])[];
  /** What was handed out of arguments, by call; also of calls that never became whole. */
  readonly inputs: readonly string[];
  readonly warnings: readonly string[];
  /** The kinds of pieces in order. */
  readonly order: string;
}

export function parseOutput(format: Format, pieces: readonly string[]): Understood {
  const { dialect, think = null, beginsInReasoning = false, tools = TOOLS } = format;
  let numIds = 0;
  const parser = new OutputParser({
    think,
    beginsInReasoning,
    beginsWithNewline: dialect !== null && DIALECTS[dialect].beginsWithNewline,
    calls: dialect === null || tools.length === 0 ? null : DIALECTS[dialect].calls,
    tools,
    makeId: () => {
      numIds += 1;
      return `id${numIds}`;
    },
  });
  const found = pieces.flatMap((piece) => parser.push(piece));
  return understand([...found, ...parser.end()]);
}

function understand(pieces: readonly OutputPiece[]): Understood {
  const textOf = (type: 'text' | 'reasoning') =>
    pieces.map((piece) => (piece.type === type ? piece.text : '')).join('');
  const inputs = new Map<string, string>();
  const calls: [string, unknown][] = [];
  for (const piece of pieces) {
    if (piece.type === 'tool-input') inputs.set(piece.id, (inputs.get(piece.id) ?? '') + piece.delta);
    if (piece.type !== 'tool-call') continue;
    if (inputs.get(piece.call.id) !== piece.call.arguments)
      throw new Error('the deltas are not the arguments');
    calls.push([piece.call.name, JSON.parse(piece.call.arguments)]);
  }
  const order = pieces.map(({ type }) => type).filter((type, i, all) => type !== all[i - 1]);
  return {
    text: textOf('text'),
    reasoning: textOf('reasoning'),
    calls,
    inputs: [...inputs.values()],
    warnings: pieces.flatMap((piece) => (piece.type === 'warning' ? [piece.code] : [])),
    order: order.join(' '),
  };
}
