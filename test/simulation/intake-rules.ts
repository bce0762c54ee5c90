import { Limits, RequestKind } from '../../lib/native/abi';
import type { SimulatedRequest } from './scenario';
import type { Simulation } from './simulation';

/** The code with which a request must be refused now, or null. */
export function checkIntake(simulation: Simulation, request: SimulatedRequest): string | null {
  const { config } = simulation.scenario;
  const numPrompt = request.promptTokens.length;
  const isGenerating = request.kind === RequestKind.generate;
  if (numPrompt > config.contextLength - (isGenerating ? 1 : 0)) return 'context_length_exceeded';
  const numOutput = isGenerating ? Math.min(request.maxTokens, config.contextLength - numPrompt) : 1;
  // The last token of the output needs no slot.
  if (numPrompt + numOutput - 1 > config.numPages * Limits.pageSize) return 'kv_exhausted';
  const all = [...simulation.live.values()];
  const waiting = all.filter(({ phase }) => phase === 'waiting');
  const numFreeRows = config.maxRows - (all.length - waiting.length);
  if (waiting.length >= config.maxQueuedRequests + numFreeRows) return 'queue_full';
  const numTokens = waiting.reduce((sum, t) => sum + t.numKnown, 0);
  return waiting.length > 0 && numTokens + numPrompt > config.maxQueuedTokens ? 'queue_full' : null;
}
