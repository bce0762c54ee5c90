import type { RunningServer } from './serve';

const SIGNALS = ['SIGTERM', 'SIGINT'] as const;

/**
 * Closes the server on SIGTERM or SIGINT and calls `onClosed` when its answers ended; a second signal ends them at
 * once. Returns a function that stops listening for signals.
 */
export function closeOnSignals(server: RunningServer, onClosed: () => void): () => void {
  let isClosing = false;
  const onSignal = (): void => {
    const closed = server.close(isClosing ? { graceMs: 0 } : {});
    if (isClosing) return;
    isClosing = true;
    void closed.finally(() => {
      stop();
      onClosed();
    });
  };
  const stop = (): void => {
    for (const signal of SIGNALS) process.off(signal, onSignal);
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return stop;
}
