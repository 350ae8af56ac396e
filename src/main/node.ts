/**
 * One running Pando node: its parts, joined. Adapters come in from outside (`main.ts` brings the real ones, tests those in memory), so
 * that this page is the whole story of who knows whom.
 */
import { type AdminState, type MirrorKey, mirrorKey, mirrorsOf, rootsOf } from '../core/admin.ts';
import type { Signer } from '../core/codec/chain.ts';
import type { SignatureCheck } from '../core/codec/key-proof.ts';
import { describeError, isPandoError, PandoError } from '../core/errors.ts';
import type { Cause } from '../core/events.ts';
import type { ObservedDataset } from '../core/graph/observed.ts';
import {
  type DatasetId,
  type DatasetName,
  type NodeId,
  parseDatasetId,
  parseTransferId,
  type RelativeName,
  type TreeName,
  uuidFrom,
} from '../core/ids.ts';
import { Announcements } from '../features/announce/announcements.ts';
import { Diverged } from '../features/diverged/diverged.ts';
import type { Layers } from '../features/layers/layers.ts';
import { DepartureJournal } from '../features/mirrors/departure-journal.ts';
import { Follower } from '../features/mirrors/follower.ts';
import { ANSWER_MS_MAX, Mirrors } from '../features/mirrors/mirrors.ts';
import { Observer, type WatchedTree } from '../features/observe/observer.ts';
import { Ownership } from '../features/ownership/ownership.ts';
import type { OwnershipParts } from '../features/ownership/parts.ts';
import { TAKE } from '../features/ownership/protocol.ts';
import { Yielding } from '../features/ownership/yielding.ts';
import { Invitations } from '../features/peers/invitations.ts';
import { Limits } from '../features/peers/limits.ts';
import { LIMITED, type Limited, limitedOf, Notices } from '../features/peers/notices.ts';
import { losers, PeerGrants } from '../features/peers/peer-grants.ts';
import { PeerKeys } from '../features/peers/peer-keys.ts';
import { Peers } from '../features/peers/peers.ts';
import { Refusals } from '../features/peers/refusals.ts';
import { SnapshotJournal } from '../features/snapshots/snapshot-journal.ts';
import type { Snapshots } from '../features/snapshots/snapshots.ts';
import { CHANGE, Operators } from '../features/trees/operators.ts';
import { Trees } from '../features/trees/trees.ts';
import { Verifier } from '../features/verify/verifier.ts';
import { AdminJournal } from '../log/admin-journal.ts';
import { History } from '../log/history.ts';
import type { Log } from '../log/log.ts';
import { Hub } from '../sync/hub.ts';
import type { Sealing } from '../sync/sealing/sealing.ts';
import type { Session } from '../sync/session.ts';
import type { Transport } from '../sync/transport.ts';
import { Bandwidth } from '../transfer/bandwidth.ts';
import type { Compressor } from '../transfer/compression/compressor.ts';
import { LinkRates } from '../transfer/compression/link-rates.ts';
import { Cursors } from '../transfer/cursors.ts';
import type { ApartLinks } from '../transfer/data-links.ts';
import { DirectListener } from '../transfer/direct-link.ts';
import { TransferJournal } from '../transfer/journal.ts';
import { TransferQueue } from '../transfer/limits.ts';
import { LinkUses } from '../transfer/link-uses.ts';
import { Puller } from '../transfer/puller.ts';
import { TransferRecovery } from '../transfer/recovery.ts';
import { TransferSender } from '../transfer/sender.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { type LayerWiring, wireLayers } from './layer-wiring.ts';
import type { NodeSettings } from './settings.ts';
import { type Surroundings, systemSurroundings } from './surroundings.ts';

/** What a node is built on. */
export interface NodeAdapters {
  readonly signer: Signer;
  /** How signatures are checked (default: as Ed25519). */
  readonly isSigned?: SignatureCheck;
  readonly compressor: Compressor;
  /** Null where streams are sealed in this process. */
  readonly sealing: Sealing | null;
  readonly log: Log;
  readonly zfs: Zfs;
  readonly transport: Transport;
}

