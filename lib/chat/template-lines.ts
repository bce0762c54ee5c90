import { type Token, tokenize } from '@huggingface/jinja';

const BLOCK = /\{%[\s\S]*?(?:%\}|$)|\{\{[\s\S]*?(?:\}\}|$)|\{#[\s\S]*?(?:#\}|$)/g;
const BLOCK_STARTS = new Set(['OpenStatement', 'OpenExpression', 'Comment']);

/** Line of the first block that is no Jinja by itself, 1-based; null when each one is. */
export function lineOfLexerError(source: string): number | null {
  for (const { 0: block, index } of source.matchAll(BLOCK)) {
    try {
      tokenize(block, { trim_blocks: true, lstrip_blocks: true });
    } catch {
      return lineAt(source, index);
    }
  }
  return null;
}

/** Line of the block that holds a token; null when tokens and blocks do not correspond (`}}` inside a string). */
export function lineOfToken(source: string, tokens: readonly Token[], index: number): number | null {
  const isStart = ({ type }: Token) => BLOCK_STARTS.has(type);
  const blocks = [...source.matchAll(BLOCK)].filter(
    ({ 0: block }) => !/^\{%-?\s*(end)?generation\b/.test(block),
  );
  if (blocks.length !== tokens.filter(isStart).length) return null;
  const block = blocks[tokens.slice(0, index + 1).filter(isStart).length - 1];
  return block === undefined ? null : lineAt(source, block.index);
}

function lineAt(source: string, index: number): number {
  return source.slice(0, index).split('\n').length;
}
