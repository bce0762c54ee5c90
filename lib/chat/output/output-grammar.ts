import type { CallReaderMaker } from './call-reader';

/** What stands around a model's reasoning. */
export interface ThinkTags {
  readonly open: string;
  readonly close: string;
}

/** How calls stand in a model's output. */
export interface CallGrammar {
  /** Markers that open calls; none is the beginning of another. */
  readonly openers: readonly string[];
  /**
   * Where calls may begin without one: at the beginning of a turn, of a line, or nowhere. Only offered tools can be called
   * so, and what is no call is text again as soon as that is certain.
   */
  readonly opensUnmarked: 'turn' | 'line' | 'never';
  /** Begins a further turn within one answer; null when the model writes none. */
  readonly turn: string | null;
  /** Stands between calls; null when nothing but white space does. */
  readonly separator: string | null;
  readonly makeReader: CallReaderMaker;
}
