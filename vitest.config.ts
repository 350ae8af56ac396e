import { defineConfig } from 'vitest/config';

const UNIT_TEST_TIMEOUT_MS = 20_000;
/** Real pools on a slow or busy disk take their time; a hang is still found within one CI run. */
const PLATFORM_TEST_TIMEOUT_MS = 120_000;

export default defineConfig({
  test: {
    // As many as there are cores; by default one is left idle, which on a machine with two doubles the time
    maxWorkers: '100%',
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/platform/**'],
          testTimeout: UNIT_TEST_TIMEOUT_MS,
        },
      },
      {
        test: {
          name: 'platform',
          include: ['test/platform/**/*.test.ts'],
          testTimeout: PLATFORM_TEST_TIMEOUT_MS,
          hookTimeout: PLATFORM_TEST_TIMEOUT_MS,
          fileParallelism: false,
        },
      },
    ],
  },
});
