export type { FetchHandlerOptions, ServedModels, ServeOptions, ServerLimits } from './options';
export { createFetchHandler, type RunningServer, serve } from './serve';
export { closeOnSignals } from './signals';
