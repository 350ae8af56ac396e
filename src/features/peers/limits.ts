import type { BandwidthLimits } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { NodeId } from '../../core/ids.ts';
import { isRate } from '../../core/rate.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';

/** How fast streams may be, as people set it; running ones follow at once. */
export class Limits {
  readonly #admin: AdminJournal;

  constructor(admin: AdminJournal) {
    this.#admin = admin;
  }

  get(): BandwidthLimits {
    return this.#admin.state.bandwidth;
  }

  /** Limits the streams with a peer, or with null all together, to bytes a second each way; null is no limit. Rejects with `ARGUMENT_INVALID` for a rate that cannot be. */
  async set(peer: NodeId | null, bytesPerSecond: number | null): Promise<void> {
    if (bytesPerSecond !== null && !isRate(bytesPerSecond)) {
      throw new PandoError(
        'ARGUMENT_INVALID',
        `${bytesPerSecond} bytes a second cannot be a limit; choose 1 KiB or more.`,
      );
    }
    await this.#admin.change(({ bandwidth }) => {
      const now = peer === null ? bandwidth.overall : (bandwidth.peers.get(peer) ?? null);
      return now === bytesPerSecond ? [] : [{ type: 'bandwidth.limited', peer, bytesPerSecond }];
    });
  }
}
