/** The trees this node owns, and what people do to them through Pando: ZFS first, the log after (design §4). */
import { type LocalTree, mirrorsOf } from '../../core/admin.ts';
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { Cause, Ownership } from '../../core/events.ts';
import { type Dataset, dependentsOf, type Graph, requireDataset } from '../../core/graph/graph.ts';
import {
  absoluteName,
  type DatasetName,
  isHidden,
  isLineage,
  parentOf,
  parseRelativeName,
  type RelativeName,
  relativeTo,
  type TreeName,
} from '../../core/ids.ts';
import { checkRootIsFree } from '../../core/roots.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { History } from '../../log/history.ts';
import { type AskedBy, ownProperties } from '../../transfer/replica-properties.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import { type DatasetPlace, parseDatasetPlace, type SnapshotPlace } from './tree-names.ts';

export interface TreesOptions {
  readonly history: History;
  readonly admin: AdminJournal;
  readonly zfs: Zfs;
  /** Has this node's stream of a tree say that it is kept at that root. */
  readonly announce: (tree: TreeName, root: DatasetName) => Promise<void>;
  /** Has it say that the tree is not kept any more. */
  readonly retract: (tree: TreeName) => Promise<void>;
  /** Lets the observer look at a whole tree, or at some datasets of it, and log what it finds. */
  readonly look: (tree: TreeName, names: readonly RelativeName[] | 'all', cause: Cause) => Promise<unknown>;
}

/** A tree that this node keeps: its own, or a mirror of another's. */
export interface KeptTree {
  readonly tree: TreeName;
  readonly root: DatasetName;
  readonly kind: 'own' | 'mirror';
  /** Null where the log that tells of them is damaged. */
  readonly datasets: number | null;
  readonly snapshots: number | null;
  /** What keeps the log of the tree from being read, or null. */
  readonly error: PandoError | null;
}

export class Trees {
  readonly #options: TreesOptions;

  constructor(options: TreesOptions) {
    this.#options = options;
  }

