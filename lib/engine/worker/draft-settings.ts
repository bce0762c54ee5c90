import { PromptLookup } from '../../scheduler/speculation/prompt-lookup';
import type { DraftSettings } from '../../scheduler/types';
import type { SpeculationSettings } from './protocol';

/** Who guesses a request's tokens: each request has a guesser of its own. */
export function draftSettings(speculation: SpeculationSettings | null): DraftSettings | null {
  if (speculation === null) return null;
  const { maxTokens, isAdaptive } = speculation;
  return { drafter: new PromptLookup(), maxTokens, isAdaptive };
}
