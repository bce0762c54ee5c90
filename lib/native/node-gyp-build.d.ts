declare module 'node-gyp-build' {
  /** Path of the best native file of a package folder; throws when there is none. */
  export function path(folder: string): string;
}
