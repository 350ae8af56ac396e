import type { Peer } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { PeerAdded } from '../../core/events.ts';
import type { Grant } from '../../core/grants.ts';
import { type NodeId, shortNodeId } from '../../core/ids.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import { parseAddress } from '../../sync/address.ts';
import { checkGrant, givenBeside } from './peer-grants.ts';

/** What people call a peer: letters, digits and `_ . -`, so that it can stand on a command line. */
const PEER_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

export function isPeerName(text: string): boolean {
  return PEER_NAME_PATTERN.test(text);
}

/** Throws `ARGUMENT_INVALID` for what cannot be the name of a peer. */
export function checkPeerName(name: string): void {
  if (isPeerName(name)) return;
  throw new PandoError(
    'ARGUMENT_INVALID',
    `"${name}" cannot be the name of a peer; use up to 64 letters, digits, "_", "." or "-".`,
  );
}

/** The nodes that this one knows. */
export class Peers {
  readonly #admin: AdminJournal;
  readonly #self: NodeId;

  constructor(admin: AdminJournal, self: NodeId) {
    this.#admin = admin;
    this.#self = self;
  }

  list(): readonly Peer[] {
    return [...this.#admin.state.peers.values()];
  }

  get(node: NodeId): Peer | undefined {
    return this.#admin.state.peers.get(node);
  }

  /** Finds a peer by its name or NodeId. Throws `PEER_UNKNOWN`. */
  resolve(text: string): Peer {
    const wanted = text.toUpperCase();
    const found = this.list().find(({ name, peer }) => name === text || peer === wanted);
    if (found !== undefined) return found;
    throw new PandoError('PEER_UNKNOWN', `There is no peer "${text}" here; "pando peer ls" lists those there are.`, {
      peer: text,
    });
  }

  /** Throws as {@link add} rejects. */
  checkAddable(peer: Peer): void {
    checkPeerName(peer.name);
    if (peer.peer === this.#self) {
      throw new PandoError('ARGUMENT_INVALID', 'That is the id of this node itself; take the one of the other node.');
    }
    if (peer.address !== null) parseAddress(peer.address);
    const other = this.list().find(({ name }) => name === peer.name);
    if (other === undefined || other.peer === peer.peer) return;
    throw new PandoError(
      'PEER_EXISTS',
      `Another peer, ${shortNodeId(other.peer)}…, is called "${peer.name}" already; choose another name or remove it first.`,
      { name: peer.name, peer: other.peer },
    );
  }

  /**
   * Adds a peer with these grants, or changes what is kept of one that is known; what that was granted before stays, and no role becomes a lesser one. Rejects with `ARGUMENT_INVALID` for a name or address that
   * cannot be, `PEER_EXISTS` when another peer has the name.
   */
  async add(peer: Peer, grants: readonly Grant[] = []): Promise<void> {
    for (const grant of grants) checkGrant(grant);
    await this.#admin.change((state) => {
      this.checkAddable(peer);
      const added: PeerAdded = { type: 'peer.added', ...peer };
      return [added, ...grants.flatMap((grant) => givenBeside(state.grants, peer.peer, grant))];
    });
  }

  /** Forgets a peer and what it was granted; its sessions end. Throws `MIRROR_EXISTS` while a mirror follows it. */
  async remove(node: NodeId): Promise<void> {
    await this.#admin.change((state) => {
      const mirror = Array.from(state.mirrors.values()).find(({ from }) => from === node);
      if (mirror !== undefined) {
        throw new PandoError(
          'MIRROR_EXISTS',
          `The mirror of "${mirror.tree}" follows that peer; remove it first with "pando mirror rm ${mirror.tree}".`,
          { tree: mirror.tree, peer: node },
        );
      }
      return [{ type: 'peer.removed', peer: node }];
    });
  }
}