/** Where a node tells what only its operator should know. */
export interface NodeReporter {
  info(message: string, facts?: object): void;
  warn(message: string, facts?: object): void;
}

export interface NodeOptions {
  readonly adapters: NodeAdapters;
  readonly settings: NodeSettings;
  readonly reporter: NodeReporter;
  /** Default: {@link systemSurroundings}. */
  readonly surroundings?: Surroundings;
}

/** What a node keeps of its own business, each in a private stream. */
interface Journals {
  readonly admin: AdminJournal;
  readonly transfers: TransferJournal;
  readonly departures: DepartureJournal;
  readonly snapshots: SnapshotJournal;
}

const RANDOM_BYTES_PER_UUID = 16;

export class PandoNode {
  readonly id: NodeId;
  /** Unix ms. */
  readonly startedAt: number;
  readonly history: History;
  readonly peers: Peers;
  readonly grants: PeerGrants;
  readonly limits: Limits;
  readonly invitations: Invitations;
  readonly notices: Notices;
  readonly trees: Trees;
  readonly operators: Operators;
  readonly mirrors: Mirrors;
  readonly ownership: Ownership;
  readonly diverged: Diverged;
  readonly verifier: Verifier;
  readonly observer: Observer;
  readonly hub: Hub;
  readonly zfs: Zfs;
  /** How streams with each peer go. */
  readonly linkUses = new LinkUses();
  /** How fast they are, plain and compressed. */
  readonly linkRates = new LinkRates();
  readonly #options: NodeOptions;
  readonly #surroundings: Surroundings;
  readonly #admin: AdminJournal;
  readonly #refusals: Refusals;
  readonly #peerKeys: PeerKeys;
  readonly #bandwidth: Bandwidth;
  readonly #sender: TransferSender;
  readonly #yielding: Yielding;
  readonly #follower: Follower;
  readonly #announcements: Announcements;
  readonly #transfers: TransferJournal;
  readonly #departures: DepartureJournal;
  readonly #recovery: TransferRecovery;
  readonly #layers: LayerWiring;
  #direct: DirectListener | null = null;
  #address = '';
  #followed: ReadonlySet<MirrorKey>;
  #before: AdminState;

  /** Opens the log and joins the parts; nothing runs yet. Rejects with `LOG_CORRUPT` when the node's own settings are damaged. */
  static async open(options: NodeOptions): Promise<PandoNode> {
    const { surroundings = systemSurroundings } = options;
    const { log, signer, isSigned } = options.adapters;
    const history = await History.open({ log, signer, now: surroundings.now, ...(isSigned && { isSigned }) });
    for (const { stream, error } of history.faults()) {
      options.reporter.warn(error.message, { stream, ...error.evidence });
    }
    const transfers = await TransferJournal.open(history, (message) => options.reporter.warn(message));
    const departures = await DepartureJournal.open(history, surroundings.timers);
    const snapshots = await SnapshotJournal.open(history, (message) => options.reporter.warn(message));
    const admin = await AdminJournal.open(history);
    return new PandoNode(options, history, { admin, transfers, departures, snapshots });
  }

