import { describe, expect, test } from 'vitest';
import { DraftEconomy } from '../../../lib/scheduler/speculation/draft-economy';
import { StepCosts } from '../../../lib/scheduler/speculation/step-costs';

const PLAIN_MS = 10;

/** Steps as wide as speculation makes them cost the same: memory is the limit. */
function flatCosts(): StepCosts {
  const costs = new StepCosts();
  for (const width of [1, 2, 17]) costs.record(width, PLAIN_MS);
  return costs;
}

const alone = (rate: number, lag = 1) => ({
  numSequences: 1,
  candidates: [{ rate, most: 8, lag }],
});

/** Plays one sequence for `numSteps` steps of the target. Returns the time, and that of plain steps for the same tokens. */
function play(economy: DraftEconomy, numSteps: number, rate: number, draftMs: number) {
  const costs = flatCosts();
  let time = 0;
  let numTokens = 0;
  let numGuessed = 0;
  for (let step = 0; step < numSteps; step += 1) {
    costs.record(1, PLAIN_MS);
    const { numGuesses } = economy.choose(alone(rate), costs);
    for (let i = 0; i < numGuesses; i += 1) economy.stepEnded(1, 1, draftMs);
    // As many guesses are right as are on average, spread evenly over the steps.
    const mean = Array.from({ length: numGuesses }, (_, i) => rate ** (i + 1)).reduce((a, b) => a + b, 0);
    const numAccepted = Math.floor((step + 1) * mean) - Math.floor(step * mean);
    economy.decoded({ numSequences: 1, numAccepted, elapsed: PLAIN_MS, plain: PLAIN_MS });
    time += PLAIN_MS + numGuesses * draftMs;
    numTokens += 1 + numAccepted;
    numGuessed += numGuesses;
  }
  return { speed: (numTokens * PLAIN_MS) / time, numGuessed };
}

describe('a draft model', () => {
  test('guesses more the cheaper it is and the oftener it is right', () => {
    const numGuesses = (cost: number, rate: number): number =>
      new DraftEconomy(cost).choose(alone(rate), flatCosts()).numGuesses;
    expect(numGuesses(0.01, 0.9)).toBe(8);
    expect(numGuesses(0.1, 0.9)).toBeGreaterThan(numGuesses(0.1, 0.6));
    expect(numGuesses(0.05, 0.6)).toBeGreaterThan(numGuesses(0.3, 0.6));
    expect(numGuesses(1, 1)).toBe(0);
    expect(numGuesses(0.3, 0.1)).toBe(0);
  });

  test('is not asked before it is known what plain steps cost', () => {
    expect(new DraftEconomy(0.01).choose(alone(0.9), new StepCosts()).numGuesses).toBe(0);
  });

  test('brings what it promises', () => {
    expect(play(new DraftEconomy(0.1), 500, 0.8, 1).speed).toBeGreaterThan(2);
  });

  test('is left alone at less than 2 % when it costs as much as the model', () => {
    const { speed, numGuessed } = play(new DraftEconomy(1), 5000, 0.9, PLAIN_MS);
    expect(speed).toBeGreaterThan(0.98);
    expect(numGuessed).toBeGreaterThan(0);
  });

  test('is left alone when it costs more than its size lets hope', () => {
    expect(play(new DraftEconomy(0.05), 5000, 0.5, PLAIN_MS).speed).toBeGreaterThan(0.98);
  });

  test('is tried again, and used when it has become worth it', () => {
    const economy = new DraftEconomy(1);
    play(economy, 3000, 0.9, PLAIN_MS);
    expect(play(economy, 20_000, 0.9, 1).speed).toBeGreaterThan(1.1);
  });

  test('does not compute a long prompt for a short answer', () => {
    const economy = new DraftEconomy(0.2);
    const numGuesses = (lag: number): number => economy.choose(alone(0.8, lag), flatCosts()).numGuesses;
    expect(numGuesses(4000)).toBe(0);
    expect(numGuesses(400)).toBeGreaterThan(0);
    for (let i = 0; i < 50; i += 1) economy.answerEnded(3, 0.8);
    expect(numGuesses(400)).toBe(0);
    for (let i = 0; i < 50; i += 1) economy.answerEnded(3000, 0.8);
    expect(numGuesses(4000)).toBeGreaterThan(0);
  });

  test('starts a new request from how earlier ones went', () => {
    const economy = new DraftEconomy(0.2);
    const before = economy.rate;
    for (let i = 0; i < 20; i += 1) economy.answerEnded(100, 0.95);
    expect(economy.rate).toBeGreaterThan(before);
    expect(economy.rate).toBeCloseTo(0.95, 1);
  });
});
