import type { ContributionLimits } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { NodeId } from '../../core/ids.ts';
import { isRate } from '../../core/rate.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import { noSuchPeer } from './peer-grants.ts';

export interface LimitsStatus {
  /** Of all streams together, in bytes a second each way; null for no limit. */
  readonly overall: number | null;
  readonly peers: readonly { readonly peer: NodeId; readonly bytesPerSecond: number }[];
  readonly contributions: readonly (ContributionLimits & { readonly peer: NodeId })[];
}

/** Limits as people set them: how fast streams may be, which running ones follow at once, and how much a peer may bring. */
export class Limits {
  readonly #admin: AdminJournal;

  constructor(admin: AdminJournal) {
    this.#admin = admin;
  }

  list(): LimitsStatus {
    const { bandwidth, contributions } = this.#admin.state;
    return {
      overall: bandwidth.overall,
      peers: Array.from(bandwidth.peers, ([peer, bytesPerSecond]) => ({ peer, bytesPerSecond })),
      contributions: Array.from(contributions, ([peer, limits]) => ({ peer, ...limits })),
    };
  }

  /** What a peer may bring into each tree that it contributes to; null is what the configuration says. Rejects with `PEER_UNKNOWN`. */
  async setContributions(peer: NodeId, { filesystems, snapshots }: ContributionLimits): Promise<void> {
    await this.#admin.change(({ peers, contributions }) => {
      if (!peers.has(peer)) throw noSuchPeer(peer);
      const now = contributions.get(peer) ?? { filesystems: null, snapshots: null };
      if (now.filesystems === filesystems && now.snapshots === snapshots) return [];
      return [{ type: 'contributions.limited', peer, filesystems, snapshots }];
    });
  }

  /** Limits the streams with a peer, or with null all together, to bytes a second each way; null is no limit. Rejects with `ARGUMENT_INVALID` for a rate that cannot be, and `PEER_UNKNOWN`. */
  async set(peer: NodeId | null, bytesPerSecond: number | null): Promise<void> {
    if (bytesPerSecond !== null && !isRate(bytesPerSecond)) {
      throw new PandoError(
        'ARGUMENT_INVALID',
        `${bytesPerSecond} bytes a second cannot be a limit; choose 1 KiB or more.`,
      );
    }
    await this.#admin.change(({ peers, bandwidth }) => {
      if (peer !== null && bytesPerSecond !== null && !peers.has(peer)) throw noSuchPeer(peer);
      const now = peer === null ? bandwidth.overall : (bandwidth.peers.get(peer) ?? null);
      return now === bytesPerSecond ? [] : [{ type: 'bandwidth.limited', peer, bytesPerSecond }];
    });
  }
}
