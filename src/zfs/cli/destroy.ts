/**
 * Destroying one dataset with its snapshots and nothing else.
 *
 * `zfs destroy` refuses a dataset that has snapshots, and `-r` would take along what came up as a child after the last look. So: look, unmount
 * (which fails while someone stands in it), destroy the snapshots that were seen by name, then the dataset without any option, which
 * ZFS refuses if there is something new. OpenZFS destroys a range of snapshots at once or none of it (lzc_destroy_snaps); zfs-fuse
 * goes snapshot by snapshot, newest first, so that what is left after a crash can still be received onto.
 */
import type { DatasetName } from '../../core/ids.ts';
import { type ZfsErrorCode, zfsFailure } from '../failure.ts';
import type { ZfsCapabilities } from '../zfs.ts';
import type { Runner } from './runner.ts';
import { onceLetGo } from './unmounted.ts';

export async function destroyDataset(
  runner: Runner,
  dialect: ZfsCapabilities['dialect'],
  name: DatasetName,
): Promise<void> {
  const action = `destroy ${name}`;
  const run = (...words: readonly string[]): Promise<string> => runner.run({ words, action, names: [name] });
  const refuse = (code: ZfsErrorCode, detail: string, evidence = {}): never => {
    const command = runner.commandLine.words('zfs', ['destroy', name]);
    throw zfsFailure(code, { action, command }, { exitCode: null, stderr: '' }, detail, evidence);
  };
  if (!name.includes('/')) refuse('ZFS_UNSUPPORTED', `'${name}' is a pool`);

  const snapshots = await snapshotsOf(runner, name, action);
  const { dependents, mounted } = await surroundingsOf(runner, name);
  if (dependents.length > 0) refuse('ZFS_HAS_DEPENDENTS', dependents.join(', '), { dependents });
  const held = snapshots.filter(({ userrefs }) => userrefs > 0).map((snapshot) => `${name}@${snapshot.name}`);
  if (held.length > 0) refuse('ZFS_BUSY', `held: ${held.join(', ')}`, { held });

  if (mounted) await run('unmount', name);
  try {
    for (const part of partsToDestroy(dialect, snapshots)) await run('destroy', `${name}@${part}`);
    const destroy = async (): Promise<void> => {
      await run('destroy', name);
    };
    // Nobody tells whether it was unmounted a moment ago
    if (dialect === 'zfs-fuse') await onceLetGo(destroy);
    else await destroy();
  } catch (error) {
    if (mounted) await run('mount', name).catch(() => undefined);
    throw error;
  }
}

export interface OwnSnapshot {
  readonly name: string;
  readonly userrefs: number;
}

/** The dataset's own snapshots, oldest first. */
export async function snapshotsOf(runner: Runner, name: DatasetName, action: string): Promise<OwnSnapshot[]> {
  const words = ['list', '-H', '-d', '1', '-t', 'snapshot', '-s', 'createtxg', '-o', 'name,userrefs', name];
  const lines = await runner.lines({ words, action, names: [name] });
  return lines.flatMap((line) => {
    const [snapshot = '', userrefs] = line.split('\t');
    // The snapshots of children stand at depth 2
    return snapshot.startsWith(`${name}@`)
      ? [{ name: snapshot.slice(name.length + 1), userrefs: Number(userrefs) }]
      : [];
  });
}

/** Children and clones, which can be anywhere in the pool, and whether the dataset is mounted. */
async function surroundingsOf(
  runner: Runner,
  name: DatasetName,
): Promise<{ readonly dependents: readonly string[]; readonly mounted: boolean }> {
  const pool = name.slice(0, name.indexOf('/'));
  const words = ['list', '-H', '-r', '-t', 'filesystem,volume', '-o', 'name,origin,mounted', pool];
  const lines = await runner.lines({ words, action: `destroy ${name}`, names: [name] });
  const rows = lines.map((line) => line.split('\t'));
  const dependents = rows.flatMap(([other = '', origin = '']) =>
    other.startsWith(`${name}/`) || origin.startsWith(`${name}@`) ? [other] : [],
  );
  const mounted = rows.some(([other, , state]) => other === name && state === 'yes');
  return { dependents, mounted };
}

/** What stands behind the `@` of each `zfs destroy`. */
function partsToDestroy(dialect: ZfsCapabilities['dialect'], snapshots: readonly OwnSnapshot[]): string[] {
  const names = snapshots.map((snapshot) => snapshot.name);
  if (dialect === 'zfs-fuse' || names.length < 2) return names.toReversed();
  return [`${names[0]}%${names.at(-1)}`];
}
