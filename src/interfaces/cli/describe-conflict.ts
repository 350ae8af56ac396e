/** Why a dataset of a mirror cannot follow, and what a person can do about it: one sentence for each reason. */
import { unreachable } from '../../core/errors.ts';
import { absoluteName, type DatasetName, poolOf, type RelativeName } from '../../core/ids.ts';
import type { Contested } from '../../core/plan/settled-names.ts';
import type { Conflict, Waiting } from '../../core/plan/steps.ts';
import { formatPlace } from './format.ts';

/** Snapshots that a sentence names; of more it gives the number. */
const NAMED_SNAPSHOTS_MAX = 3;

function listed(names: readonly string[]): string {
  const more = names.length - NAMED_SNAPSHOTS_MAX;
  const shown = names.slice(0, NAMED_SNAPSHOTS_MAX).join(', ');
  return more > 0 ? `${shown} and ${more} more` : shown;
}

/** A command that keeps a dataset and takes it out of the mirror. */
function moveAside(root: DatasetName, name: RelativeName): string {
  const dataset = absoluteName(root, name);
  return `"zfs rename ${dataset} ${poolOf(root)}/kept-${dataset.split('/').slice(1).join('-')}"`;
}

/** What lies below the root goes along, and is received anew as well. */
function withAllBelow(name: RelativeName): string {
  return name === '' ? ', which takes along all that lies below it,' : '';
}

function goBack(dataset: string, lastCommon: string | null): string {
  return lastCommon === null
    ? 'mirror the tree to another place'
    : `go back with "zfs rollback -r ${dataset}@${lastCommon}"`;
}

/** One sentence about a conflict in the mirror at `root` that says what to do. */
export function describeConflict(conflict: Conflict, root: DatasetName): string {
  const dataset = conflict.name === '' ? root : `${root}/${conflict.name}`;
  switch (conflict.reason) {
    case 'name-taken':
      return `Another dataset has the name ${dataset} here; move it aside with ${moveAside(root, conflict.name)} and sync again.`;
    case 'name-reserved':
      return `${dataset} has a name that Pando keeps for itself; its owner must rename it before you sync again.`;
    case 'name-too-long':
      return `${dataset} is longer than ZFS takes; have its owner rename it, or keep the mirror at a shorter name, and sync again.`;
    case 'no-common-snapshot':
      return `${dataset} has no snapshot in common with its owner (only here: ${listed(conflict.localOnly)}); move it aside with ${moveAside(root, conflict.name)}${withAllBelow(conflict.name)} and sync again to receive it anew.`;
    case 'root-diverged':
      return `${dataset}, the root of the mirror, has what its owner has not (${listed(conflict.localOnly) || 'written without a snapshot'}), and cannot be kept aside, being a pool or a volume; clone or send elsewhere what you need of it, then ${goBack(dataset, conflict.lastCommon)} and sync again, or mirror the tree to a dataset in the pool and sync again.`;
    case 'not-owned-together':
      return `${dataset} cannot follow its owner, since that would change ${absoluteName(root, conflict.by)}, which belongs to another owner; have that one rename or promote it first, then sync again.`;
    case 'same-bookmarks':
      return `${dataset} cannot be promoted as at its owner: it and ${absoluteName(root, conflict.by)} have bookmarks of the same name (${listed(conflict.bookmarks)}); destroy those of one of the two with "zfs destroy DATASET#BOOKMARK" and sync again.`;
    case 'origin-differs':
      return `${dataset} does not hang where it does at its owner, since snapshots were destroyed or promoted otherwise on one of the two, and follows all the same; to have it as it is there, move it aside with ${moveAside(root, conflict.name)} and sync again to receive it anew.`;
    case 'written-without-snapshot':
      return `${dataset} has no snapshot here that its owner's could follow on; move it aside with ${moveAside(root, conflict.name)}${withAllBelow(conflict.name)} and sync again to receive it.`;
    case 'rename-blocked':
      return `${absoluteName(root, conflict.current)} is called ${dataset} at its owner, but cannot be renamed since that name is taken or nothing stands above it here; free the name, or rename it by hand, and sync again.`;
    case 'aside-full':
      return `${dataset} has diverged, and as many copies of what diverged are kept as a peer may bring datasets; look through them with "pando diverged ls", drop or restore some, and sync again.`;
    case 'limit-reached':
      return `${dataset} is beyond the ${conflict.allowed} ${conflict.limit} that a peer may bring into this tree; raise it with "pando limit contributions", or where that says nothing of this peer in the configuration of this node, or have its owner bring less, and sync again.`;
    case 'parent-missing':
      return `${dataset} cannot be received because ${absoluteName(root, conflict.parent)} is not here; solve that dataset's conflict first, then sync again.`;
    case 'origin-missing':
      return `${dataset} is a clone of snapshot "${conflict.snapshot}", which is not here and cannot be received; solve the conflict of the dataset it lies in first, then sync again.`;
    default:
      return unreachable(conflict);
  }
}

/** One sentence about a dataset that cannot travel yet. */
export function describeWaiting({ name, reason }: Waiting, root: DatasetName): string {
  const dataset = absoluteName(root, name);
  switch (reason) {
    case 'no-snapshot':
      return `${dataset} waits for its owner to take a first snapshot of it.`;
    case 'parent-waits':
      return `${dataset} waits for the dataset above it, which has to wait itself.`;
    case 'origin-waits':
      return `${dataset} waits for the dataset that it is a clone of, which has to wait itself.`;
    case 'name-waits':
      return `${dataset} waits for its name: whether this mirror takes it (--only, --except) shows once the peer has given it that.`;
    default:
      return unreachable(reason);
  }
}

/** One sentence about a dataset that has another name here than at its owner. */
export function describeContested(tree: string, { name, shown }: Contested): string {
  return `${formatPlace(tree, shown)} is called ${formatPlace(tree, name)} by its owner, but another dataset has that name; either owner can rename its own.`;
}
