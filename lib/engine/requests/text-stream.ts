import type { GenerateEvent } from '../types';

/** The answer's text alone; leaving it early leaves the events too. */
export function textOf(events: AsyncIterableIterator<GenerateEvent>): AsyncIterator<string> {
  return {
    async next() {
      while (true) {
        const { done, value } = await events.next();
        if (done) return { done: true, value: undefined };
        if (value.type === 'text' && value.text !== '') return { done: false, value: value.text };
      }
    },
    async return() {
      await events.return?.();
      return { done: true, value: undefined };
    },
  };
}
