/**
 * One running Pando node: its parts, joined. Adapters come in from outside (`adapters.ts` brings the real ones, tests those in memory), so that this page and the rooms
 * of `wiring/` are the whole story of who knows whom.
 */
import { type AdminState, type ContributionLimits, type MirrorKey, mirrorsOf } from '../core/admin.ts';
import { describeError, PandoError } from '../core/errors.ts';
import { type NodeId, parseTransferId, type TreeName } from '../core/ids.ts';
import { Announcements } from '../features/announce/announcements.ts';
import { Diverged } from '../features/diverged/diverged.ts';
import type { Layers } from '../features/layers/layers.ts';
import { Follower } from '../features/mirrors/follower.ts';
import type { Mirrors } from '../features/mirrors/mirrors.ts';
import type { Observer } from '../features/observe/observer.ts';
import type { Ownership } from '../features/ownership/ownership.ts';
import type { Yielding } from '../features/ownership/yielding.ts';
import type { Invitations } from '../features/peers/invitations.ts';
import type { Limits } from '../features/peers/limits.ts';
import type { Notices } from '../features/peers/notices.ts';
import { losers, type PeerGrants } from '../features/peers/peer-grants.ts';
import type { Peers } from '../features/peers/peers.ts';
import type { Snapshots } from '../features/snapshots/snapshots.ts';
import { CHANGE, Operators } from '../features/trees/operators.ts';
import { Trees } from '../features/trees/trees.ts';
import { Verifier } from '../features/verify/verifier.ts';
import type { History } from '../log/history.ts';
import type { Hub } from '../sync/hub.ts';
import type { LinkRates } from '../transfer/compression/link-rates.ts';
import type { LinkUses } from '../transfer/link-uses.ts';
import { TransferRecovery } from '../transfer/recovery.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { type NodeBase, type NodeOptions, openBase } from './wiring/base.ts';
import { type LayerWiring, wireLayers } from './wiring/layers.ts';
import { Looks } from './wiring/looks.ts';
import { wireOwnership } from './wiring/ownership.ts';
import { Peering } from './wiring/peering.ts';
import { reportSync } from './wiring/reports.ts';
import { Streaming } from './wiring/streaming.ts';

export class PandoNode {
  /** Unix ms. */
  readonly startedAt: number;
  readonly trees: Trees;
  readonly operators: Operators;
  readonly ownership: Ownership;
  readonly diverged: Diverged;
  readonly verifier: Verifier;
  readonly #base: NodeBase;
  readonly #recovery: TransferRecovery;
  readonly #announcements: Announcements;
  readonly #looks: Looks;
  readonly #peering: Peering;
  readonly #streaming: Streaming;
  readonly #yielding: Yielding;
  readonly #layers: LayerWiring;
  readonly #follower: Follower;
  #address = '';
  #followed: Followed;
  #before: AdminState;

  /** Opens the log and joins the parts; nothing runs yet. Rejects with `LOG_CORRUPT` when the node's own settings are damaged. */
  static async open(options: NodeOptions): Promise<PandoNode> {
    return new PandoNode(await openBase(options));
  }

