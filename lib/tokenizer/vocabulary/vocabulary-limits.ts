/** Ids index flat tables, so a hostile one must not ask for gigabytes. The largest vocabularies have about 300,000. */
export const MAX_TOKEN_ID = (1 << 20) - 1;
/** Ranks of merges and places in a word share one 53-bit number. Tokens can be cut in two in a few ways each. */
export const MAX_MERGES = (1 << 22) - 1;
