/**
 * The thread that renders chat templates. They come with models from strangers, so it holds nothing of value: its client
 * ends it when a template overruns, and starts another.
 */
import { parentPort } from 'node:worker_threads';
import { limitAllocations } from '../../chat/allocation-limits';
import { PromptRenderer } from '../../chat/prompt';
import { AutoglmError, serializeError } from '../../errors';
import type { Numbered, RenderCommand, RenderNotice, WorkerReply } from './protocol';

const port = parentPort;
if (port === null) throw new AutoglmError('internal', 'render-worker.js runs as a worker thread only');

limitAllocations();
// The template library leaves loops by throwing errors whose stacks nobody reads.
Error.stackTraceLimit = 0;
const renderers = new Map<string, PromptRenderer>();

port.on('message', (message: Numbered<RenderCommand> | RenderNotice) => {
  switch (message.type) {
    case 'format':
      renderers.set(message.modelId, new PromptRenderer(message.format));
      return;
    case 'forget':
      renderers.delete(message.modelId);
      return;
    case 'render':
      render(message);
  }
});

function render({ call, modelId, input }: Numbered<RenderCommand>): void {
  reply({ type: 'began', call });
  try {
    const renderer = renderers.get(modelId);
    if (renderer === undefined) throw new AutoglmError('internal', `no template for model ${modelId}`);
    reply({ type: 'done', call, value: renderer.render(input) });
  } catch (error) {
    reply({ type: 'failed', call, error: serializeError(error) });
  }
}

function reply(message: WorkerReply): void {
  port?.postMessage(message);
}
