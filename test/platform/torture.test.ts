/** A few random faults on real ZFS between two hosts in namespaces of their own; `npm run torture` does it hundreds of times. */
import { execa } from 'execa';
import { describe, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import { torture } from '../torture/torture.ts';

const FAULTS = 5;
/** A fault takes ten seconds, or a minute where other things run beside it. */
const LIMIT_MS = 900_000;
const SEED_VALUES = 2 ** 31;
const seed = Number(process.env.PANDO_TEST_SEED ?? 1 + (Date.now() % (SEED_VALUES - 1)));

describe('two hosts', () => {
  it(
    `lose nothing and leave nothing behind, whatever is killed or cut: npm run torture -- --kills ${FAULTS} --seed ${seed}`,
    async () => {
      // The hosts run what people run
      await execa('npm', ['run', '--silent', 'build']);
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
