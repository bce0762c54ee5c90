import { PromptLookup } from '../../scheduler/speculation/prompt-lookup';
import type { DraftSettings } from '../../scheduler/types';
import type { SpeculationSettings } from './protocol';

/** Who guesses a request's tokens: a guesser of its own, or the draft model. */
export function draftSettings(speculation: SpeculationSettings | null): DraftSettings | null {
  if (speculation === null) return null;
  const { mode, maxTokens, isAdaptive } = speculation;
  return { drafter: mode === 'draft-model' ? null : new PromptLookup(), maxTokens, isAdaptive };
}
