/** Taking over what others own, and yielding what others took over. */
import type { Mirrors } from '../../features/mirrors/mirrors.ts';
import { Ownership } from '../../features/ownership/ownership.ts';
import type { OwnershipParts } from '../../features/ownership/parts.ts';
import { TAKE } from '../../features/ownership/protocol.ts';
import { Yielding } from '../../features/ownership/yielding.ts';
import type { Trees } from '../../features/trees/trees.ts';
import type { NodeBase } from './base.ts';
import type { Looks } from './looks.ts';
import type { Peering } from './peering.ts';

interface OwnershipOptions {
  readonly peering: Peering;
  readonly looks: Looks;
  readonly trees: Trees;
  readonly mirrors: Mirrors;
}

export function wireOwnership(
  base: NodeBase,
  options: OwnershipOptions,
): { readonly ownership: Ownership; readonly yielding: Yielding } {
  const { adapters, admin, history, surroundings } = base;
  const { peering, trees, mirrors } = options;
  const parts: OwnershipParts = {
    history,
    admin,
    zfs: adapters.zfs,
    timers: surroundings.timers,
    graph: (tree) => trees.graph(tree),
    claims: (tree) => mirrors.sources.claims(tree),
    taking: new Set(),
    allows: (peer, tree, action) => peering.grants.allows(peer, tree, action),
  };
  const yielding = createYielding(base, parts, options);
  return { ownership: createOwnership(parts, options, yielding), yielding };
}

function createOwnership(
  parts: OwnershipParts,
  { peering, looks, mirrors }: OwnershipOptions,
  yielding: Yielding,
): Ownership {
  const ownership = new Ownership({
    ...parts,
    onRefused: (peer, tree) => peering.refusals.note({ peer, action: 'take', tree }),
    call: (peer, method, params, signal) => peering.callAnew(peer, method, params, signal),
    alone: (tree, task, cancel) => mirrors.alone(tree, task, cancel),
    hear: (mirror) => mirrors.hear(mirror, { refresh: true }),
    unsynced: ({ tree, from }) => new Set(mirrors.plan(tree, from).steps.map(({ dataset }) => dataset)),
    look: (tree, names) => looks.at(tree, names, 'command'),
    unobserved: (tree, task) => looks.observer.unobserved(tree, task),
    onTaken: (tree) => void yielding.yield(tree),
  });
  peering.hub.handle(TAKE, (peer, params) => ownership.answer(peer, params));
  return ownership;
}

function createYielding(
  { reporter }: NodeBase,
  parts: OwnershipParts,
  { peering, looks, mirrors }: OwnershipOptions,
): Yielding {
  return new Yielding({
    ...parts,
    follow: (mirror) => mirrors.adopt(mirror),
    // As if somebody had done it behind this node's back: mirrors are followed for that
    look: (tree, names) => looks.at(tree, names, 'observed'),
    onYielded: (peer, tree, datasets) => {
      const name = peering.nameOf(peer);
      reporter.warn(`Peer "${name}" took over ${datasets} datasets of tree "${tree}"; they are replicas here now`, {
        peer,
        tree,
        datasets,
      });
    },
    onTrouble: (tree, error) => {
      reporter.warn(`What a peer took over of tree "${tree}" cannot be yielded yet: ${error.message}`, {
        tree,
        ...error.evidence,
      });
    },
  });
}
