/** `npm run torture`: random faults on real ZFS, and what they did. */
import { randomInt } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import { describeError } from '../../src/core/errors.ts';
import { torture } from './torture.ts';

/** Seeds that fast-check takes. */
const SEED_VALUES = 2 ** 31;

function count(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1 && value < SEED_VALUES) return value;
  throw new InvalidArgumentError('It has to be a whole number from 1 on.');
}

const { kills, seed } = new Command('npm run torture --')
  .description(
    'Kills nodes and zfs, cuts the link and fills the pool while a mirror follows a random history, on real ZFS.',
  )
  .option('--kills <number>', 'faults, one after the other', count, 200)
  .option('--seed <number>', 'what happens; by default anything', count, randomInt(1, SEED_VALUES))
  .parse()
  .opts<{ readonly kills: number; readonly seed: number }>();

const began = performance.now();
const told = new Map<string, number>();
process.stdout.write(`${kills} faults, seed ${seed}\n`);
try {
  await torture({
    seed,
    faults: kills,
    onRound: (round, fault) => {
      told.set(fault, (told.get(fault) ?? 0) + 1);
      process.stdout.write(`${round} of ${kills}: ${fault}\n`);
    },
  });
  const kinds = Array.from(told, ([fault, times]) => `${times} ${fault}`).join(', ');
  const minutes = ((performance.now() - began) / 60_000).toFixed(1);
  process.stdout.write(`Nothing lost, nothing left behind: ${kinds}; ${minutes} min.\n`);
} catch (error) {
  process.stderr.write(`${describeError(error)}\nAgain: npm run torture -- --kills ${kills} --seed ${seed}\n`);
  process.exitCode = 1;
}
