/** A few random faults on real ZFS between two hosts in namespaces of their own; `npm run torture` does it hundreds of times. */
import { describe, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import { torture } from '../torture/torture.ts';

const FAULTS = 4;
const LIMIT_MS = 900_000;
const seed = Number(process.env.PANDO_TEST_SEED ?? 1 + (Date.now() % (2 ** 31 - 1)));

describe('two hosts', () => {
  it(
    `lose nothing and leave nothing behind, whatever is killed or cut (seed ${seed})`,
    async () => {
      // Provides the packages; each host runs a daemon of its own
      const zfs: AvailableZfs = await ensureZfs();
      try {
        await torture({ seed, faults: FAULTS, onRound: () => undefined });
      } finally {
        await zfs.stop();
      }
    },
    LIMIT_MS,
  );
});
