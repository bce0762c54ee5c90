import { chatglm3 } from './chatglm3';
import type { Dialect, DialectName } from './dialect';
import { glm4 } from './glm4';
import { glm45 } from './glm45';
import { glm47 } from './glm47';
import { hermes } from './hermes';
import { llama3 } from './llama3';
import { mistral } from './mistral';
import { qwen3Coder } from './qwen3-coder';

export const DIALECTS: Readonly<Record<DialectName, Dialect>> = {
  chatglm3,
  glm4,
  'glm4.5': glm45,
  'glm4.7': glm47,
  hermes,
  'qwen3-coder': qwen3Coder,
  llama3,
  mistral,
};