  private constructor(base: NodeBase) {
    const { adapters, admin, history, id, reporter, surroundings, transfers } = base;
    const { zfs } = adapters;
    this.#base = base;
    this.startedAt = surroundings.now();
    this.#followed = followedOf(admin.state);
    this.#before = admin.state;
    const recovery = new TransferRecovery({
      node: id,
      zfs,
      journal: transfers,
      isMirrored: (tree) => mirrorsOf(admin.state, tree).length > 0,
      peerWith: (tree, dataset) => {
        const peers = mirrorsOf(admin.state, tree).map(({ from }) => from);
        const views = history.othersOf(tree);
        return peers.find((peer) => views.get(peer)?.get(dataset) !== undefined) ?? peers[0];
      },
      mintTransferId: () => parseTransferId(base.mintUuid()),
      report: (error) => reporter.warn(error.message, error.evidence),
    });
    const announcements = new Announcements({ history, admin });
    const looks = new Looks(base, {
      recovery,
      mirrors: () => this.mirrors,
      mayRead: (peer, tree) => this.#peering.mayRead(peer, tree),
    });
    const peering = new Peering(base, (peer) => looks.forPeer(peer));
    this.#recovery = recovery;
    this.#announcements = announcements;
    this.#looks = looks;
    this.#peering = peering;
    this.#streaming = new Streaming(base, { peering, looks, recovery, announcements });
    const { mirrors } = this.#streaming;
    this.trees = new Trees({
      history,
      admin,
      zfs,
      announce: (tree, root) => announcements.announce(tree, root),
      retract: (tree) => announcements.retract(tree),
      look: (tree, names, cause) => looks.at(tree, names, cause),
    });
    this.operators = this.#createOperators();
    this.diverged = new Diverged({
      zfs,
      rootOf: (tree) => this.trees.rootOf(tree),
      look: (tree) => looks.at(tree, 'all', 'command'),
      onDropped: (tree) => this.#followAll(tree),
    });
    const { ownership, yielding } = wireOwnership(base, { peering, looks, trees: this.trees, mirrors });
    this.ownership = ownership;
    this.#yielding = yielding;
    this.verifier = this.#createVerifier();
    this.#layers = wireLayers(base, { trees: this.trees, mirrors, looks });
    this.#follower = new Follower({
      history,
      mirrors,
      timers: surroundings.timers,
      onSynced: (tree, result) => reportSync(reporter, tree, result),
    });
  }

  get id(): NodeId {
    return this.#base.id;
  }

  get zfs(): Zfs {
    return this.#base.adapters.zfs;
  }

  get history(): History {
    return this.#base.history;
  }

  get observer(): Observer {
    return this.#looks.observer;
  }

  get hub(): Hub {
    return this.#peering.hub;
  }

  get peers(): Peers {
    return this.#peering.peers;
  }

  get grants(): PeerGrants {
    return this.#peering.grants;
  }

  get limits(): Limits {
    return this.#peering.limits;
  }

  get invitations(): Invitations {
    return this.#peering.invitations;
  }

  get notices(): Notices {
    return this.#peering.notices;
  }

  get mirrors(): Mirrors {
    return this.#streaming.mirrors;
  }

  /** How streams with each peer go. */
  get linkUses(): LinkUses {
    return this.#streaming.uses;
  }

  /** How fast they are, plain and compressed. */
  get linkRates(): LinkRates {
    return this.#streaming.rates;
  }

  get layers(): Layers {
    return this.#layers.layers;
  }

  /** What containerd keeps here. */
  get snapshots(): Snapshots {
    return this.#layers.snapshots;
  }

  /** Where peers reach this node, as `host:port`; empty before {@link start}. */
  get address(): string {
    return this.#address;
  }

  /** Whether streams with this peer go outside TLS, as far as this side is concerned. */
  isTrustedLink(peer: NodeId): boolean {
    return this.#peering.isTrustedLink(peer);
  }

  /**
   * Clears up what a crash left, looks at all trees, then listens and dials. Rejects with `PORT_IN_USE`, or `ZFS_UNAVAILABLE` when there is no
   * ZFS to ask.
   */
  async start(): Promise<void> {
    const { admin, reporter, settings } = this.#base;
    const { dialect, version } = await this.zfs.capabilities();
    reporter.info(`ZFS is ${version}`, { dialect });
    await this.#recover();
    // Before anything is looked at: what a look finds yielded would not be followed
    await this.#yielding.start();
    await this.observer.start();
    admin.onChange((state) => this.#withdraw(state));
    await this.#streaming.start();
    this.#address = await this.hub.start();
    reporter.info(`Node ${this.id} listens on ${this.#address}`);
    if (settings.follow) {
      this.#follower.start();
      // A mirror of a tree that is known already has nothing to wait for.
      admin.onChange((state) => this.#followNew(state));
    }
  }

  /** Drains: cancels transfers and ends their children, releases their holds, says goodbye to peers, closes the log. */
  async stop(): Promise<void> {
    const { sender } = this.#streaming;
    await Promise.all([this.#follower.stop(), this.mirrors.stop(), sender.close(), this.#yielding.stop()]);
    await Promise.all([this.layers.stop(), this.snapshots.stop()]);
    await this.#layers.lookSoon.settle();
    await this.hub.close();
    await this.#streaming.close();
    await this.observer.stop();
    await this.#peering.refusals.close();
    await this.history.close();
    await this.zfs.close();
  }

  async #recover(): Promise<void> {
    const { reporter } = this.#base;
    for (const { intent, error } of await this.#recovery.run()) {
      reporter.warn(`Transfer ${intent.transfer} could not be cleared up: ${describeError(error)}`, { ...intent });
    }
    await this.layers.recover();
    if (this.layers.stores.list().length > 0) {
      await this.snapshots.recover().catch((error: unknown) => {
        reporter.warn(`Snapshots could not be compared with their datasets: ${describeError(error)}`);
      });
    }
    for (const tree of await this.#announcements.complete()) {
      reporter.warn(`The damaged log of tree "${tree}" begins anew with what ZFS shows`, { tree });
    }
  }

  #followAll(tree: TreeName): void {
    if (!this.#base.settings.follow) return;
    for (const mirror of mirrorsOf(this.#base.admin.state, tree)) this.#follower.follow(mirror);
  }

  /** Mirrors that are new, and those of peers that may bring more or less than before. */
  #followNew({ mirrors, contributions }: AdminState): void {
    for (const [key, mirror] of mirrors) {
      const isKnown = this.#followed.has(key) && this.#followed.get(key) === contributions.get(mirror.from);
      if (!isKnown) this.#follower.follow(mirror);
    }
    this.#followed = followedOf({ mirrors, contributions });
  }

  /** What somebody lost the right to ends at once: its session comes back with what is left. */
  #withdraw(state: AdminState): void {
    const before = this.#before;
    this.#before = state;
    for (const peer of before.peers.keys()) if (!state.peers.has(peer)) this.#streaming.forget(peer);
    for (const peer of losers(before.grants, state.grants)) {
      this.#streaming.sender.endUnshared(peer);
      this.mirrors.endUnentitled(peer);
      this.hub.disconnect(peer, new PandoError('CONNECTION_CLOSED', `What ${this.id} lets this node do has changed.`));
    }
  }

  #createOperators(): Operators {
    const { grants, hub, refusals } = this.#peering;
    const operators = new Operators({
      trees: this.trees,
      allows: (peer, tree, action) => grants.allows(peer, tree, action),
      onRefused: (peer, tree) => refusals.note({ peer, action: 'operate', tree }),
      onChanged: (peer, change) => {
        const name = this.#peering.nameOf(peer);
        this.#base.reporter.info(`Peer "${name}" had tree "${change.tree}" changed`, { peer, ...change });
      },
      call: (peer, method, params) => this.#peering.callAnew(peer, method, params),
    });
    hub.handle(CHANGE, (peer, params) => operators.answer(peer, params));
    return operators;
  }

  #createVerifier(): Verifier {
    return new Verifier({
      history: this.history,
      look: async (tree) => (await this.#looks.at(tree, 'all', 'observed')).length,
      mirrorsOf: (tree) => mirrorsOf(this.#base.admin.state, tree),
      catchUp: (mirror) => this.mirrors.hear(mirror, { refresh: true }),
      compare: (tree) => this.mirrors.compare(tree),
    });
  }
}

/** Mirrors that were told to follow, and the limits that people had set for their peers then. */
type Followed = ReadonlyMap<MirrorKey, ContributionLimits | undefined>;

function followedOf({ mirrors, contributions }: Pick<AdminState, 'mirrors' | 'contributions'>): Followed {
  return new Map(Array.from(mirrors, ([key, { from }]) => [key, contributions.get(from)]));
}
