/** Runs one part of the benchmark: `dist/test/bench/part-process.js NAME`, forked by `bench.ts`. */
import { describeError } from '../../src/core/errors.ts';
import { PARTS, type PartResult } from './parts.ts';

/** What a part tells its parent. */
export type PartMessage =
  | { readonly result: PartResult; readonly peakMegabytes: number }
  | { readonly failure: string };

const part = PARTS[process.argv[2] ?? ''];
try {
  if (part === undefined) throw new Error(`There is no part "${process.argv[2]}".`);
  const result = await part();
  const peakMegabytes = (process.resourceUsage().maxRSS * 1024) / 1_000_000;
  process.send?.({ result, peakMegabytes } satisfies PartMessage);
} catch (error) {
  process.send?.({ failure: describeError(error) } satisfies PartMessage);
}
process.disconnect();
