import { isPandoError, PandoError } from '../../core/errors.ts';
import { type Action, noTreeFor } from '../../core/grants.ts';
import type { NodeId, TreeName } from '../../core/ids.ts';
import { checked } from '../../transfer/protocol.ts';
import { applyChange, type TreeChange, treeChangeSchema } from './tree-changes.ts';
import type { Trees } from './trees.ts';

/** The method by which a peer has this node change a tree. */
export const CHANGE = 'tree.change';

export interface OperatorsOptions {
  readonly trees: Trees;
  readonly allows: (peer: NodeId, tree: TreeName, action: Action) => boolean;
  readonly onRefused: (peer: NodeId, tree: TreeName) => void;
  /** Told of each change that a peer has had made. */
  readonly onChanged: (peer: NodeId, change: TreeChange) => void;
  readonly call: (peer: NodeId, method: string, params: unknown) => Promise<unknown>;
}

/** Changes of trees that people at one node have another one make, where they were granted to be its operators. */
export class Operators {
  readonly #options: OperatorsOptions;

  constructor(options: OperatorsOptions) {
    this.#options = options;
  }

  /** Does what a peer asks for. Rejects with `TREE_UNKNOWN` for a tree that it may not read, `GRANT_MISSING` for one that it may not change, and as the change does. */
  async answer(peer: NodeId, params: unknown): Promise<null> {
    const { trees, allows, onRefused, onChanged } = this.#options;
    const change = checked(treeChangeSchema, params, CHANGE);
    const { tree } = change;
    if (!allows(peer, tree, 'operate')) {
      onRefused(peer, tree);
      throw allows(peer, tree, 'read') ? notOperator(tree) : noTreeFor(tree);
    }
    await applyChange(trees, change, 'peer');
    onChanged(peer, change);
    return null;
  }

  /** Has a peer do it. Rejects with what keeps it from being asked, and what it answers. */
  async ask({ peer, name }: { readonly peer: NodeId; readonly name: string }, change: TreeChange): Promise<void> {
    try {
      await this.#options.call(peer, CHANGE, change);
    } catch (error) {
      if (!isPandoError(error)) throw error;
      throw new PandoError(error.code, `On "${name}": ${error.message}`, error.evidence, { cause: error });
    }
  }
}

function notOperator(tree: TreeName): PandoError {
  return new PandoError(
    'GRANT_MISSING',
    `You are no operator of tree "${tree}" here; have somebody there grant it with "pando grant add … ${tree} --role operator".`,
    { tree },
  );
}
