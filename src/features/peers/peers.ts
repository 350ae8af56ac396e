import type { Peer } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import { isPrivateTree, type NodeId, shortNodeId, type TreeName } from '../../core/ids.ts';
import { sharesTree } from '../../core/plan/filter.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import { parseAddress } from '../../sync/address.ts';

/** What people call a peer: letters, digits and `_ . -`, so that it can stand on a command line. */
const PEER_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** The nodes that this one knows, and what each of them may read. */
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

  /** Whether the peer was given the tree; private streams of this node never are. */
  shares(node: NodeId, tree: TreeName): boolean {
    const peer = this.get(node);
    return peer !== undefined && !isPrivateTree(tree) && sharesTree(peer.shares, tree);
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

  /**
   * Adds a peer, or changes what is kept of one that is known. Throws `ARGUMENT_INVALID` for a name or address that cannot be, `PEER_EXISTS`
   * when another peer has the name.
   */
  async add(peer: Peer): Promise<void> {
    if (!PEER_NAME_PATTERN.test(peer.name)) {
      throw new PandoError(
        'ARGUMENT_INVALID',
        `"${peer.name}" cannot be the name of a peer; use up to 64 letters, digits, "_", "." or "-".`,
      );
    }
    if (peer.peer === this.#self) {
      throw new PandoError('ARGUMENT_INVALID', 'That is the id of this node itself; take the one of the other node.');
    }
    if (peer.address !== null) parseAddress(peer.address);
    await this.#admin.change((state) => {
      const other = Array.from(state.peers.values()).find(({ name }) => name === peer.name);
      if (other !== undefined && other.peer !== peer.peer) {
        throw new PandoError(
          'PEER_EXISTS',
          `Another peer, ${shortNodeId(other.peer)}…, is called "${peer.name}" already; choose another name or remove it first.`,
          { name: peer.name, peer: other.peer },
        );
      }
      return [{ type: 'peer.added', ...peer }];
    });
  }

  /** Forgets a peer; its sessions end. Throws `MIRROR_EXISTS` while a mirror follows it. */
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
