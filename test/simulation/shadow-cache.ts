import { Limits } from '../../lib/native/abi';
import { mix } from './fake-model';
import type { TrackedRequest } from './tracked-request';

/**
 * Which page content can be found, as plain as possible: a full page computed by an applied step stays findable until it
 * is handed out again. Exact as long as nothing was preempted: a plan dropped halfway may evict pages unseen.
 */
export class ShadowCache {
  readonly #pageOfContent = new Map<string, number>();
  readonly #contentOfPage = new Map<number, string>();

  /** Pages that a request with this history finds at its head, one token left to compute. */
  numMatching(tracked: TrackedRequest): number {
    if (!tracked.isGenerating) return 0;
    const contents = contentsOf(tracked, Math.floor((tracked.numHistory - 1) / Limits.pageSize));
    const missing = contents.findIndex((content) => !this.#pageOfContent.has(content));
    return missing < 0 ? contents.length : missing;
  }

  /** True when the page could be found until now. */
  handOut(page: number): boolean {
    const content = this.#contentOfPage.get(page);
    if (content === undefined) return false;
    this.#contentOfPage.delete(page);
    this.#pageOfContent.delete(content);
    return true;
  }

  /** Each page is published once; when another page holds the same content just then, never. */
  publish(tracked: TrackedRequest): void {
    if (!tracked.isGenerating) return;
    const contents = contentsOf(tracked, Math.floor(tracked.numComputed / Limits.pageSize));
    for (; tracked.numPublished < contents.length; tracked.numPublished += 1) {
      const page = tracked.pageTable[tracked.numPublished];
      const content = contents[tracked.numPublished];
      if (page === undefined || content === undefined || this.#pageOfContent.has(content)) continue;
      this.#pageOfContent.set(content, page);
      this.#contentOfPage.set(page, content);
    }
  }
}

function contentsOf(tracked: TrackedRequest, numPages: number): string[] {
  const contents: string[] = [];
  let [high, low] = [tracked.request.salt.charCodeAt(0), 1];
  for (let position = 0; position < numPages * Limits.pageSize; position += 1) {
    high = mix(high, tracked.tokenAt(position) ?? -1);
    low = mix(low, high);
    if ((position + 1) % Limits.pageSize === 0) contents.push(`${high}/${low}`);
  }
  return contents;
}
