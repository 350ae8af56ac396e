import { type NodeId, parseTreeName, type TreeName } from '../../core/ids.ts';
import { checked, mirrorQuerySchema } from './requests.ts';
import type { DaemonServices } from './services.ts';

/** The mirror that a path and its query name. Throws `NAME_INVALID`, `ARGUMENT_INVALID`, `PEER_UNKNOWN`. */
export function namedMirror({ peers }: DaemonServices, tree: string, query: unknown): [TreeName, NodeId | undefined] {
  const { from } = checked(mirrorQuerySchema, query);
  return [parseTreeName(tree), from === undefined ? undefined : peers.resolve(from).peer];
}
