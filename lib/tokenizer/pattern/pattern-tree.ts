/** A regular expression as a tree. A set is the index of a character class, a fact that of a PlaceFact. */
export type PatternNode =
  | { readonly type: 'set'; readonly set: number }
  /** Holds where the next character is in the set; negated, where it is not or the text ends. */
  | { readonly type: 'look'; readonly set: number; readonly isNegated: boolean }
  | { readonly type: 'fact'; readonly fact: number; readonly isNegated: boolean }
  | { readonly type: 'sequence'; readonly parts: readonly PatternNode[] }
  | { readonly type: 'choice'; readonly options: readonly PatternNode[] }
  | {
      readonly type: 'repeat';
      readonly part: PatternNode;
      readonly min: number;
      readonly max: number;
      readonly isGreedy: boolean;
    };

/**
 * What holds at a place of a text or not, whatever is matched around it. Worked out for all places before the matching
 * begins, in the order of the list: a body names facts that stand before its own.
 */
export type PlaceFact =
  /** The next character is in a set. */
  | { readonly kind: 'next'; readonly set: number }
  /** Text that begins here matches. The body is written backwards and names facts in place of looks. */
  | { readonly kind: 'ahead'; readonly body: PatternNode }
  /** Text that ends here matches. */
  | { readonly kind: 'behind'; readonly body: PatternNode };

export interface ParsedPattern {
  readonly root: PatternNode;
  /** Tests of single characters. */
  readonly sets: readonly RegExp[];
  readonly facts: readonly PlaceFact[];
}

/** The tree that matches the same texts read from their ends. A look becomes a fact: there, the next character is another. */
export function reversed(node: PatternNode, nextIn: (set: number) => number): PatternNode {
  switch (node.type) {
    case 'set':
    case 'fact':
      return node;
    case 'look':
      return { type: 'fact', fact: nextIn(node.set), isNegated: node.isNegated };
    case 'sequence':
      return { type: 'sequence', parts: node.parts.toReversed().map((part) => reversed(part, nextIn)) };
    case 'choice':
      return { type: 'choice', options: node.options.map((option) => reversed(option, nextIn)) };
    case 'repeat':
      return { ...node, part: reversed(node.part, nextIn) };
  }
}
