import type { Mirror } from '../../core/admin.ts';
import { describeError, PandoError } from '../../core/errors.ts';
import type { TreeName } from '../../core/ids.ts';
import type { DaemonServices } from './services.ts';

function known(error: unknown): PandoError {
  return error instanceof PandoError ? error : new PandoError('INTERNAL', describeError(error));
}

async function zfsOf({ zfsCapabilities }: DaemonServices) {
  try {
    return { capabilities: await zfsCapabilities(), error: null };
  } catch (error) {
    return { capabilities: null, error: known(error) };
  }
}

/** How far a mirror is behind what its peer has said, or why that cannot be told. */
function behindOf({ mirrors }: DaemonServices, { tree, from }: Mirror) {
  try {
    const { steps, estimatedBytes, conflicts, waiting } = mirrors.plan(tree, from);
    return { behind: { steps: steps.length, bytes: estimatedBytes, conflicts, waiting }, error: null };
  } catch (error) {
    return { behind: null, error: known(error) };
  }
}

/** How many copies of what diverged wait for a decision; null where ZFS cannot be asked. */
async function divergedOf({ diverged }: DaemonServices, tree: TreeName): Promise<number | null> {
  return diverged.list(tree).then(
    ({ length }) => length,
    () => null,
  );
}

/** All peers, each with what it may do here, and the tie to it. */
export function peersOf({ peers, grants, notices, links, linkUses }: DaemonServices) {
  const ties = new Map(links().map((link) => [link.node, link]));
  const given = grants.list();
  return peers.list().map((peer) => ({
    ...peer,
    grants: given.filter((grant) => grant.peer === peer.peer).map(({ trees, role }) => ({ trees, role })),
    notices: notices.of(peer.peer),
    link: ties.get(peer.peer) ?? null,
    streams: linkUses.of(peer.peer),
  }));
}

/** What `pando status` tells. */
export async function statusOf(services: DaemonServices) {
  const { node, version, startedAt, dataDirectory, address, trees, mirrors, observer, history } = services;
  return {
    node,
    version,
    startedAt,
    dataDirectory,
    address,
    zfs: await zfsOf(services),
    trees: trees.list().map((tree) => {
      const { lookedAt, error } = observer.condition(tree.tree);
      return { ...tree, lookedAt, error: tree.error ?? error };
    }),
    peers: peersOf(services),
    mirrors: await Promise.all(
      mirrors.list().map(async (mirror) => ({
        ...mirror,
        receiving: mirrors.isReceiving(mirror.tree),
        diverged: await divergedOf(services, mirror.tree),
        ...behindOf(services, mirror),
      })),
    ),
    faults: history.faults(),
  };
}

export type Status = Awaited<ReturnType<typeof statusOf>>;
