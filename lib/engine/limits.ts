/** Limits of the in-process API; the server's are at most these. */
export const MAX_STOP_STRINGS = 16;
export const MAX_STOP_BYTES = 256;
/** End-of-generation tokens of a checkpoint: real ones have up to five. */
export const MAX_STOP_TOKENS = 64;
export const MAX_LOGIT_BIAS = 1024;
/** Tokens a stream keeps for a reader that does not come; then its request is paused. */
export const MAX_UNREAD_TOKENS = 1024;
/** Bytes one `logits` call may return. */
export const MAX_LOGITS_BYTES = 2 ** 30;
/** Adapters one model may have loaded. */
export const MAX_ADAPTERS = 64;
/** Functions one call may offer. */
export const MAX_TOOLS = 128;
/** Objects and arrays inside each other in the schema of a tool and in the arguments of a call. */
export const MAX_JSON_DEPTH = 32;
/** Characters of all tools of a call as JSON. */
export const MAX_TOOLS_LENGTH = 1_048_576;
