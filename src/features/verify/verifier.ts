/** `pando verify`: what the log says, what ZFS says and what the peer says, held against each other. */
import type { Mirror } from '../../core/admin.ts';
import type { Difference } from '../../core/graph/difference.ts';
import { streamIdOf, type TreeName } from '../../core/ids.ts';
import type { History } from '../../log/history.ts';
import type { StreamVerification } from '../../log/log.ts';

export interface VerifierOptions {
  readonly history: History;
  /** Lets the observer look at the tree; gives the number of events that the log had missed. */
  readonly look: (tree: TreeName) => Promise<number>;
  /** The mirrors of the tree; none for one that only this node writes to. */
  readonly mirrorsOf: (tree: TreeName) => readonly Mirror[];
  /** Has what is known of a mirror's peer be as new as the peer can tell. */
  readonly catchUp: (mirror: Mirror) => Promise<unknown>;
  /** In what this node's copy differs from what its mirrors want. */
  readonly compare: (tree: TreeName) => readonly Difference[];
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
    const mirrors = this.#options.mirrorsOf(tree);
    for (const mirror of mirrors) {
      await this.#options.catchUp(mirror);
      logs.push(...(await history.verify(streamIdOf(mirror.from, tree))));
    }
    const graph = history.graph(history.ownStream(tree));
    const found = mirrors.length === 0 ? [] : this.#options.compare(tree);
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
