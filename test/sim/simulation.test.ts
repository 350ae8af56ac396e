/** Worlds in which everything goes wrong: a fixed set of seeds, and some that nobody has seen before. */
import { randomInt } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { simulate } from './simulation.ts';

const SMALL = { nodes: 4, events: 2_000 };
const FIXED_SEEDS = Array.from({ length: 10 }, (_, index) => index);
const FRESH_SEEDS = Array.from({ length: 4 }, () => randomInt(2 ** 32));

describe('a simulated world', () => {
  beforeAll(() => {
    process.stdout.write(`Simulated seeds: ${FIXED_SEEDS.join(' ')}, and fresh: ${FRESH_SEEDS.join(' ')}\n`);
  });

  it('goes the same way again from the same seed, and another way from another', async () => {
    const [first, again, other] = [
      await simulate({ seed: 1, ...SMALL }),
      await simulate({ seed: 1, ...SMALL }),
      await simulate({ seed: 2, ...SMALL }),
    ];
    expect(again).toEqual(first);
    expect(other.digest).not.toBe(first.digest);
  });

  it.each([...FIXED_SEEDS, ...FRESH_SEEDS])(
    'keeps all invariants: npm run sim -- --seeds 1 --nodes 4 --events 2000 --seed %i',
    async (seed) => {
      const { violations, events } = await simulate({ seed, ...SMALL });
      expect(violations).toEqual([]);
      expect(events).toBeGreaterThanOrEqual(SMALL.events);
    },
  );
});