  private constructor(options: NodeOptions, history: History, { admin, transfers, departures, snapshots }: Journals) {
    const { zfs, signer } = options.adapters;
    this.id = signer.node;
    this.zfs = zfs;
    this.history = history;
    this.#options = options;
    this.#surroundings = options.surroundings ?? systemSurroundings;
    this.startedAt = this.#surroundings.now();
    this.#admin = admin;
    this.#transfers = transfers;
    this.#departures = departures;
    this.#recovery = new TransferRecovery(transfers, zfs, this.id, (tree) => mirrorsOf(admin.state, tree).length > 0);
    this.#followed = new Set(admin.state.mirrors.keys());
    this.#before = admin.state;
    this.#announcements = new Announcements({ history, admin });
    this.peers = new Peers(admin, this.id);
    this.grants = new PeerGrants(admin);
    this.limits = new Limits(admin);
    this.#bandwidth = new Bandwidth(this.#surroundings.timers);
    this.#refusals = new Refusals(admin, () => this.#surroundings.timers.now());
    this.#peerKeys = new PeerKeys({
      admin,
      onRefused: (peer) => this.#refusals.note({ peer, action: 'connect', tree: null }),
      onNewer: (peer) =>
        this.hub.disconnect(peer, new PandoError('CONNECTION_CLOSED', 'That node has shown a newer key.')),
      onTrouble: (error) => this.#report(error),
    });
    this.observer = this.#createObserver();
    this.hub = this.#createHub();
    this.invitations = this.#createInvitations();
    this.notices = this.#createNotices();
    this.trees = new Trees({
      history,
      admin,
      zfs,
      ...this.#announcing(),
      look: (tree, names, cause) => this.#look(tree, names, cause),
    });
    this.operators = this.#createOperators();
    this.diverged = new Diverged({
      zfs,
      rootOf: (tree) => this.trees.rootOf(tree),
      look: (tree) => this.#look(tree, 'all', 'command'),
    });
    this.#sender = this.#createSender();
    this.mirrors = this.#createMirrors();
    this.ownership = this.#createOwnership();
    this.#yielding = this.#createYielding();
    this.verifier = this.#createVerifier();
    this.#layers = this.#createLayers(snapshots);
    this.#follower = new Follower({
      history,
      mirrors: this.mirrors,
      timers: this.#surroundings.timers,
      onSynced: (tree, result) => this.#reportSync(tree, result),
    });
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
    return this.peers.get(peer)?.trustedLink === true;
  }

  /** Nobody could slow a direct one. */
  #isDirect(peer: NodeId): boolean {
    return this.isTrustedLink(peer) && !this.#bandwidth.isLimited(peer);
  }

  /**
   * Clears up what a crash left, looks at all trees, then listens and dials. Rejects with `PORT_IN_USE`, or `ZFS_UNAVAILABLE` when there is no
   * ZFS to ask.
   */
  async start(): Promise<void> {
    const { settings, reporter } = this.#options;
    const { dialect, version } = await this.zfs.capabilities();
    reporter.info(`ZFS is ${version}`, { dialect });
    for (const { intent, error } of await this.#recovery.run()) {
      reporter.warn(`Transfer ${intent.transfer} could not be cleared up: ${describeError(error)}`, { ...intent });
    }
    await this.#recoverLayers();
    for (const tree of await this.#announcements.complete()) {
      reporter.warn(`The damaged log of tree "${tree}" begins anew with what ZFS shows`, { tree });
    }
    // Before anything is looked at: what a look finds yielded would not be followed
    await this.#yielding.start();
    await this.observer.start();
    if (settings.directPort !== null) {
      this.#direct = await DirectListener.listen(settings.listenHost, settings.directPort, (ticket) =>
        this.#sender.acceptDirect(ticket),
      );
    }
    this.#admin.onChange((state) => this.#withdraw(state));
    this.#bandwidth.apply(this.#admin.state.bandwidth);
    this.#admin.onChange(({ bandwidth }) => this.#bandwidth.apply(bandwidth));
    this.#address = await this.hub.start();
    reporter.info(`Node ${this.id} listens on ${this.#address}`);
    if (settings.follow) {
      this.#follower.start();
      // A mirror of a tree that is known already has nothing to wait for.
      this.#admin.onChange(({ mirrors }) => this.#followNew(mirrors));
    }
  }

  /** Drains: cancels transfers and ends their children, releases their holds, says goodbye to peers, closes the log. */
  async stop(): Promise<void> {
    await Promise.all([this.#follower.stop(), this.mirrors.stop(), this.#sender.close(), this.#yielding.stop()]);
    await Promise.all([this.layers.stop(), this.snapshots.stop()]);
    await this.#layers.lookSoon.settle();
    await this.hub.close();
    await this.#direct?.close();
    await this.observer.stop();
    await this.#refusals.close();
    await this.history.close();
  }

  #mintUuid(): string {
    const { now, randomBytes } = this.#surroundings;
    return uuidFrom(now(), randomBytes(RANDOM_BYTES_PER_UUID));
  }

  #followNew(mirrors: AdminState['mirrors']): void {
    for (const [key, mirror] of mirrors) if (!this.#followed.has(key)) this.#follower.follow(mirror);
    this.#followed = new Set(mirrors.keys());
  }

  /** What somebody lost the right to ends at once: its session comes back with what is left. */
  #withdraw(state: AdminState): void {
    const before = this.#before;
    this.#before = state;
    for (const peer of before.peers.keys()) {
      if (state.peers.has(peer)) continue;
      this.#sender.forget(peer);
      this.linkUses.forget(peer);
      this.linkRates.forget(peer);
    }
    for (const peer of losers(before.grants, state.grants)) {
      this.#sender.endUnshared(peer);
      this.mirrors.endUnentitled(peer);
      this.hub.disconnect(peer, new PandoError('CONNECTION_CLOSED', `What ${this.id} lets this node do has changed.`));
    }
  }

  #mayRead(peer: NodeId, tree: TreeName): boolean {
    return this.grants.allows(peer, tree, 'read');
  }

  #announcing() {
    return {
      announce: (tree: TreeName, root: DatasetName) => this.#announcements.announce(tree, root),
      retract: (tree: TreeName) => this.#announcements.retract(tree),
    };
  }

  #watched(): WatchedTree[] {
    const { trees } = this.#admin.state;
    return Array.from(rootsOf(this.#admin.state), ([tree, root]) => ({
      tree,
      root,
      // What a mirror brought belongs to whom its peer says; what appeared beside it belongs to this node.
      ownerOf: (id: DatasetId, seen: ObservedDataset) =>
        this.mirrors.sources.ownerOf(tree, id, seen) ?? { node: this.id, epoch: 1 },
      saidOwnerOf: (id: DatasetId) => this.mirrors.sources.saidOwnerOf(tree, id),
      claims: () => this.mirrors.sources.claims(tree),
      atOwner: (id: DatasetId) => this.mirrors.sources.atOwner(tree, id),
      heard: () => this.mirrors.sources.heard(tree),
      mayBeAbsent: !trees.has(tree),
    }));
  }

  #watch(tree: TreeName): WatchedTree {
    const watched = this.#watched().find((one) => one.tree === tree);
    if (watched !== undefined) return watched;
    throw new PandoError('TREE_UNKNOWN', `This node keeps no tree "${tree}"; "pando tree ls" lists those it keeps.`, {
      tree,
    });
  }

  async #look(tree: TreeName, names: readonly RelativeName[] | 'all', cause: Cause) {
    const watched = this.#watch(tree);
    return names === 'all' ? this.observer.look(watched, cause) : this.observer.lookAt(watched, names, cause);
  }

  /**
   * Looks at what the peer may read, and rejects with the first failure once all of it was looked at. Of trees that it may not read the peer learns
   * nothing, not even that they are in trouble, nor can it have this node look at them.
   */
  async #refreshFor(peer: NodeId): Promise<void> {
    const failures: unknown[] = [];
    for (const watched of this.#watched().filter(({ tree }) => this.#mayRead(peer, tree))) {
      await this.observer.look(watched).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  #createObserver(): Observer {
    const { settings, reporter } = this.#options;
    return new Observer({
      history: this.history,
      zfs: this.zfs,
      trees: () => this.#watched(),
      isReceiving: (tree) => this.mirrors.isReceiving(tree),
      clearUp: (tree) => this.#recovery.prepareLook(tree),
      onFirstListing: (listing) => this.#recovery.releaseStray(listing),
      ownHolds: (snapshot) => this.#transfers.holdsOn(snapshot),
      mintDatasetId: () => parseDatasetId(this.#mintUuid()),
      timers: this.#surroundings.timers,
      now: this.#surroundings.now,
      intervalMs: settings.observeEveryMs,
      onTrouble: (tree, error) => {
        if (error === null) reporter.info(`Tree "${tree}" can be looked at again`, { tree });
        else reporter.warn(`Tree "${tree}" cannot be looked at: ${error.message}`, { tree, ...error.evidence });
      },
    });
  }

  #createHub(): Hub {
    const { adapters, settings } = this.#options;
    return new Hub({
      history: this.history,
      transport: adapters.transport,
      directory: {
        peers: () => this.peers.list().map(({ peer, address }) => ({ node: peer, address })),
        isKnown: (node) => this.peers.get(node) !== undefined,
        meets: this.#peerKeys.meets,
        refused: (node) => this.#refusals.note({ peer: node, action: 'connect', tree: null }),
        shares: (node, tree) => this.#mayRead(node, tree),
        onChange: (listener) => this.#admin.onChange(listener),
      },
      software: settings.version,
      capabilities: [],
      refresh: (peer) => this.#refreshFor(peer),
      timers: this.#surroundings.timers,
      now: this.#surroundings.now,
      random: this.#surroundings.random,
      report: (error) => this.#report(error),
    });
  }

  /** What it cannot be told now, it is told at the next sync. */
  #tellLimited(peer: NodeId, limited: Limited): void {
    this.hub
      .session(peer)
      ?.call(LIMITED, limited)
      .catch(() => undefined);
  }

  #createNotices(): Notices {
    const { reporter } = this.#options;
    const notices = new Notices({
      isMirrored: (tree, from) => this.#admin.state.mirrors.has(mirrorKey({ tree, from })),
      now: () => this.#surroundings.timers.now(),
      warn: (peer, { tree, text }) => {
        reporter.warn(`Peer "${this.peers.get(peer)?.name ?? peer}" ${text}`, { peer, tree });
      },
    });
    this.hub.onDisconnected((peer) => notices.forget(peer));
    this.hub.handle(LIMITED, async (peer, params) => notices.take(peer, params));
    return notices;
  }

  #createOperators(): Operators {
    const operators = new Operators({
      trees: this.trees,
      allows: (peer, tree, action) => this.grants.allows(peer, tree, action),
      onRefused: (peer, tree) => this.#refusals.note({ peer, action: 'operate', tree }),
      onChanged: (peer, change) => {
        const { name = peer } = this.peers.get(peer) ?? {};
        this.#options.reporter.info(`Peer "${name}" had tree "${change.tree}" changed`, { peer, ...change });
      },
      call: async (peer, method, params) => (await this.hub.reach(peer)).call(method, params),
    });
    this.hub.handle(CHANGE, (peer, params) => operators.answer(peer, params));
    return operators;
  }

  #createInvitations(): Invitations {
    const invitations = new Invitations({
      admin: this.#admin,
      peers: this.peers,
      node: this.id,
      now: this.#surroundings.now,
      randomBytes: this.#surroundings.randomBytes,
      introduce: (address, node, question) => this.hub.introduce(address, node, question),
      onRefused: (node) => this.#refusals.note({ peer: node, action: 'join', tree: null }),
    });
    this.hub.onIntroduction((node, question) => invitations.welcome(node, question));
    return invitations;
  }

  #calls() {
    return {
      call: async (peer: NodeId, method: string, params: unknown, signal: AbortSignal) =>
        this.#session(peer).call(method, params, { signal }),
      handle: this.hub.handle.bind(this.hub),
      onDisconnected: this.hub.onDisconnected.bind(this.hub),
    };
  }

  #session(peer: NodeId): Session {
    const session = this.hub.session(peer);
    if (session !== undefined) return session;
    throw new PandoError('CONNECTION_CLOSED', `The connection to peer ${peer} is lost; sync again once it is back.`, {
      peer,
    });
  }

  #apart(): ApartLinks | null {
    const { sealing } = this.#options.adapters;
    return sealing === null
      ? null
      : { sealing, openBare: this.hub.openBare.bind(this.hub), meets: this.#peerKeys.meets };
  }

  #createSender(): TransferSender {
    const sender = new TransferSender({
      cursors: new Cursors({
        history: this.history,
        zfs: this.zfs,
        look: (tree, names) => this.#look(tree, names, 'command'),
      }),
      history: this.history,
      zfs: this.zfs,
      journal: this.#transfers,
      recovery: this.#recovery,
      calls: this.#calls(),
      shares: (peer, tree) => this.#mayRead(peer, tree),
      onRefused: (peer, tree) => this.#refusals.note({ peer, action: 'read', tree }),
      bandwidth: this.#bandwidth,
      apart: this.#apart(),
      compressor: this.#options.adapters.compressor,
      uses: this.linkUses,
      isTrustedLink: (peer) => this.#isDirect(peer),
      timers: this.#surroundings.timers,
      randomBytes: this.#surroundings.randomBytes,
      directPort: () => this.#direct?.port ?? null,
    });
    this.hub.onDataConnection((peer, ticket) => sender.acceptSealed(peer, ticket));
    this.hub.onBareConnection((ticket) => sender.acceptBare(ticket));
    return sender;
  }

  #createMirrors(): Mirrors {
    const puller = new Puller({
      node: this.id,
      zfs: this.zfs,
      journal: this.#transfers,
      recovery: this.#recovery,
      calls: this.#calls(),
      links: {
        apart: this.#apart(),
        compressor: this.#options.adapters.compressor,
        uses: this.linkUses,
        openData: (peer, ticket, signal) => this.hub.openData(peer, ticket, signal),
        addressOf: (peer) => this.#addressOf(peer),
        limits: (peer) => this.#bandwidth.limits(peer, 'in'),
      },
      rates: this.linkRates,
      queue: new TransferQueue(this.#options.settings.transfers),
      mintTransferId: () => parseTransferId(this.#mintUuid()),
      timers: this.#surroundings.timers,
    });
    return new Mirrors({
      history: this.history,
      admin: this.#admin,
      departures: this.#departures,
      zfs: this.zfs,
      allowance: this.#options.settings.contributions,
      onLimited: ({ tree, from }, names) => this.#tellLimited(from, limitedOf(tree, names)),
      onRefused: (peer, tree) => this.#refusals.note({ peer, action: 'contribute', tree }),
      ...this.#announcing(),
      catchUp: (peer, options) => this.hub.sync(peer, options),
      timers: this.#surroundings.timers,
      answerMsMax: ANSWER_MS_MAX,
      pull: (request) => puller.pull(request),
      interrupted: (request, source) => puller.interrupted(request, source),
      linkMode: (peer) => (this.#isDirect(peer) ? 'direct' : 'sealed'),
      look: (tree, names) => this.#look(tree, names ?? 'all', 'observed'),
      settle: (tree, ...shown) => this.observer.settle(this.#watch(tree), ...shown),
    });
  }

  #ownershipParts(): OwnershipParts {
    return {
      history: this.history,
      admin: this.#admin,
      zfs: this.zfs,
      timers: this.#surroundings.timers,
      graph: (tree) => this.trees.graph(tree),
      claims: (tree) => this.mirrors.sources.claims(tree),
      allows: (peer, tree, action) => this.grants.allows(peer, tree, action),
    };
  }

  #createOwnership(): Ownership {
    const ownership = new Ownership({
      ...this.#ownershipParts(),
      onRefused: (peer, tree) => this.#refusals.note({ peer, action: 'take', tree }),
      call: async (peer, method, params, signal) => (await this.hub.reach(peer)).call(method, params, { signal }),
      alone: (tree, task, cancel) => this.mirrors.alone(tree, task, cancel),
      hear: (mirror) => this.mirrors.hear(mirror, { refresh: true }),
      unsynced: ({ tree, from }) => new Set(this.mirrors.plan(tree, from).steps.map(({ dataset }) => dataset)),
      look: (tree, names) => this.#look(tree, names, 'command'),
    });
    this.hub.handle(TAKE, (peer, params) => ownership.answer(peer, params));
    return ownership;
  }

  #createYielding(): Yielding {
    const { reporter } = this.#options;
    return new Yielding({
      ...this.#ownershipParts(),
      follow: (mirror) => this.mirrors.adopt(mirror),
      // As if somebody had done it behind this node's back: mirrors are followed for that
      look: (tree, names) => this.#look(tree, names, 'observed'),
      onYielded: (peer, tree, datasets) => {
        const { name = peer } = this.peers.get(peer) ?? {};
        reporter.warn(`Peer "${name}" took over ${datasets} datasets of tree "${tree}"; they are replicas here now`, {
          peer,
          tree,
          datasets,
        });
      },
      onTrouble: (tree, error) => {
        reporter.warn(`What a peer took over of tree "${tree}" cannot be yielded yet: ${error.message}`, {
          tree,
          ...error.evidence,
        });
      },
    });
  }

  #addressOf(peer: NodeId): string {
    const address = this.peers.get(peer)?.address;
    if (address != null) return address;
    throw new PandoError(
      'PEER_UNREACHABLE',
      `Peer ${peer} has no address here, and streams are fetched from there; give it one with "pando peer add … --address HOST:PORT".`,
      { peer },
    );
  }

  #createLayers(snapshots: SnapshotJournal): LayerWiring {
    const { adapters, settings, reporter } = this.#options;
    return wireLayers({
      history: this.history,
      admin: this.#admin,
      journal: this.#transfers,
      zfs: this.zfs,
      compressor: adapters.compressor,
      scratch: settings.scratchDirectory,
      rootOf: (tree) => this.trees.rootOf(tree),
      graph: (tree) => this.trees.graph(tree),
      others: (tree) => this.history.othersOf(tree),
      isReceiving: (tree) => this.mirrors.isReceiving(tree),
      fetch: (tree, name, signal) => this.mirrors.fetch(tree, name, signal),
      look: (tree, names) => this.#look(tree, names, 'command'),
      mintDatasetId: () => parseDatasetId(this.#mintUuid()),
      mintTransferId: () => parseTransferId(this.#mintUuid()),
      mintUuid: () => this.#mintUuid(),
      warn: (message, facts) => reporter.warn(message, facts),
      snapshots,
      snapshotterTree: settings.snapshotterTree,
      timers: this.#surroundings.timers,
    });
  }

  async #recoverLayers(): Promise<void> {
    await this.layers.recover();
    if (this.layers.stores.list().length === 0) return;
    await this.snapshots.recover().catch((error: unknown) => {
      this.#options.reporter.warn(`Snapshots could not be compared with their datasets: ${describeError(error)}`);
    });
  }

  #createVerifier(): Verifier {
    return new Verifier({
      history: this.history,
      look: async (tree) => (await this.observer.look(this.#watch(tree))).length,
      mirrorsOf: (tree) => mirrorsOf(this.#admin.state, tree),
      catchUp: (mirror) => this.mirrors.hear(mirror, { refresh: true }),
      compare: (tree) => this.mirrors.compare(tree),
    });
  }

  /** Tells of what went wrong with a peer; of what nobody foresaw also where, since its message alone says little. */
  #report(error: unknown): void {
    const { reporter } = this.#options;
    if (isPandoError(error)) reporter.warn(error.message, { code: error.code, ...error.evidence });
    else
      reporter.warn(describeError(error), {
        code: 'INTERNAL',
        stack: error instanceof Error ? error.stack : undefined,
      });
  }

  #reportSync(tree: TreeName, result: Parameters<ConstructorParameters<typeof Follower>[0]['onSynced']>[1]): void {
    const { reporter } = this.#options;
    if (result instanceof PandoError) {
      // As often as the peer tells anything; the refusals count it
      if (result.code === 'GRANT_MISSING') return;
      reporter.warn(`Mirror "${tree}" was not brought up to date: ${result.message}`, { tree, code: result.code });
      return;
    }
    const failures = result.steps.filter(({ outcome }) => outcome.result === 'failed').length;
    if (result.steps.length === 0 && result.plan.conflicts.length === 0) return;
    reporter.info(`Mirror "${tree}" synced`, {
      tree,
      steps: result.steps.length,
      failures,
      conflicts: result.plan.conflicts.length,
      bytes: result.bytes,
    });
  }
}
