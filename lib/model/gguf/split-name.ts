/** As llama-gguf-split writes them: five digits, counted from 1. */
const SPLIT_NAME = /^(.*)-(\d{5})-of-(\d{5})(\.gguf)$/is;
/** No published model has more parts; a name that asks for more is damage. */
const MAX_PARTS = 1024;

export interface SplitName {
  /** From 0. */
  readonly index: number;
  /** Names of all parts in order, in the folder of the given one. */
  readonly parts: readonly string[];
}

/** Takes the name or path of one part of a split GGUF file apart; null for other names. */
export function parseSplitName(name: string): SplitName | null {
  const [, stem = '', number = '', count = '', extension = ''] = SPLIT_NAME.exec(name) ?? [];
  const numParts = Number(count);
  if (numParts < 1 || numParts > MAX_PARTS || Number(number) < 1 || Number(number) > numParts) return null;
  const parts = Array.from(
    { length: numParts },
    (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${count}${extension}`,
  );
  return { index: Number(number) - 1, parts };
}
