// Entry point of the engine worker thread.
import { parentPort, workerData } from 'node:worker_threads';
import { AutoglmError, serializeError } from '../../errors';
import { EngineHost } from './engine-host';
import type { EngineCommand, EngineReport, EngineWorkerData } from './protocol';

function start(): void {
  const port = parentPort;
  if (port === null)
    throw new AutoglmError('internal', 'the engine worker was started outside a worker thread');
  const post = (report: EngineReport, transfer: ArrayBuffer[] = []): void =>
    port.postMessage(report, transfer);
  try {
    const host = new EngineHost(workerData as EngineWorkerData, post);
    port.on('message', (command: EngineCommand) => host.handle(command));
  } catch (error) {
    post({ type: 'startFailed', error: serializeError(error) });
  }
}

start();
