import { patternFault } from './pattern-fault';
import type { PatternNode } from './pattern-tree';

export const Op = {
  /** a = set, then the next instruction. */
  set: 0,
  /** a = set; goes on where the next character is in it. */
  look: 1,
  /** a = set; goes on where the next character is not in it or the text ends. */
  lookNegated: 2,
  /** Tries a, then b. */
  split: 3,
  /** Goes on at a. */
  jump: 4,
  match: 5,
  /** a = fact; goes on where it holds. */
  fact: 6,
  factNegated: 7,
} as const;

/** Instructions, three numbers each: operation, a, b. */
export interface PatternProgram {
  readonly code: Int32Array;
}

/** Patterns of real tokenizers take up to 300. */
const MAX_INSTRUCTIONS = 8192;

/**
 * Source: K. Thompson, "Regular expression search algorithm", CACM 11(6), 1968; priorities of branches as in R. Cox,
 * "Regular expression matching: the virtual machine approach", 2009.
 */
export function compilePattern(pattern: string, root: PatternNode): PatternProgram {
  const code: number[] = [];
  const emit = (op: number, a = 0, b = 0): number => {
    if (code.length >= 3 * MAX_INSTRUCTIONS) throw patternFault(pattern, 'its repetitions are too large');
    return code.push(op, a, b) / 3 - 1;
  };
  const next = (): number => code.length / 3;
  const compile = (node: PatternNode): void => {
    switch (node.type) {
      case 'set':
        emit(Op.set, node.set);
        return;
      case 'look':
        emit(node.isNegated ? Op.lookNegated : Op.look, node.set);
        return;
      case 'fact':
        emit(node.isNegated ? Op.factNegated : Op.fact, node.fact);
        return;
      case 'sequence':
        for (const part of node.parts) compile(part);
        return;
      case 'choice': {
        const ends: number[] = [];
        for (const [i, option] of node.options.entries()) {
          if (i === node.options.length - 1) {
            compile(option);
            break;
          }
          const split = emit(Op.split, next() + 1);
          compile(option);
          ends.push(emit(Op.jump));
          code[3 * split + 2] = next();
        }
        for (const end of ends) code[3 * end + 1] = next();
        return;
      }
      case 'repeat':
        compileRepeat(node);
    }
  };
  const compileRepeat = ({ part, min, max, isGreedy }: Extract<PatternNode, { type: 'repeat' }>): void => {
    for (let i = 0; i < min; i += 1) compile(part);
    // The branch into the part is a when greedy, else b; the other one leaves.
    const enter = isGreedy ? 1 : 2;
    const branch = (): number => {
      const split = emit(Op.split);
      code[3 * split + enter] = next();
      return split;
    };
    const leave = 3 - enter;
    if (max === Number.POSITIVE_INFINITY) {
      const split = branch();
      compile(part);
      emit(Op.jump, split);
      code[3 * split + leave] = next();
      return;
    }
    const splits: number[] = [];
    for (let i = min; i < max; i += 1) {
      splits.push(branch());
      compile(part);
    }
    for (const split of splits) code[3 * split + leave] = next();
  };
  compile(root);
  emit(Op.match);
  return { code: Int32Array.from(code) };
}
