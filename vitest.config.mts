import { defineConfig } from 'vitest/config';

// Two workers: the machine these run on has two cores, and engine tests start threads of their own.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/native/**', 'node_modules/**'],
    // Tuning keeps what it finds in the user's cache folder; its own tests turn it on, elsewhere.
    env: { OPEN_AUTOGLM_AUTOTUNE: '0' },
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
