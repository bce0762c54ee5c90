import { AutoglmError } from '../../../errors';
import { otherParts } from '../repo-files';
import { isPlainPath, type WebName } from '../source-name';
import { type FetchContext, type FoundModel, NO_FACTS, type SourceFacts } from '../source-types';
import { fetchIntoStore, type StoreDownload } from './store-fetch';

/** Fetches a GGUF file from any web server, with the other parts beside it when it is one of several. */
export async function fetchFromWeb(
  name: WebName,
  facts: SourceFacts,
  context: FetchContext,
): Promise<FoundModel> {
  const file = fileName(name);
  const download = (part: string, url: string, partFacts: SourceFacts): StoreDownload => ({
    name: part,
    remote: { url, authorization: null, label: part, identity: null, facts: partFacts },
  });
  return fetchIntoStore(name, facts, context, async () => ({
    downloads: [
      download(file, name.url, facts),
      ...otherParts(file).map((part) => download(part, siblingUrl(name.url, part), NO_FACTS)),
    ],
    isDirectory: false,
  }));
}

/** The same address with another file name; a query stays, as it may be what grants access. */
function siblingUrl(address: string, file: string): string {
  const url = new URL(address);
  url.pathname = `${url.pathname.slice(0, url.pathname.lastIndexOf('/'))}/${encodeURIComponent(file)}`;
  return url.href;
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
