import type { NativeModel } from './model-loading';
import type { AdmittedRequest } from './plan-writer';
import type { RequestMessage } from './protocol';
import { ropeTableOf } from './rope-choice';

/**
 * A request as the draft model sees it: with its settings and seed, so that both models draw by the same random numbers and
 * penalties. Adapters are the target's alone.
 */
export function draftRequest(
  request: RequestMessage,
  { vocabSize, ropeSwitchLength }: Pick<NativeModel, 'vocabSize' | 'ropeSwitchLength'>,
): AdmittedRequest {
  const { tokens, settings } = request;
  const isKnown = (token: number): boolean => token < vocabSize;
  return {
    settings: {
      ...settings,
      numLogprobs: -1,
      stopTokens: settings.stopTokens.filter(isKnown),
      biasTokens: settings.biasTokens.filter(isKnown),
      biasValues: settings.biasValues.filter((_, i) => isKnown(settings.biasTokens[i] ?? 0)),
    },
    numPromptTokens: tokens.length,
    ropeTable: ropeTableOf(request, ropeSwitchLength),
    adapter: 0,
    outputId: 0,
  };
}
