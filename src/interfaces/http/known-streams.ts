import { PandoError } from '../../core/errors.ts';
import {
  ADMIN_TREE,
  parseTreeName,
  type StreamId,
  splitStreamId,
  streamIdOf,
  TRANSFER_TREE,
  type TreeName,
} from '../../core/ids.ts';
import type { History } from '../../log/history.ts';
import type { DaemonServices } from './services.ts';

/** The stream of a tree as this node tells it, or as the peer of that name or NodeId does. Throws `NAME_INVALID`, `PEER_UNKNOWN`. */
export function streamOf({ history, peers, node }: DaemonServices, tree: TreeName, who: string | undefined): StreamId {
  if (who === undefined || who.toUpperCase() === node) return history.ownStream(tree);
  return streamIdOf(peers.resolve(who).peer, tree);
}

/** Which log: a tree's, of this node or of a peer, or one about this node itself. */
export interface LogChoice {
  readonly tree?: string | undefined;
  readonly node?: string | undefined;
  /** The journal of transfers instead of the settings. */
  readonly transfers: boolean;
}

/** The stream of which a log is asked for; without a tree the one about this node itself. Throws `ARGUMENT_INVALID`. */
export function logStreamOf(services: DaemonServices, { tree, node: who, transfers }: LogChoice): StreamId {
  if (transfers) {
    if (tree === undefined && who === undefined) return services.history.ownStream(TRANSFER_TREE);
    throw new PandoError('ARGUMENT_INVALID', 'Transfers are logged for all trees of this node together; name none.');
  }
  if (tree !== undefined) return streamOf(services, parseTreeName(tree), who);
  if (who === undefined) return services.history.ownStream(ADMIN_TREE);
  throw new PandoError('ARGUMENT_INVALID', 'What a node logs about itself stays with it; name a tree of that peer.');
}

/** Throws `TREE_UNKNOWN` when nothing is known of the stream of a tree. `who` is how the peer was named, if one was. */
export function requireStream({ history }: DaemonServices, stream: StreamId, who: string | undefined): void {
  if (history.head(stream) !== null) return;
  const { tree } = splitStreamId(stream);
  throw new PandoError(
    'TREE_UNKNOWN',
    who === undefined
      ? `This node keeps no tree "${tree}"; "pando tree ls" lists those it keeps.`
      : `"${who}" has told nothing of a tree "${tree}" yet; it must share it with this node and have been connected once.`,
    { tree, stream },
  );
}

/** Resolves once something is known of a stream, or the signal is aborted. */
export function begun(history: History, stream: StreamId, signal: AbortSignal): Promise<void> {
  if (history.head(stream) !== null || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      stop();
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const stop = history.onChange(({ head }) => {
      if (head.stream === stream) finish();
    });
    signal.addEventListener('abort', finish, { once: true });
  });
}
