/**
 * Changes that ZFS makes only to datasets that are not mounted. The kernel's ZFS unmounts by itself and at once. zfs-fuse does not: what it
 * has mounted stays busy, and for a moment after an unmount as well, until the kernel has let go of its FUSE connection.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isPandoError } from '../../core/errors.ts';
import type { DatasetName } from '../../core/ids.ts';
import type { Runner } from './runner.ts';

/**
 * How long the kernel is left to let go, in ms, before the first try and between tries. A try that comes too early does not only fail: it can
 * leave the dataset busy for good. Seen on a busy 2-core machine: every other rename fails without the wait, none of 44 with it.
 */
const LETTING_GO_MS = 250;
/** How long zfs-fuse may take to let go of what was unmounted, in ms. */
const LETTING_GO_MS_MAX = 5_000;

/** Runs a change to datasets that were just unmounted, and again as long as zfs-fuse has not let go of them (`ZFS_BUSY`). */
export async function onceLetGo(change: () => Promise<void>): Promise<void> {
  const giveUpAt = performance.now() + LETTING_GO_MS_MAX;
  for (;;) {
    await delay(LETTING_GO_MS);
    try {
      await change();
      return;
    } catch (error) {
      if (!isPandoError(error, 'ZFS_BUSY') || performance.now() > giveUpAt) throw error;
    }
  }
}

/** Names of the mounted datasets at and below `name`, parents first. */
async function mountedBelow(runner: Runner, name: DatasetName): Promise<string[]> {
  const words = ['list', '-H', '-r', '-t', 'filesystem', '-o', 'name,mounted', name];
  const lines = await runner.lines({ words, action: `unmount ${name}`, names: [name] });
  return lines.flatMap((line) => {
    const [dataset = '', mounted] = line.split('\t');
    return mounted === 'yes' ? [dataset] : [];
  });
}

/**
 * Renames a dataset on zfs-fuse with everything below it unmounted meanwhile. What was mounted is mounted again, under the new name or,
 * when the rename fails, the old one. Rejects with `ZFS_BUSY` while someone stands in one of them.
 */
export async function renameUnmounted(
  runner: Runner,
  from: DatasetName,
  to: DatasetName,
  rename: () => Promise<void>,
): Promise<void> {
  const unmounted: string[] = [];
  const mountAgain = async (nameOf: (name: string) => string): Promise<void> => {
    for (const name of unmounted.toReversed()) {
      const words = ['mount', nameOf(name)];
      // Not mounted is a nuisance, renamed is what was asked for; `zfs mount` tells whoever looks why.
      await runner.run({ words, action: `mount ${nameOf(name)}`, names: [to] }).catch(() => undefined);
    }
  };
  try {
    for (const name of (await mountedBelow(runner, from)).toReversed()) {
      await runner.run({ words: ['unmount', name], action: `rename ${from}`, names: [from] });
      unmounted.push(name);
    }
    if (unmounted.length > 0) await onceLetGo(rename);
    else await rename();
  } catch (error) {
    await mountAgain((name) => name);
    throw error;
  }
  await mountAgain((name) => `${to}${name.slice(from.length)}`);
}
