import type { DatasetName } from '../../core/ids.ts';
import { type Attempt, zfsFailure } from '../failure.ts';
import type { Runner } from './runner.ts';

/**
 * Rejects with `ZFS_DATASET_EXISTS` where a promote would bring two bookmarks of one name together. OpenZFS 2.3 does not look for that, and panics in the transaction group
 * (`dsl_bookmark_node_add` in dsl_bookmark.c): the pool hangs until the machine is started again.
 */
export async function requireNoBookmarkTwice(runner: Runner, clone: DatasetName): Promise<void> {
  const action = `promote ${clone}`;
  const list = (name: DatasetName, types: string): Promise<string[]> =>
    runner.lines({
      words: ['list', '-Hp', '-d', '1', '-t', types, '-o', 'name,createtxg,origin', name],
      action,
      names: [name],
    });
  const own = new Map<string, string>();
  let origin = '-';
  for (const line of await list(clone, 'filesystem,volume,bookmark')) {
    const [name = '', , from = '-'] = line.split('\t');
    if (name === clone) origin = from;
    else if (name.startsWith(`${clone}#`)) own.set(name.slice(clone.length), name);
  }
  const parent = origin.split('@')[0] as DatasetName;
  if (own.size === 0 || origin === '-') return;
  const rows = (await list(parent, 'snapshot,bookmark')).map((line) => line.split('\t'));
  const at = Number(rows.find(([name]) => name === origin)?.[1] ?? 0);
  const moved = rows.filter(([name = '', createtxg]) => name.startsWith(`${parent}#`) && Number(createtxg) <= at);
  const twice = moved.flatMap(([name = '']) => own.get(name.slice(parent.length)) ?? []);
  if (twice.length === 0) return;
  const attempt: Attempt = { action, command: runner.commandLine.words('zfs', ['promote', clone]) };
  const detail = `${parent} has bookmarks of the same name: ${twice.join(', ')}; destroy those`;
  throw zfsFailure('ZFS_DATASET_EXISTS', attempt, { exitCode: null, stderr: '' }, detail, { conflicts: twice });
}
