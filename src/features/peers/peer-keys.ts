import { keysAgainst, keysOf } from '../../core/codec/key-proof.ts';
import type { NodeId } from '../../core/ids.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { Meets } from '../../sync/transport.ts';

/** The newest key that each peer has shown: whoever comes with one before that has found an old backup, or has stolen it. */
export class PeerKeys {
  readonly #admin: AdminJournal;
  readonly #onRefused: (peer: NodeId) => void;

  constructor(admin: AdminJournal, onRefused: (peer: NodeId) => void) {
    this.#admin = admin;
    this.#onRefused = onRefused;
  }

  /** Remembers a newer key of a peer. Of a node that is no peer nothing is known, nor kept. */
  readonly meets: Meets = ({ node, keyProof }) => {
    const { peers, keys } = this.#admin.state;
    if (!peers.has(node)) return true;
    const shown = keysOf(keyProof);
    const found = keysAgainst(keys.get(node) ?? [], shown);
    if (found === 'others') this.#onRefused(node);
    // The first key needs no remembering: the id is its fingerprint
    if (found === 'newer' && shown.length > 1) void this.#remember(node, shown);
    return found !== 'others';
  };

  async #remember(peer: NodeId, shown: readonly string[]): Promise<void> {
    await this.#admin.change(({ peers, keys }) => {
      const isNewer = peers.has(peer) && keysAgainst(keys.get(peer) ?? [], shown) === 'newer';
      return isNewer ? [{ type: 'peer.rekeyed', peer, keys: [...shown] }] : [];
    });
  }
}
