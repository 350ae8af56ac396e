/**
 * What diverged from its owner and is kept below `.pando/diverged` of a mirror (design §9), until somebody has decided: restored as a dataset that this node
 * owns, or dropped.
 */
import { isPandoError, PandoError } from '../../core/errors.ts';
import {
  absoluteName,
  type DatasetName,
  divergedRoot,
  isHidden,
  parentOf,
  parseTransferId,
  type RelativeName,
  type SnapshotName,
  type TreeName,
} from '../../core/ids.ts';
import { DIVERGED_PROPERTY, listKeptAside } from '../../transfer/preservation.ts';
import type { ListedDataset, Zfs } from '../../zfs/zfs.ts';

/** A dataset that was moved out of the way of its owner's. */
export interface DivergedCopy {
  readonly tree: TreeName;
  /** What it is called below `.pando/diverged`. */
  readonly copy: string;
  readonly dataset: DatasetName;
  /** The name that it had. */
  readonly from: string;
  /** Unix ms. */
  readonly keptAt: number;
  /** Bytes reachable from it. */
  readonly referenced: number;
  /** Snapshots that only this node has, oldest first. */
  readonly snapshots: readonly SnapshotName[];
}

export interface DivergedOptions {
  readonly zfs: Zfs;
  /** Where this node keeps a tree. Throws `TREE_UNKNOWN`. */
  readonly rootOf: (tree: TreeName) => DatasetName;
  /** Lets the observer look at the whole tree. */
  readonly look: (tree: TreeName) => Promise<unknown>;
  /** Told when a copy is gone: what it hung off need not stay for it any more. */
  readonly onDropped: (tree: TreeName) => void;
}

export class Diverged {
  readonly #options: DivergedOptions;

  constructor(options: DivergedOptions) {
    this.#options = options;
  }

  /** The copies that are kept of a tree, oldest first. Rejects with `TREE_UNKNOWN`, and as ZFS does. */
  async list(tree: TreeName): Promise<DivergedCopy[]> {
    const root = this.#options.rootOf(tree);
    const place = divergedRoot(root);
    return (await listKeptAside(this.#options.zfs, root))
      .flatMap((dataset) => copyOf(tree, place, dataset) ?? [])
      .sort((a, b) => a.keptAt - b.keptAt || (a.copy < b.copy ? -1 : 1));
  }

  /**
   * Gives a copy a name in the tree again. It is a dataset of this node's own then, which no sync changes. Rejects with `DIVERGED_UNKNOWN`, `NAME_INVALID` for a
   * name that cannot be given, and as `zfs rename` does.
   */
  async restore(tree: TreeName, copy: string, name: RelativeName): Promise<void> {
    const { zfs, rootOf, look } = this.#options;
    const { dataset } = await this.#get(tree, copy);
    if (parentOf(name) === undefined || isHidden(name)) {
      throw new PandoError('NAME_INVALID', `"${name}" cannot be the name of a restored dataset; choose another.`, {
        name,
      });
    }
    const target = absoluteName(rootOf(tree), name);
    await zfs.rename(dataset, target);
    await zfs.inheritProperty([target], DIVERGED_PROPERTY);
    const [restored] = await zfs.listOnly([target]);
    // It is no replica any more, which nobody writes or mounts, whatever lies above it
    await zfs.setProperties([target], { readonly: 'off', ...(restored?.kind === 'volume' ? {} : { canmount: 'on' }) });
    await look(tree);
  }

  /**
   * Destroys a copy with all its snapshots: the one way in which what diverged goes, and only when somebody says so. Rejects with `DIVERGED_UNKNOWN`, and
   * `ZFS_HAS_DEPENDENTS` while something was cloned from it.
   */
  async drop(tree: TreeName, copy: string): Promise<void> {
    const { dataset } = await this.#get(tree, copy);
    await this.#options.zfs.destroy(dataset);
    this.#options.onDropped(tree);
  }

  async #get(tree: TreeName, copy: string): Promise<DivergedCopy> {
    const found = (await this.list(tree)).find((one) => one.copy === copy);
    if (found !== undefined) return found;
    throw new PandoError(
      'DIVERGED_UNKNOWN',
      `Nothing that diverged in "${tree}" is kept as "${copy}"; "pando diverged ls ${tree}" lists what is.`,
      { tree, copy },
    );
  }
}

/** Null for what is no finished copy: the place itself, and the successor of one that is being moved. */
function copyOf(tree: TreeName, place: DatasetName, listed: ListedDataset): DivergedCopy | null {
  const from = listed.properties[DIVERGED_PROPERTY];
  const copy = listed.name.slice(place.length + 1);
  if (from === undefined || copy === '' || copy.includes('/')) return null;
  const { name, referenced, snapshots } = listed;
  return {
    tree,
    copy,
    dataset: name,
    from,
    keptAt: keptAt(copy),
    referenced,
    snapshots: snapshots.map((snapshot) => snapshot.name),
  };
}

/** The name ends with a UUIDv7, which begins with its Unix time in ms (RFC 9562 §5.7). */
function keptAt(copy: string): number {
  const id = copy.slice(-36);
  try {
    return Number.parseInt(parseTransferId(id).replaceAll('-', '').slice(0, 12), 16);
  } catch (error) {
    if (isPandoError(error, 'ID_INVALID')) return 0;
    throw error;
  }
}
