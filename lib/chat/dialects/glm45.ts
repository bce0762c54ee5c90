import type { CallGrammar } from '../output/output-grammar';
import { TaggedCallReader } from '../output/tagged-call';
import type { Dialect } from './dialect';

export const TAGGED_CALLS: CallGrammar = {
  openers: ['<tool_call>'],
  opensUnmarked: 'never',
  turn: null,
  separator: null,
  makeReader: (sink, tools) => new TaggedCallReader(sink, tools),
};
export const TAGS = [
  '<tool_call>',
  '</tool_call>',
  '<arg_key>',
  '</arg_key>',
  '<arg_value>',
  '</arg_value>',
] as const;

/** GLM-4.5 and 4.6: name, keys and values of a call on lines of their own. */
export const glm45: Dialect = {
  name: 'glm4.5',
  calls: TAGGED_CALLS,
  controlTokens: TAGS,
  beginsWithNewline: true,
  reasonsOnLines: false,
  emptyReasoning: '\n<think></think>',
  idLength: null,
  callHead: (tool) => (tool === null ? '\n<tool_call>' : `\n<tool_call>${tool}\n`),
};
