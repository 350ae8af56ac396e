/**
 * Taking a dataset back. `zfs rollback -r` destroys whatever is newer, one after the other: it is used only where that may go, or nothing but bookmarks is newer,
 * and what would stop it half-way is looked for first: holds, and clones, which it never takes along.
 */
import { isPandoError } from '../../core/errors.ts';
import type { DatasetName } from '../../core/ids.ts';
import { type ZfsErrorCode, zfsFailure } from '../failure.ts';
import type { SnapshotReference } from '../zfs.ts';
import { type OwnSnapshot, snapshotsOf } from './destroy.ts';
import type { Runner } from './runner.ts';

export async function rollBack(
  runner: Runner,
  { dataset, snapshot }: SnapshotReference,
  { destroyNewer }: { readonly destroyNewer: boolean },
): Promise<void> {
  const name = `${dataset}@${snapshot}`;
  const action = `roll back to ${name}`;
  const run = (...words: readonly string[]) => runner.run({ words, action, names: [dataset] });
  const refuse = (code: ZfsErrorCode, detail: string, evidence: object): never => {
    const command = runner.commandLine.words('zfs', ['rollback', name]);
    throw zfsFailure(code, { action, command }, { exitCode: null, stderr: '' }, detail, { ...evidence });
  };
  const checkNewer = async (): Promise<number> => {
    const newer = newerThan(snapshot, await snapshotsOf(runner, dataset, action));
    const names = newer.map((one) => `${dataset}@${one.name}`);
    const dependents = destroyNewer ? await clonesOf(runner, dataset, newer, action) : names;
    if (dependents.length > 0) refuse('ZFS_HAS_DEPENDENTS', dependents.join(', '), { dependents });
    const held = names.filter((_, index) => (newer[index]?.userrefs ?? 0) > 0);
    if (held.length > 0) refuse('ZFS_BUSY', `held: ${held.join(', ')}`, { held });
    return newer.length;
  };

  if ((await checkNewer()) > 0) {
    await run('rollback', '-r', name);
    return;
  }
  try {
    // Without -r it destroys nothing that came since the look either
    await run('rollback', name);
  } catch (error) {
    if (!isPandoError(error, 'ZFS_HAS_DEPENDENTS')) throw error;
    await checkNewer();
    await run('rollback', '-r', name);
  }
}

/** Nothing where the snapshot itself is not there: then ZFS tells. */
function newerThan(snapshot: string, snapshots: readonly OwnSnapshot[]): readonly OwnSnapshot[] {
  const at = snapshots.findIndex(({ name }) => name === snapshot);
  return at < 0 ? [] : snapshots.slice(at + 1);
}

async function clonesOf(
  runner: Runner,
  dataset: DatasetName,
  snapshots: readonly OwnSnapshot[],
  action: string,
): Promise<string[]> {
  if (snapshots.length === 0) return [];
  const pool = dataset.split('/')[0] ?? dataset;
  const words = ['list', '-H', '-r', '-t', 'filesystem,volume', '-o', 'name,origin', pool];
  const lines = await runner.lines({ words, action, names: [dataset] });
  const origins = new Set(snapshots.map(({ name }) => `${dataset}@${name}`));
  return lines.flatMap((line) => {
    const [name = '', origin = ''] = line.split('\t');
    return origins.has(origin) ? [name] : [];
  });
}
