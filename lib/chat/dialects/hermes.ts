import { JsonCallReader } from '../output/json-call';
import type { Dialect } from './dialect';

/** Qwen 2.5 and 3, Hermes, SmolLM: <tool_call> {"name": ..., "arguments": {...}} </tool_call>; a few write an array. */
export const hermes: Dialect = {
  name: 'hermes',
  calls: {
    openers: ['<tool_call>'],
    opensUnmarked: 'never',
    turn: null,
    separator: null,
    makeReader: (sink) =>
      new JsonCallReader(sink, { closer: '</tool_call>', takesArray: true, isStrict: false }),
  },
  controlTokens: ['<tool_call>', '</tool_call>'],
  beginsWithNewline: false,
  reasonsOnLines: true,
  emptyReasoning: '',
  idLength: null,
  callHead: (tool) =>
    tool === null ? '<tool_call>\n' : `<tool_call>\n{"name": ${JSON.stringify(tool)}, "arguments": `,
};
