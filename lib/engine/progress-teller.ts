import type { LoadPhase, LoadProgress } from './load-types';
import type { Logger } from './types';

export type Teller = (phase: LoadPhase, progress: Omit<LoadProgress, 'phase'>) => void;

/** What a callback throws is its own fault and does not stop the loading. */
export function progressTeller(onProgress: (progress: LoadProgress) => void, logger: Logger): Teller {
  return (phase, progress) => {
    try {
      onProgress({ phase, ...progress });
    } catch (error) {
      logger({ level: 'warn', text: `onProgress threw: ${String(error)}` });
    }
  };
}
