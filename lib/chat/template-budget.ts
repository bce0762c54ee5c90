import { AutoglmError } from '../errors';
import type { Clock } from './thread-clock';

/** What rendering one prompt may cost. Chat templates come with models from strangers. */
export const TemplateLimits = {
  /** Characters of a template. The longest published ones have 30,000. */
  templateLength: 262_144,
  /** Milliseconds of evaluation, in processor time where the system tells it. */
  timeMs: 100,
  /** Nodes evaluated: bounds the work also where the clock is coarse. */
  steps: 1_000_000,
  /** Nodes inside each other. */
  depth: 400,
  /** Characters of the prompt, and of any text made on the way. */
  outputLength: 4_194_304,
  /** Characters and list entries (each counted as 16 characters) made in all. */
  memory: 67_108_864,
  /** Numbers of one range(), as in Jinja's sandbox. */
  rangeLength: 100_000,
} as const;

const STEPS_PER_CLOCK = 32;
/** Between two looks at the clock more time than this was not spent on the template: the thread was not running. */
const MAX_CLOCK_GAP_MS = 25;

/** The account of one rendering. Every method throws `template_budget_exceeded` once its limit is passed. */
export class TemplateBudget {
  #steps = 0;
  #depth = 0;
  #memory = 0;
  #timeMs = 0;
  #lastMs: number;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastMs = clock();
  }

  enter(): void {
    this.#steps += 1;
    this.#depth += 1;
    if (this.#steps > TemplateLimits.steps) throw exceeded('steps', TemplateLimits.steps);
    if (this.#depth > TemplateLimits.depth) throw exceeded('depth', TemplateLimits.depth);
    if (this.#steps % STEPS_PER_CLOCK === 0) this.#readClock();
  }

  leave(): void {
    this.#depth -= 1;
  }

  /** A text was made. */
  chargeText(length: number): void {
    if (length > TemplateLimits.outputLength) throw exceeded('outputLength', TemplateLimits.outputLength);
    this.#charge(length);
  }

  /** A list or mapping was made. */
  chargeEntries(count: number): void {
    this.#charge(16 * count);
  }

  #charge(amount: number): void {
    this.#memory += amount;
    if (this.#memory > TemplateLimits.memory) throw exceeded('memory', TemplateLimits.memory);
  }

  #readClock(): void {
    const now = this.#clock();
    this.#timeMs += Math.min(now - this.#lastMs, MAX_CLOCK_GAP_MS);
    this.#lastMs = now;
    if (this.#timeMs > TemplateLimits.timeMs) throw exceeded('timeMs', TemplateLimits.timeMs);
  }
}

const WHAT: Readonly<Record<keyof typeof TemplateLimits, string>> = {
  templateLength: 'characters of template',
  timeMs: 'ms of rendering',
  steps: 'evaluation steps',
  depth: 'levels of nesting',
  outputLength: 'characters of output',
  memory: 'characters of intermediate text',
  rangeLength: 'numbers in a range',
};

export function exceeded(limit: keyof typeof TemplateLimits, allowed: number): AutoglmError {
  return new AutoglmError(
    'template_budget_exceeded',
    `the chat template needs more than ${allowed} ${WHAT[limit]}`,
    {
      hint: 'Shorten the conversation, or give another template with chatTemplate.',
      details: { limit, allowed },
    },
  );
}
