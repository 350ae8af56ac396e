/**
 * Taking a dataset back. `zfs rollback -r` destroys the newer snapshots one after the other, so what would stop it half-way is looked for first:
 * holds, and clones, which it never takes along.
 */
import type { DatasetName } from '../../core/ids.ts';
import { type ZfsErrorCode, zfsFailure } from '../failure.ts';
import type { SnapshotReference } from '../zfs.ts';
import { type OwnSnapshot, snapshotsOf } from './destroy.ts';
import type { Runner } from './runner.ts';

export async function rollBack(runner: Runner, { dataset, snapshot }: SnapshotReference): Promise<void> {
  const action = `roll back to ${dataset}@${snapshot}`;
  const words = ['rollback', '-r', `${dataset}@${snapshot}`];
  const refuse = (code: ZfsErrorCode, detail: string, evidence = {}): never => {
    const command = runner.commandLine.words('zfs', words);
    throw zfsFailure(code, { action, command }, { exitCode: null, stderr: '' }, detail, evidence);
  };
  const snapshots = await snapshotsOf(runner, dataset, action);
  const newer = snapshots.slice(snapshots.findIndex(({ name }) => name === snapshot) + 1);
  if (newer.length < snapshots.length) {
    const dependents = await clonesOf(runner, dataset, newer, action);
    if (dependents.length > 0) refuse('ZFS_HAS_DEPENDENTS', dependents.join(', '), { dependents });
    const held = newer.filter(({ userrefs }) => userrefs > 0).map(({ name }) => `${dataset}@${name}`);
    if (held.length > 0) refuse('ZFS_BUSY', `held: ${held.join(', ')}`, { held });
  }
  await runner.run({ words, action, names: [dataset] });
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
