import { keysAgainst, keysOf } from '../../core/codec/key-proof.ts';
import type { NodeId } from '../../core/ids.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import type { Meets, MetNode } from '../../sync/transport.ts';

export interface PeerKeysOptions {
  readonly admin: AdminJournal;
  readonly onRefused: (peer: NodeId) => void;
  /** Told of a peer that has shown a newer key: whoever is connected with one before that is to go. */
  readonly onNewer: (peer: NodeId) => void;
  /** Told why a newer key could not be remembered. */
  readonly onTrouble: (error: unknown) => void;
}

/** The newest key that each peer has shown: whoever comes with one before that has found an old backup, or has stolen it. */
export class PeerKeys {
  readonly #options: PeerKeysOptions;

  constructor(options: PeerKeysOptions) {
    this.#options = options;
  }

  /** Remembers a newer key of a peer. Of a node that is no peer nothing is known, nor kept. */
  readonly meets: Meets = ({ node, keyProof }) => {
    const { peers, keys } = this.#options.admin.state;
    if (!peers.has(node)) return true;
    const shown = keysOf(keyProof);
    const found = keysAgainst(keys.get(node) ?? [], shown);
    if (found === 'others') this.#options.onRefused(node);
    // The first key needs no remembering: the id is its fingerprint
    if (found === 'newer' && shown.length > 1) this.#remember(node, shown).catch(this.#options.onTrouble);
    return found !== 'others';
  };

  /** Whether a key is the newest that is known of a node, or goes on from that. Remembers nothing: nobody has proved to hold it. */
  readonly isCurrent = ({ node, keyProof }: MetNode): boolean => {
    const known = this.#options.admin.state.keys.get(node) ?? [];
    return keysAgainst(known, keysOf(keyProof)) !== 'others';
  };

  async #remember(peer: NodeId, shown: readonly string[]): Promise<void> {
    this.#options.onNewer(peer);
    await this.#options.admin.change(({ peers, keys }) => {
      const isNewer = peers.has(peer) && keysAgainst(keys.get(peer) ?? [], shown) === 'newer';
      return isNewer ? [{ type: 'peer.rekeyed', peer, keys: [...shown] }] : [];
    });
  }
}
