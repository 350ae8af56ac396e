/**
 * Changes that ZFS makes only to datasets that are not mounted. The kernel's ZFS unmounts by itself and at once. With zfs-fuse a dataset
 * counts as busy for a moment after its unmount, until the kernel has let go of the FUSE connection; and a rename does so as well while
 * the dataset's clones are open, or were until lately (dsl_dir_rename_check counts references).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isPandoError } from '../../core/errors.ts';
import { type DatasetName, poolOf } from '../../core/ids.ts';
import type { Runner } from './runner.ts';

/**
 * How long the kernel is left to let go, in ms, before each try. One that comes too early does not only fail: it can leave the dataset
 * busy for good. Seen on a busy 2-core machine: every other rename fails without the wait, none of 44 with it.
 */
export const LETTING_GO_MS = 250;
/** How long zfs-fuse may take to let go of what was unmounted, in ms. */
const LETTING_GO_MS_MAX = 10_000;

/** Runs a change to datasets that were just unmounted, and again as long as zfs-fuse has not let go of them (`ZFS_BUSY`). */
export async function onceLetGo(change: () => Promise<void>, between = async (): Promise<void> => {}): Promise<void> {
  const giveUpAt = performance.now() + LETTING_GO_MS_MAX;
  for (;;) {
    await delay(LETTING_GO_MS);
    try {
      await change();
      return;
    } catch (error) {
      if (!isPandoError(error, 'ZFS_BUSY') || performance.now() > giveUpAt) throw error;
      await between();
    }
  }
}

/** The datasets that are in the way of a rename, parents first. */
interface Surroundings {
  /** Those at and below it that are mounted. */
  readonly own: readonly DatasetName[];
  /** Mounted clones of their snapshots, wherever in the pool, with what is mounted below those: `zfs unmount` takes that along. */
  readonly clones: readonly DatasetName[];
}

async function surroundingsOf(runner: Runner, name: DatasetName): Promise<Surroundings> {
  const words = ['list', '-H', '-r', '-t', 'filesystem', '-o', 'name,mounted,origin', poolOf(name)];
  const lines = await runner.lines({ words, action: `rename ${name}`, names: [name] });
  const mounted = lines.map((line) => line.split('\t')).filter(([, state]) => state === 'yes');
  const isAtOrBelow = (other: string, top: string): boolean => other === top || other.startsWith(`${top}/`);
  const isOwn = (other = ''): boolean => isAtOrBelow(other, name);
  const grown = mounted.filter(([other, , origin]) => !isOwn(other) && isOwn(origin?.split('@')[0]));
  const isGrown = (other: string): boolean => !isOwn(other) && grown.some(([clone = '']) => isAtOrBelow(other, clone));
  return {
    own: mounted.flatMap(([other]) => (isOwn(other) ? [other as DatasetName] : [])),
    clones: mounted.flatMap(([other = '']) => (isGrown(other) ? [other as DatasetName] : [])),
  };
}

/**
 * Renames a dataset on zfs-fuse with everything below it unmounted meanwhile, and its clones where nobody stands in them. What was mounted is
 * mounted again, under the new name or, when the rename fails, the old one. Rejects with `ZFS_BUSY` while someone stands in one of them.
 */
export async function renameUnmounted(
  runner: Runner,
  from: DatasetName,
  to: DatasetName,
  rename: () => Promise<void>,
): Promise<void> {
  const { own, clones } = await surroundingsOf(runner, from);
  const run = async (word: 'mount' | 'unmount', name: string): Promise<void> => {
    await runner.run({ words: [word, name], action: `rename ${from}`, names: [from] });
  };
  const unmounted: DatasetName[] = [];
  const unmountAll = async (): Promise<void> => {
    for (const name of own.toReversed()) {
      await run('unmount', name);
      unmounted.push(name);
    }
    for (const name of clones.toReversed()) {
      await run('unmount', name).then(
        () => unmounted.push(name),
        () => undefined,
      );
    }
  };
  const mountAgain = async (nameOf: (name: DatasetName) => string): Promise<void> => {
    // Not mounted is a nuisance, renamed is what was asked for; `zfs mount` tells whoever looks why
    for (const name of unmounted.splice(0).toReversed()) await run('mount', nameOf(name)).catch(() => undefined);
  };
  try {
    await unmountAll();
    const busy = own.length + clones.length > 0;
    const mountAndUnmount = async (): Promise<void> => {
      await mountAgain((name) => name);
      await delay(LETTING_GO_MS);
      await unmountAll();
    };
    if (busy) await onceLetGo(rename, mountAndUnmount);
    else await rename();
  } catch (error) {
    await mountAgain((name) => name);
    throw error;
  }
  await mountAgain((name) => (own.includes(name) ? `${to}${name.slice(from.length)}` : name));
}

/** Unmounts a dataset of zfs-fuse, and waits until it can be renamed. One that nobody can unmount stays mounted. */
export async function unmountIfMounted(runner: Runner, name: DatasetName): Promise<void> {
  const { own } = await surroundingsOf(runner, name);
  if (own.length === 0) return;
  const words = ['unmount', name];
  const isUnmounted = await runner.run({ words, action: `unmount ${name}`, names: [name] }).then(
    () => true,
    () => false,
  );
  if (isUnmounted) await delay(LETTING_GO_MS);
}

/**
 * Does something to a dataset of zfs-fuse with everything that is mounted at and below it unmounted meanwhile: a receive over a mounted
 * placeholder was seen to fail with "I/O error". Rejects with `ZFS_BUSY` while someone stands in one of them.
 */
export async function whileUnmounted<T>(runner: Runner, name: DatasetName, work: () => Promise<T>): Promise<T> {
  const { own } = await surroundingsOf(runner, name);
  const run = async (word: 'mount' | 'unmount', each: DatasetName): Promise<void> => {
    await runner.run({ words: [word, each], action: `${word} ${each}`, names: [name] });
  };
  const unmounted: DatasetName[] = [];
  try {
    for (const each of own.toReversed()) {
      await run('unmount', each);
      unmounted.push(each);
    }
    if (unmounted.length > 0) await delay(LETTING_GO_MS);
    return await work();
  } finally {
    for (const each of unmounted.toReversed()) await run('mount', each).catch(() => undefined);
  }
}