  /** All trees that this node keeps, in the order of their names. One whose log is damaged is among them. */
  list(): readonly KeptTree[] {
    const { trees, mirrors } = this.#options.admin.state;
    const mirrored = new Map(Array.from(mirrors.values(), ({ tree, root }) => [tree, root]));
    const kept = [
      ...Array.from(trees.values(), ({ tree, root }) => ({ tree, root, kind: 'own' as const })),
      ...Array.from(mirrored, ([tree, root]) => ({ tree, root, kind: 'mirror' as const })),
    ];
    return kept
      .filter(({ tree, kind }) => kind === 'own' || !trees.has(tree))
      .map((one) => ({ ...one, ...this.#size(one.tree) }))
      .sort((a, b) => (a.tree < b.tree ? -1 : 1));
  }

  /** Where the tree is kept. Throws `TREE_UNKNOWN`. */
  rootOf(tree: TreeName): DatasetName {
    const { state } = this.#options.admin;
    const root = state.trees.get(tree)?.root ?? mirrorsOf(state, tree)[0]?.root;
    if (root === undefined) throw unknownTree(tree);
    return root;
  }

  /**
   * Where a dataset lies that people name in full, as `zfs` does, or as everywhere else in Pando by its tree. Throws `NAME_INVALID`, and `TREE_UNKNOWN` where it lies in no tree of
   * this node.
   */
  locate(text: string): DatasetPlace {
    const kept = this.list().flatMap(({ tree, root }) => {
      const name = relativeTo(root, text as DatasetName);
      return name === undefined ? [] : [{ tree, name: parseRelativeName(name) }];
    });
    const [place = parseDatasetPlace(text)] = kept;
    this.rootOf(place.tree);
    return place;
  }

  /** The graph of this node's copy. Throws `TREE_UNKNOWN`, or `LOG_CORRUPT`. */
  graph(tree: TreeName): Graph {
    this.rootOf(tree);
    return this.#options.history.graph(this.#options.history.ownStream(tree));
  }

  /**
   * Shares an existing dataset, and all below it, as a tree. Rejects with `TREE_EXISTS`, `TREE_OVERLAP` with another tree or mirror,
   * `TREE_ROOT_MISSING` when the dataset does not exist.
   */
  async add({ tree, root }: LocalTree): Promise<void> {
    const { admin, announce, look, zfs } = this.#options;
    const [listed] = await zfs.listOnly([root]);
    if (listed === undefined) {
      throw new PandoError(
        'TREE_ROOT_MISSING',
        `There is no dataset "${root}" on this node; create it with "zfs create ${root}" or name another.`,
        { root },
      );
    }
    await admin.change((state) => {
      checkRootIsFree(state, tree, root);
      return [{ type: 'local-tree.added', tree, root }];
    });
    await announce(tree, root);
    await look(tree, 'all', 'observed');
  }

  /** Stops sharing a tree; its datasets stay as they are. Rejects with `TREE_UNKNOWN`, for a mirror as well. */
  async remove(tree: TreeName): Promise<void> {
    const { admin, retract } = this.#options;
    await admin.change((state) => {
      if (mirrorsOf(state, tree).length > 0) throw isMirror(tree);
      if (!state.trees.has(tree)) throw unknownTree(tree);
      return [{ type: 'local-tree.removed', tree }];
    });
    await retract(tree);
  }

  /**
   * Takes a snapshot; with `recursive`, one of each dataset below as well, those included that somebody made a moment ago with plain `zfs`. All
   * at the same moment where the ZFS can do that (see `Zfs.snapshot`).
   */
  async snapshot({ tree, name, snapshot }: SnapshotPlace, options: { readonly recursive: boolean }): Promise<void> {
    if (options.recursive) await this.#options.look(tree, 'all', 'observed');
    const graph = this.graph(tree);
    const root = this.rootOf(tree);
    const first = requireDataset(graph, name);
    const below = options.recursive
      ? graph.sorted().filter((dataset) => isBelow(dataset, first) && !isLineage(dataset.name))
      : [];
    const datasets = [first, ...below];
    for (const dataset of datasets) this.#requireOwned(tree, dataset);
    const names = datasets.map((dataset) => dataset.name);
    await this.#options.zfs.snapshot(names.map((one) => ({ dataset: absoluteName(root, one), snapshot })));
    await this.#options.look(tree, names, 'command');
  }

  /** Clones a snapshot to a new dataset in the same tree, which this node then owns. */
  async clone({ tree, name, snapshot }: SnapshotPlace, target: RelativeName, by: AskedBy = 'people'): Promise<void> {
    const root = this.rootOf(tree);
    const origin = requireDataset(this.graph(tree), name);
    const parent = this.#requirePlaceFor(tree, target);
    const properties = [origin, parent].every((one) => this.#isOwned(one)) ? {} : ownProperties(origin.kind, by);
    await this.#options.zfs.clone(
      { dataset: absoluteName(root, name), snapshot },
      absoluteName(root, target),
      properties,
    );
    // Somebody may just have taken the snapshot with plain zfs: replicas would take a clone of what nobody knows for one whose origin is gone
    await this.#options.look(tree, [name, target], 'command');
  }

  /** Renames a dataset, and with it all below. */
  async rename({ tree, name }: DatasetPlace, to: RelativeName): Promise<void> {
    const root = this.rootOf(tree);
    const dataset = requireDataset(this.graph(tree), name);
    this.#requireOwned(tree, dataset);
    if (name === '') throw rootStays(tree);
    this.#requirePlaceFor(tree, to);
    await this.#options.zfs.rename(absoluteName(root, name), absoluteName(root, to));
    await this.#options.look(tree, 'all', 'command');
  }

  /** Renames a snapshot of one dataset. */
  async renameSnapshot({ tree, name, snapshot }: SnapshotPlace, to: SnapshotPlace['snapshot']): Promise<void> {
    this.#requireOwned(tree, requireDataset(this.graph(tree), name));
    await this.#options.zfs.renameSnapshot({ dataset: absoluteName(this.rootOf(tree), name), snapshot }, to);
    await this.#options.look(tree, [name], 'command');
  }

  /**
   * Promotes a clone over the dataset that its origin lies in. Rejects with `DATASET_NOT_OWNED` unless this node owns both: snapshots change hands, and
   * `ARGUMENT_INVALID` for what is no clone in the tree.
   */
  async promote({ tree, name }: DatasetPlace): Promise<void> {
    const graph = this.graph(tree);
    const root = this.rootOf(tree);
    const clone = requireDataset(graph, name);
    const parent = clone.origin?.dataset == null ? undefined : graph.get(clone.origin.dataset);
    if (parent === undefined) throw notAClone(tree, name);
    for (const dataset of [clone, parent]) this.#requireOwned(tree, dataset);
    await this.#options.zfs.promote(absoluteName(root, name));
    await this.#options.look(tree, [name, parent.name], 'command');
  }

  /**
   * Takes a dataset back to one of its snapshots; what was written since is lost. Newer snapshots are destroyed with `destroyNewer`, and otherwise keep it
   * from happening (`ARGUMENT_INVALID`). Rejects with `ZFS_HAS_DEPENDENTS` when they have clones.
   */
  async rollback(
    { tree, name, snapshot }: SnapshotPlace,
    { destroyNewer }: { readonly destroyNewer: boolean },
  ): Promise<void> {
    await this.#options.look(tree, [name], 'observed');
    const dataset = requireDataset(this.graph(tree), name);
    this.#requireOwned(tree, dataset);
    const index = dataset.snapshots.findIndex((one) => one.name === snapshot);
    const newer = index < 0 ? [] : dataset.snapshots.slice(index + 1).map((one) => one.name);
    if (newer.length > 0 && !destroyNewer) throw newerSnapshots(place(tree, name), newer);
    await this.#options.zfs.rollback({ dataset: absoluteName(this.rootOf(tree), name), snapshot }, { destroyNewer });
    await this.#options.look(tree, [name], 'command');
  }

  /** Destroys a dataset with its snapshots. Rejects with `ZFS_HAS_DEPENDENTS`, naming them, while it has children or clones. */
  async destroy({ tree, name }: DatasetPlace): Promise<void> {
    const graph = this.graph(tree);
    const dataset = requireDataset(graph, name);
    this.#requireOwned(tree, dataset);
    if (name === '') throw rootStays(tree);
    const dependents = dependentsOf(graph, dataset);
    if (dependents.length > 0) {
      throw new PandoError(
        'ZFS_HAS_DEPENDENTS',
        `"${tree}/${name}" cannot be destroyed while these depend on it: ${dependents.join(', ')}; destroy or promote them first.`,
        { dataset: name, dependents },
      );
    }
    await this.#options.zfs.destroy(absoluteName(this.rootOf(tree), name));
    await this.#options.look(tree, [name], 'command');
  }

  /** Destroys one snapshot. */
  async destroySnapshot({ tree, name, snapshot }: SnapshotPlace): Promise<void> {
    this.#requireOwned(tree, requireDataset(this.graph(tree), name));
    await this.#options.zfs.destroySnapshot({ dataset: absoluteName(this.rootOf(tree), name), snapshot });
    await this.#options.look(tree, [name], 'command');
  }

  #size(tree: TreeName): Pick<KeptTree, 'datasets' | 'snapshots' | 'error'> {
    try {
      const graph = this.graph(tree);
      return { datasets: graph.datasets.size, snapshots: graph.snapshotCount, error: null };
    } catch (error) {
      if (!isPandoError(error)) throw error;
      return { datasets: null, snapshots: null, error };
    }
  }

  #isOwned({ owner }: Dataset): boolean {
    return owner.node === this.#options.history.node;
  }

  #requireOwned(tree: TreeName, dataset: Dataset): void {
    const { name, owner } = dataset;
    if (isLineage(name)) throw keptForClones(place(tree, name));
    if (this.#isOwned(dataset)) return;
    throw new PandoError(
      'DATASET_NOT_OWNED',
      `"${place(tree, name)}" is a replica; only its owner ${owner.node} changes it. Do it there.`,
      { tree, dataset: name, owner: owner satisfies Ownership },
    );
  }

  /** The dataset that one of that name would lie below. */
  #requirePlaceFor(tree: TreeName, name: RelativeName): Dataset {
    const parent = parentOf(name);
    if (parent === undefined || isHidden(name) || isLineage(name)) {
      throw new PandoError('NAME_INVALID', `"${place(tree, name)}" cannot be the name of a dataset; choose another.`);
    }
    return requireDataset(this.graph(tree), parent);
  }
}

