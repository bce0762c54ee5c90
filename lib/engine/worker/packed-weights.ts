import { AutoglmError } from '../../errors';
import { PackedCache } from '../../model/packed-cache/packed-cache';
import { packedIdentity } from '../../model/packed-cache/packed-identity';
import type {
  ModelHandle,
  NativeAddon,
  NativeFile,
  NativePackedFile,
  NativeTensor,
  WeightsOrigin,
} from '../../native/addon';
import type { DecoderSpec } from '../../native/decoder-spec';
import { fromNativeError } from '../../native/native-error';
import type { LogRecord, Warning } from '../types';
import type { LoadSettings } from './protocol';

/** What a load must gain by the cache to be worth a file as large as the model. */
const MIN_SAVED_MS = 100;
/** Checking the packed bytes, on one thread: the one thing packing does not need. Measured 13 GB/s. */
const CHECK_BYTES_PER_MS = 1e7;
/** A short program that closes its model while it is written gives the writer this long: else no load would be the last. */
const FINISH_MS = 5_000;

interface Decoder {
  readonly spec: DecoderSpec;
  readonly files: readonly NativeFile[];
  readonly tensors: readonly NativeTensor[];
}

/** The cache of packed weights as one load uses it: find before it, keep behind it. Its faults are warnings, never errors. */
export class PackedWeights {
  readonly warnings: Warning[] = [];
  readonly #path: string;
  readonly #settings: LoadSettings;
  readonly #stop = new AbortController();
  /** NativeSaveRequest.pace */
  readonly #pace = new Int32Array(new SharedArrayBuffer(4));
  #cache: PackedCache | null = null;
  #origin: WeightsOrigin | null = null;
  #keeping: Promise<void> = Promise.resolve();

  constructor(path: string, settings: LoadSettings) {
    this.#path = path;
    this.#settings = settings;
  }

  get isUsed(): boolean {
    return this.#origin?.isPackedFile === true;
  }

  async find(decoder: Decoder): Promise<NativePackedFile | null> {
    const { weightCache, precision } = this.#settings;
    if (weightCache === null) return null;
    try {
      const identity = await packedIdentity({ ...decoder, precision });
      this.#cache = await PackedCache.at(this.#path, precision, identity);
      const { packed, refusals } = await this.#cache.find(weightCache.isShared);
      for (const refusal of refusals) this.#refused(refusal);
      return packed;
    } catch (error) {
      this.#refused(describe(error));
      return null;
    }
  }

  loaded(origin: WeightsOrigin): void {
    this.#origin = origin;
    if (origin.refusal !== null) this.#refused(origin.refusal);
  }

  /** Writes the weights in the background where that pays, or where what lay there was of no use. */
  keep(addon: NativeAddon, model: ModelHandle, numThreads: number, log: (record: LogRecord) => void): void {
    const cache = this.#cache;
    const { weightCache } = this.#settings;
    if (cache === null || weightCache === null || this.#origin === null || this.isUsed) return;
    const byteLength = addon.modelMemory(model).weightBytes;
    const { sample, packMs, refusal } = this.#origin;
    const savedMs = (packMs - byteLength / CHECK_BYTES_PER_MS) / numThreads;
    const isDue = weightCache.write === 'always' || this.warnings.length > 0 || savedMs > MIN_SAVED_MS;
    if (weightCache.write === 'never' || !isDue) return;
    const { signal } = this.#stop;
    const write = (path: string, offset: number, sectionBytes: number): Promise<Int32Array> =>
      addon.saveWeights(model, { path, offset, sectionBytes, pace: this.#pace }).catch((error: unknown) => {
        throw fromNativeError(error);
      });
    const { maxBytes } = weightCache;
    this.#keeping = cache
      .keep({ sample, byteLength, maxBytes, isReplacing: refusal !== null, signal, write })
      .then(
        (path) => {
          if (path !== null)
            log({
              level: 'info',
              text: `packed weights kept in ${path}`,
              fields: { code: 'packed_weights_kept', path },
            });
        },
        (error: unknown) => {
          if (signal.aborted) return;
          log({
            level: 'warn',
            text: `packed weights are not kept: ${describe(error)}`,
            fields: { code: 'packed_weights_not_kept' },
          });
        },
      );
  }

  /** Waits for a write that runs, though not for long. */
  async finish(): Promise<void> {
    Atomics.store(this.#pace, 0, 1);
    const timer = setTimeout(() => {
      this.#stop.abort();
      Atomics.store(this.#pace, 0, 2);
    }, FINISH_MS);
    await this.#keeping;
    clearTimeout(timer);
  }

  #refused(message: string): void {
    this.warnings.push({ code: 'packed_weights_refused', message });
  }
}

function describe(error: unknown): string {
  if (AutoglmError.is(error)) return error.message;
  return error instanceof Error ? error.message : String(error);
}
