import { AutoglmError } from '../../../errors';
import { isPlainPath, type WebName } from '../source-name';
import type { FetchContext, FoundModel, SourceFacts } from '../source-types';
import { fetchIntoStore } from './store-fetch';

/** Fetches one GGUF file from any web server. */
export async function fetchFromWeb(
  name: WebName,
  facts: SourceFacts,
  context: FetchContext,
): Promise<FoundModel> {
  const file = fileName(name);
  const remote = { url: name.url, authorization: null, label: file, identity: null, facts };
  return fetchIntoStore(name, facts, context, async () => ({
    downloads: [{ name: file, remote }],
    isDirectory: false,
  }));
}

function fileName(name: WebName): string {
  let last = new URL(name.url).pathname.split('/').at(-1) ?? '';
  try {
    last = decodeURIComponent(last);
  } catch {
    // Not percent-encoded UTF-8: taken as it is written.
  }
  if (/\.gguf$/i.test(last) && isPlainPath(last)) return last;
  throw new AutoglmError('invalid_parameter', `source: ${name.text}: expected the address of a .gguf file`, {
    hint: 'A checkpoint of several files comes from a hub (hf:org/name) or a directory.',
  });
}
