import { FUNCTION_OPEN, XmlCallReader } from '../output/xml-call';
import type { Dialect } from './dialect';

/** Qwen3-Coder: <tool_call> <function=NAME> <parameter=KEY> VALUE </parameter> </function> </tool_call>. */
export const qwen3Coder: Dialect = {
  name: 'qwen3-coder',
  calls: {
    openers: ['<tool_call>', FUNCTION_OPEN],
    opensUnmarked: 'never',
    turn: null,
    separator: null,
    makeReader: (sink, tools, opener) => new XmlCallReader(sink, tools, opener),
  },
  controlTokens: ['<tool_call>', '</tool_call>'],
  beginsWithNewline: false,
  reasonsOnLines: true,
  emptyReasoning: '',
  idLength: null,
  callHead: (tool) => `<tool_call>\n<function=${tool === null ? '' : `${tool}>\n`}`,
};
