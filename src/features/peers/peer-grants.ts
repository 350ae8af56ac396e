import { PandoError } from '../../core/errors.ts';
import { GLOBS_MAX } from '../../core/events.ts';
import { type Action, type Grant, type Grants, isAllowed, ROLES } from '../../core/grants.ts';
import type { NodeId, TreeName } from '../../core/ids.ts';
import type { GrantGiven } from '../../core/trust-events.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';

/** What can match the name of a tree: its characters, and those of globs. */
const TREES_PATTERN = /^[A-Za-z0-9_.:*?[\]{},!^-]{1,256}$/;

/** A glob with many stars takes for ever on a name that almost matches; nobody needs more. */
const STARS_MAX = 3;

export interface PeerGrant extends Grant {
  readonly peer: NodeId;
}

/** Throws `ARGUMENT_INVALID` for a glob that no tree's name could match. */
export function checkGrant({ trees }: Grant): void {
  const stars = trees.length - trees.replaceAll('*', '').length;
  if (TREES_PATTERN.test(trees) && stars <= STARS_MAX) return;
  throw new PandoError(
    'ARGUMENT_INVALID',
    `"${trees}" is neither the name of a tree nor a glob of names with at most ${STARS_MAX} stars; write images, or "images-*".`,
    { trees },
  );
}

/** What each peer may do here, given and taken away by people. */
export class PeerGrants {
  readonly #admin: AdminJournal;

  constructor(admin: AdminJournal) {
    this.#admin = admin;
  }

  list(): readonly PeerGrant[] {
    return Array.from(this.#admin.state.grants, ([peer, given]) =>
      Array.from(given, ([trees, role]) => ({ peer, trees, role })),
    ).flat();
  }

  allows(peer: NodeId, tree: TreeName, action: Action): boolean {
    return isAllowed(this.#admin.state.grants, peer, tree, action);
  }

  /** Takes the place of what the peer was granted for the same glob. Rejects with `PEER_UNKNOWN`, and `ARGUMENT_INVALID` for a glob that matches nothing. */
  async give(peer: NodeId, grant: Grant): Promise<void> {
    checkGrant(grant);
    await this.#admin.change(({ peers, grants }) => {
      if (!peers.has(peer)) throw noSuchPeer(peer);
      const given = grants.get(peer);
      if (given !== undefined && given.size >= GLOBS_MAX && !given.has(grant.trees)) {
        throw new PandoError('ARGUMENT_INVALID', `A peer has at most ${GLOBS_MAX} grants; give one with a glob.`);
      }
      return given?.get(grant.trees) === grant.role ? [] : [{ type: 'grant.given', peer, ...grant }];
    });
  }

  /** Its live sessions and transfers end. Rejects with `GRANT_UNKNOWN` unless the peer was granted something for this very glob. */
  async revoke(peer: NodeId, trees: string): Promise<void> {
    await this.#admin.change(({ grants }) => {
      if (grants.get(peer)?.has(trees) === true) return [{ type: 'grant.revoked', peer, trees }];
      throw new PandoError(
        'GRANT_UNKNOWN',
        `That peer was granted nothing for "${trees}" here; "pando grant ls" lists what it was.`,
        { peer, trees },
      );
    });
  }
}

/** For what is given to a peer by its id: it may have gone while that waited for its turn. */
export function noSuchPeer(peer: NodeId): PandoError {
  return new PandoError('PEER_UNKNOWN', `There is no peer ${peer} here; add it first with "pando peer add".`);
}

/** The grant as an event, unless the peer has as much for that glob already. */
export function givenBeside(grants: Grants, peer: NodeId, { trees, role }: Grant): GrantGiven[] {
  const had = grants.get(peer)?.get(trees);
  const isMore = had === undefined || ROLES.indexOf(role) > ROLES.indexOf(had);
  return isMore ? [{ type: 'grant.given', peer, trees, role }] : [];
}

/** Peers that may do less than before somewhere. */
export function losers(before: Grants, now: Grants): NodeId[] {
  return Array.from(before).flatMap(([peer, given]) => {
    const isLess = ([trees, role]: readonly [string, Grant['role']]): boolean => {
      const still = now.get(peer)?.get(trees);
      return still === undefined || ROLES.indexOf(still) < ROLES.indexOf(role);
    };
    return Array.from(given).some(isLess) ? [peer] : [];
  });
}
