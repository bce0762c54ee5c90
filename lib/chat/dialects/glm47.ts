import type { Dialect } from './dialect';
import { TAGGED_CALLS, TAGS } from './glm45';

/** GLM-4.7 and 5: the tags of GLM-4.5 without any white space. */
export const glm47: Dialect = {
  name: 'glm4.7',
  calls: TAGGED_CALLS,
  controlTokens: TAGS,
  beginsWithNewline: false,
  reasonsOnLines: false,
  emptyReasoning: '',
  idLength: null,
  callHead: (tool) => `<tool_call>${tool ?? ''}`,
};
