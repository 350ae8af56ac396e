/** Snapshots as `ctr snapshots` shows them, so that who knows one knows the other. */
import type { Mount, SnapshotKind } from '../../core/snapshots/snapshot.ts';
import type { WrittenSnapshot } from '../../core/snapshots/written-snapshot.ts';

/** A snapshot with those that are over it. */
export interface SnapshotBranch {
  readonly key: string;
  readonly above: readonly SnapshotBranch[];
}

/** Words that a shell takes as they are. */
const PLAIN_WORD = /^[\w@%+=:,./-]+$/;
/** What `ctr` writes before each level of JSON. */
const JSON_INDENT = 4;

export function kindName(kind: SnapshotKind): string {
  return kind.charAt(0).toUpperCase() + kind.slice(1);
}

/** Snapshots by what they are over, in the order in which they are given. One whose parent is not among them stands below its key. */
export function snapshotBranches(snapshots: readonly WrittenSnapshot[]): readonly SnapshotBranch[] {
  const branches = new Map(snapshots.map(({ key }) => [key, { key, above: [] as SnapshotBranch[] }]));
  const roots: SnapshotBranch[] = [];
  for (const { key, parent } of snapshots) {
    const branch = branches.get(key);
    if (branch === undefined) continue;
    if (parent === null) {
      roots.push(branch);
      continue;
    }
    let below = branches.get(parent);
    if (below === undefined) {
      below = { key: parent, above: [] };
      branches.set(parent, below);
      roots.push(below);
    }
    below.above.push(branch);
  }
  return roots;
}

/** Lines that draw the branches, a level further in for each. */
export function* drawBranches(branches: readonly SnapshotBranch[], level = 0): Generator<string> {
  for (const { key, above } of branches) {
    yield `${'  '.repeat(level)}${level > 0 ? '\\_' : ''} ${key}`;
    yield* drawBranches(above, level + 1);
  }
}

function shellWord(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The commands that mount a snapshot at `target`, for a shell. */
export function mountCommands(mounts: readonly Mount[], target: string): string[] {
  return mounts.map(({ type, source, options: given }) => {
    // Unlike mount(2), mount(8) wants to be told that ZFS has a place of its own for it (mount.zfs.8)
    const options = type === 'zfs' ? [...given, 'zfsutil'] : given;
    const words = ['mount', '-t', type, source, target, ...(options.length > 0 ? ['-o', options.join(',')] : [])];
    return words.map(shellWord).join(' ');
  });
}

function jsonLines(value: unknown): string[] {
  return JSON.stringify(value, null, JSON_INDENT).split('\n');
}

/** Mounts as Go writes them in JSON. */
export function mountLines(mounts: readonly Mount[]): string[] {
  return jsonLines(mounts.map(({ type, source, options }) => ({ Type: type, Source: source, Options: options })));
}

/** A snapshot as Go writes it in JSON; what is empty is left out. */
export function infoLines({ kind, key, parent, labels, createdAt, updatedAt }: WrittenSnapshot): string[] {
  return jsonLines({
    Kind: kindName(kind),
    Name: key,
    ...(parent === null ? {} : { Parent: parent }),
    ...(Object.keys(labels).length === 0 ? {} : { Labels: labels }),
    Created: createdAt,
    Updated: updatedAt,
  });
}
