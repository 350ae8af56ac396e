import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

/** Hangs are found, and a machine that is busy with other things decides nothing: no unit test takes a tenth of it on an idle one. */
const UNIT_TEST_TIMEOUT_MS = 90_000;
/** For conditions that come about by themselves. */
const POLL_TIMEOUT_MS = 30_000;
/** Real pools on a slow or busy disk take their time; a hang is still found within one CI run. */
const PLATFORM_TEST_TIMEOUT_MS = 120_000;

export default defineConfig({
  test: {
    // Tests wait for sockets, processes and timers; more of them than there are cores keep those busy
    maxWorkers: 2 * availableParallelism(),
    projects: [
      {
        test: {
          name: 'unit',
          // Files share what they import: with modules of its own for each, reading those takes half of the time
          isolate: false,
          include: ['test/**/*.test.ts'],
          exclude: ['test/platform/**'],
          testTimeout: UNIT_TEST_TIMEOUT_MS,
          expect: { poll: { timeout: POLL_TIMEOUT_MS } },
        },
      },
      {
        test: {
          name: 'platform',
          include: ['test/platform/**/*.test.ts'],
          globalSetup: ['test/platform/build.mjs'],
          testTimeout: PLATFORM_TEST_TIMEOUT_MS,
          hookTimeout: PLATFORM_TEST_TIMEOUT_MS,
          expect: { poll: { timeout: POLL_TIMEOUT_MS } },
          fileParallelism: false,
        },
      },
    ],
  },
});
