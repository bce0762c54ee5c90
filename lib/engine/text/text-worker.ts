/** The thread that opens checkpoints and holds their tokenizers. */
import { parentPort, type Transferable } from 'node:worker_threads';
import { AutoglmError, serializeError } from '../../errors';
import { openAdapter } from '../../model/adapters/open-adapter';
import { encodeInput } from '../../tokenizer/encoder-input';
import { tokenTableBuffers } from '../../tokenizer/token-table';
import type { Tokenizer } from '../../tokenizer/tokenizer';
import { type OpenedModel, openModel } from './opened-model';
import type { Numbered, TextCommand, TextNotice, TextResults, WorkerReply } from './protocol';

type Command<Type extends TextCommand['type']> = Numbered<Extract<TextCommand, { type: Type }>>;

const port = parentPort;
if (port === null) throw new AutoglmError('internal', 'text-worker.js runs as a worker thread only');

const models = new Map<string, Pick<OpenedModel, 'tokenizer' | 'spec'>>();
/** Running loads, by call. */
const loads = new Map<number, { readonly modelId: string; readonly controller: AbortController }>();

port.on('message', (message: Numbered<TextCommand> | TextNotice) => {
  switch (message.type) {
    case 'load':
      void load(message);
      return;
    case 'describeAdapter':
      void describeAdapter(message);
      return;
    case 'tokenize':
      tokenize(message);
      return;
    case 'encodeInput':
      encode(message);
      return;
    case 'abort':
      loads.get(message.call)?.controller.abort();
      return;
    case 'unload':
      unload(message.modelId);
  }
});

async function load({ call, modelId, ...request }: Command<'load'>): Promise<void> {
  const controller = new AbortController();
  loads.set(call, { modelId, controller });
  try {
    const opened = await openModel({ ...request, signal: controller.signal });
    if (controller.signal.aborted) throw new AutoglmError('aborted', 'loading was aborted');
    models.set(modelId, { tokenizer: opened.tokenizer, spec: opened.spec });
    const value: TextResults['load'] = { loaded: opened.loaded, format: opened.format };
    reply({ type: 'done', call, value }, tokenTableBuffers(opened.loaded.tokenTable));
  } catch (error) {
    reply({ type: 'failed', call, error: serializeError(error) });
  } finally {
    loads.delete(call);
  }
}

function tokenizerOf(modelId: string): Tokenizer {
  const { tokenizer } = modelOf(modelId);
  if (tokenizer !== null) return tokenizer;
  throw new AutoglmError('unsupported_model', 'the checkpoint has no tokenizer', {
    hint: 'Give token ids instead of text.',
  });
}

function encode({ call, modelId, ...request }: Command<'encodeInput'>): void {
  try {
    const value = encodeInput(tokenizerOf(modelId), request);
    reply({ type: 'done', call, value }, [value.tokens.buffer as ArrayBuffer]);
  } catch (error) {
    reply({ type: 'failed', call, error: serializeError(error) });
  }
}

async function describeAdapter({ call, modelId, path }: Command<'describeAdapter'>): Promise<void> {
  const controller = new AbortController();
  loads.set(call, { modelId, controller });
  try {
    const value: TextResults['describeAdapter'] = await openAdapter(
      path,
      modelOf(modelId).spec,
      controller.signal,
    );
    reply({ type: 'done', call, value });
  } catch (error) {
    reply({ type: 'failed', call, error: serializeError(error) });
  } finally {
    loads.delete(call);
  }
}

function modelOf(modelId: string): Pick<OpenedModel, 'tokenizer' | 'spec'> {
  const model = models.get(modelId);
  if (model === undefined) throw new AutoglmError('internal', `the text worker has no model ${modelId}`);
  return model;
}

function tokenize({ call, modelId, text, ...options }: Command<'tokenize'>): void {
  try {
    const value = tokenizerOf(modelId).encode(text, options);
    reply({ type: 'done', call, value }, [value.buffer as ArrayBuffer]);
  } catch (error) {
    reply({ type: 'failed', call, error: serializeError(error) });
  }
}

function unload(modelId: string): void {
  models.delete(modelId);
  for (const running of loads.values()) if (running.modelId === modelId) running.controller.abort();
}

function reply(message: WorkerReply, transfer: readonly Transferable[] = []): void {
  port?.postMessage(message, transfer);
}