function place(tree: TreeName, name: RelativeName): string {
  return name === '' ? tree : `${tree}/${name}`;
}

function isBelow(dataset: Dataset, above: Dataset): boolean {
  return dataset.id !== above.id && (above.name === '' || dataset.name.startsWith(`${above.name}/`));
}

function keptForClones(dataset: string): PandoError {
  return new PandoError(
    'DATASET_NOT_OWNED',
    `"${dataset}" only keeps what clones hang off, and goes with them: nobody changes it. Change the clones.`,
    { dataset },
  );
}

function unknownTree(tree: TreeName): PandoError {
  return new PandoError('TREE_UNKNOWN', `This node keeps no tree "${tree}"; "pando tree ls" lists those it keeps.`, {
    tree,
  });
}

function isMirror(tree: TreeName): PandoError {
  return new PandoError(
    'TREE_UNKNOWN',
    `"${tree}" is a mirror of a peer's tree; end it with "pando mirror rm ${tree}".`,
    {
      tree,
    },
  );
}

function notAClone(tree: TreeName, name: RelativeName): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `"${place(tree, name)}" is no clone of a dataset in its tree; "pando graph ${tree}" shows which there are.`,
    { tree, dataset: name },
  );
}

function newerSnapshots(dataset: string, newer: readonly string[]): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `A rollback would destroy newer snapshots of "${dataset}": ${newer.join(', ')}; say --destroy-newer if that is meant.`,
    { dataset, newer },
  );
}

function rootStays(tree: TreeName): PandoError {
  return new PandoError(
    'ARGUMENT_INVALID',
    `The root of "${tree}" cannot be renamed or destroyed here; use "pando tree rm ${tree}" and then zfs.`,
    { tree },
  );
}
