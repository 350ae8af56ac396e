/** Streams in both directions: what peers are sent, what mirrors pull, and how fast. */
import { type NodeId, parseTransferId } from '../../core/ids.ts';
import type { Announcements } from '../../features/announce/announcements.ts';
import { ANSWER_MS_MAX } from '../../features/mirrors/mirror-syncs.ts';
import { Mirrors } from '../../features/mirrors/mirrors.ts';
import { limitedOf } from '../../features/peers/notices.ts';
import { Bandwidth } from '../../transfer/bandwidth.ts';
import { LinkRates } from '../../transfer/compression/link-rates.ts';
import { Cursors } from '../../transfer/cursors.ts';
import { DirectListener } from '../../transfer/direct-link.ts';
import { TransferQueue } from '../../transfer/limits.ts';
import { LinkUses } from '../../transfer/link-uses.ts';
import { Puller } from '../../transfer/puller.ts';
import type { TransferRecovery } from '../../transfer/recovery.ts';
import { TransferSender } from '../../transfer/sender.ts';
import type { NodeBase } from './base.ts';
import type { Looks } from './looks.ts';
import type { Peering } from './peering.ts';

interface StreamingOptions {
  readonly peering: Peering;
  readonly looks: Looks;
  readonly recovery: TransferRecovery;
  readonly announcements: Announcements;
}

export class Streaming {
  readonly sender: TransferSender;
  readonly mirrors: Mirrors;
  /** How streams with each peer go. */
  readonly uses = new LinkUses();
  /** How fast they are, plain and compressed. */
  readonly rates = new LinkRates();
  readonly #base: NodeBase;
  readonly #options: StreamingOptions;
  readonly #bandwidth: Bandwidth;
  #direct: DirectListener | null = null;

  constructor(base: NodeBase, options: StreamingOptions) {
    this.#base = base;
    this.#options = options;
    this.#bandwidth = new Bandwidth(base.surroundings.timers);
    this.sender = this.#createSender();
    this.mirrors = this.#createMirrors(this.#createPuller());
  }

  /** Takes data connections outside TLS where that was asked for, and goes by the limits as they are set. Rejects with `PORT_IN_USE`. */
  async start(): Promise<void> {
    const { admin, settings } = this.#base;
    if (settings.directPort !== null) {
      this.#direct = await DirectListener.listen(settings.listenHost, settings.directPort, (ticket) =>
        this.sender.acceptDirect(ticket),
      );
    }
    this.#bandwidth.apply(admin.state.bandwidth);
    admin.onChange(({ bandwidth }) => this.#bandwidth.apply(bandwidth));
  }

  /** Takes no connections any more. */
  async close(): Promise<void> {
    await this.#direct?.close();
  }

  /** Forgets what reminds of a peer that is none any more. */
  forget(peer: NodeId): void {
    this.sender.forget(peer);
    this.uses.forget(peer);
    this.rates.forget(peer);
  }

  /** Nobody could slow a direct one. */
  #isDirect(peer: NodeId): boolean {
    return this.#options.peering.isTrustedLink(peer) && !this.#bandwidth.isLimited(peer);
  }

  #createSender(): TransferSender {
    const { adapters, history, transfers, surroundings } = this.#base;
    const { peering, looks, recovery } = this.#options;
    const { zfs, compressor } = adapters;
    const sender = new TransferSender({
      cursors: new Cursors({ history, zfs, look: (tree, names) => looks.at(tree, names, 'command') }),
      history,
      zfs,
      journal: transfers,
      recovery,
      calls: peering.calls(),
      shares: (peer, tree) => peering.mayRead(peer, tree),
      onRefused: (peer, tree) => peering.refusals.note({ peer, action: 'read', tree }),
      bandwidth: this.#bandwidth,
      apart: peering.apart(),
      compressor,
      uses: this.uses,
      isTrustedLink: (peer) => this.#isDirect(peer),
      timers: surroundings.timers,
      randomBytes: surroundings.randomBytes,
      directPort: () => this.#direct?.port ?? null,
    });
    peering.hub.onDataConnection((peer, ticket) => sender.acceptSealed(peer, ticket));
    peering.hub.onBareConnection((ticket) => sender.acceptBare(ticket));
    return sender;
  }

  #createPuller(): Puller {
    const { adapters, id, mintUuid, settings, surroundings, transfers } = this.#base;
    const { peering, recovery } = this.#options;
    return new Puller({
      node: id,
      zfs: adapters.zfs,
      journal: transfers,
      recovery,
      calls: peering.calls(),
      links: {
        apart: peering.apart(),
        compressor: adapters.compressor,
        uses: this.uses,
        openData: (peer, ticket, signal) => peering.hub.openData(peer, ticket, signal),
        addressOf: (peer) => peering.addressOf(peer),
        limits: (peer) => this.#bandwidth.limits(peer, 'in'),
      },
      rates: this.rates,
      queue: new TransferQueue(settings.transfers),
      mintTransferId: () => parseTransferId(mintUuid()),
      timers: surroundings.timers,
    });
  }

  #createMirrors(puller: Puller): Mirrors {
    const { adapters, admin, departures, history, settings, surroundings } = this.#base;
    const { announcements, looks, peering } = this.#options;
    return new Mirrors({
      history,
      admin,
      departures,
      zfs: adapters.zfs,
      allowance: settings.contributions,
      onLimited: ({ tree, from }, names) => peering.tellLimited(from, limitedOf(tree, names)),
      onRefused: (peer, tree) => peering.refusals.note({ peer, action: 'contribute', tree }),
      announce: (tree, root) => announcements.announce(tree, root),
      retract: (tree) => announcements.retract(tree),
      catchUp: (peer, options) => peering.hub.sync(peer, options),
      timers: surroundings.timers,
      answerMsMax: ANSWER_MS_MAX,
      pull: (request) => puller.pull(request),
      interrupted: (request, source) => puller.interrupted(request, source),
      linkMode: (peer) => (this.#isDirect(peer) ? 'direct' : 'sealed'),
      look: (tree, names) => looks.at(tree, names ?? 'all', 'observed'),
      settle: (tree, ...shown) => looks.observer.settle(looks.watched(tree), ...shown),
    });
  }
}
