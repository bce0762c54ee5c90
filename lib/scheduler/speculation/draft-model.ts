import type { RequestState } from '../request-state';
import type { DraftModelConfig } from '../types';
import { DraftEconomy } from './draft-economy';
import { type DraftOrder, DraftSequences } from './draft-sequences';

/** The scheduler's side of a draft model: what it holds, whether it pays, and the round of guesses it is at. */
export class DraftModel {
  readonly sequences: DraftSequences;
  readonly economy: DraftEconomy;
  /** Who is guessed for in this round; null between rounds. */
  orders: readonly DraftOrder[] | null = null;
  /** When the step in flight was planned. */
  plannedAt = 0;

  constructor(config: DraftModelConfig) {
    this.sequences = new DraftSequences(config);
    this.economy = new DraftEconomy(config.relativeCost);
  }

  get isBusy(): boolean {
    return this.sequences.inFlight !== null;
  }

  /** A request is over; one that came to its end shows what answers are like. */
  ended({ id, speculation, numGenerated }: RequestState, isWhole: boolean): void {
    this.sequences.forget(id);
    if (isWhole && speculation?.offered) this.economy.answerEnded(numGenerated, speculation.rateOf(0));
  }
}
