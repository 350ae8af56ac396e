/** `pando verify`: what the log says, what ZFS says and what the peer says, held against each other. */
import type { Mirror } from '../../core/admin.ts';
import { type Difference, difference } from '../../core/graph/difference.ts';
import { Graph } from '../../core/graph/graph.ts';
import { type DatasetId, streamIdOf, type TreeName } from '../../core/ids.ts';
import type { History } from '../../log/history.ts';
import type { StreamVerification } from '../../log/log.ts';

export interface VerifierOptions {
  readonly history: History;
  /** Lets the observer look at the tree; gives the number of events that the log had missed. */
  readonly look: (tree: TreeName) => Promise<number>;
  /** The mirror that keeps the tree here, if it is one. */
  readonly mirrorOf: (tree: TreeName) => Mirror | undefined;
  /** The part of the peer's view that the mirror wants, as new as the peer can tell. */
  readonly wanted: (mirror: Mirror) => Promise<Graph>;
}

/** What was found out about one tree. */
export interface TreeVerification {
  readonly tree: TreeName;
  /** Whether everything agrees; what a replica keeps beyond its owner's view does not count against it. */
  readonly ok: boolean;
  /** Null where the log that tells of them is damaged: then nothing was compared. */
  readonly datasets: number | null;
  readonly snapshots: number | null;
  /** Events that the look at ZFS added to the log, that is, what had not been noticed before. */
  readonly unnoticed: number;
  /** What the owner has and the replica lacks or has otherwise. */
  readonly differences: readonly Difference[];
  /** What the replica keeps although its owner no longer has it (design §9). */
  readonly kept: readonly Difference[];
  readonly logs: readonly StreamVerification[];
}

export class Verifier {
  readonly #options: VerifierOptions;

  constructor(options: VerifierOptions) {
    this.#options = options;
  }

  /**
   * Verifies one tree that this node keeps: its log first, since with a damaged one there is nothing to hold against ZFS or the peer. Rejects with
   * what keeps those from being asked.
   */
  async verify(tree: TreeName): Promise<TreeVerification> {
    const { history } = this.#options;
    const logs = await history.verify(history.ownStream(tree));
    if (logs.some(({ fault }) => fault !== null)) return damaged(tree, logs);
    const unnoticed = await this.#options.look(tree);
    const mirror = this.#options.mirrorOf(tree);
    const wanted = mirror === undefined ? undefined : await this.#options.wanted(mirror);
    if (mirror !== undefined) logs.push(...(await history.verify(streamIdOf(mirror.from, tree))));
    const graph = history.graph(history.ownStream(tree));
    const found = wanted === undefined ? [] : difference(travelled(wanted), graph);
    const differences = found.filter(({ kind }) => !kind.endsWith('-extra'));
    return {
      tree,
      ok: differences.length === 0 && logs.every(({ fault }) => fault === null),
      datasets: graph.datasets.size,
      snapshots: graph.snapshotCount,
      unnoticed,
      differences,
      kept: found.filter(({ kind }) => kind.endsWith('-extra')),
      logs,
    };
  }
}

function damaged(tree: TreeName, logs: readonly StreamVerification[]): TreeVerification {
  return { tree, ok: false, datasets: null, snapshots: null, unnoticed: 0, differences: [], kept: [], logs };
}

/** Without snapshots there is nothing to be sent: a dataset that has none is not missing. */
function travelled(wanted: Graph): Graph {
  const datasets = Array.from(wanted.datasets).filter(([, { snapshots }]) => snapshots.length > 0);
  return new Graph(wanted.root, new Map<DatasetId, (typeof datasets)[number][1]>(datasets));
}
