/** Peers: who they are, what each may do, and what is said with them. */
import { mirrorKey } from '../../core/admin.ts';
import { PandoError } from '../../core/errors.ts';
import type { NodeId, TreeName } from '../../core/ids.ts';
import { countsHere, isHandedOn } from '../../core/relays.ts';
import { Invitations } from '../../features/peers/invitations.ts';
import { Limits } from '../../features/peers/limits.ts';
import { LIMITED, type Limited, Notices } from '../../features/peers/notices.ts';
import { PeerGrants } from '../../features/peers/peer-grants.ts';
import { PeerKeys } from '../../features/peers/peer-keys.ts';
import { Peers } from '../../features/peers/peers.ts';
import { Refusals } from '../../features/peers/refusals.ts';
import { Hub } from '../../sync/hub.ts';
import type { Session } from '../../sync/session.ts';
import type { ApartLinks } from '../../transfer/data-links.ts';
import type { NodeBase } from './base.ts';
import { reportFailure } from './reports.ts';

export class Peering {
  readonly peers: Peers;
  readonly grants: PeerGrants;
  readonly limits: Limits;
  readonly refusals: Refusals;
  readonly hub: Hub;
  readonly invitations: Invitations;
  readonly notices: Notices;
  readonly #base: NodeBase;
  readonly #keys: PeerKeys;

  /** `refresh` looks at what a peer may read, before it is told of that. */
  constructor(base: NodeBase, refresh: (peer: NodeId) => Promise<void>) {
    const { admin, id, surroundings } = base;
    this.#base = base;
    this.peers = new Peers(admin, id);
    this.grants = new PeerGrants(admin);
    this.limits = new Limits(admin);
    this.refusals = new Refusals(admin, () => surroundings.timers.now());
    this.#keys = this.#createKeys();
    this.hub = this.#createHub(refresh);
    this.invitations = this.#createInvitations();
    this.notices = this.#createNotices();
  }

  mayRead(peer: NodeId, tree: TreeName): boolean {
    return this.grants.allows(peer, tree, 'read');
  }

  /** Whether streams with this peer go outside TLS, as far as this side is concerned. */
  isTrustedLink(peer: NodeId): boolean {
    return this.peers.get(peer)?.trustedLink === true;
  }

  /** How a peer is called here. */
  nameOf(peer: NodeId): string {
    return this.peers.get(peer)?.name ?? peer;
  }

  /** Where streams are fetched from. Throws `PEER_UNREACHABLE` for a peer that only calls this node. */
  addressOf(peer: NodeId): string {
    const address = this.peers.get(peer)?.address;
    if (address != null) return address;
    throw new PandoError(
      'PEER_UNREACHABLE',
      `Peer ${peer} has no address here, and streams are fetched from there; give it one with "pando peer add … --address HOST:PORT".`,
      { peer },
    );
  }

  /** Calls of what cannot outlive the session that it is a part of. */
  calls() {
    return {
      call: async (peer: NodeId, method: string, params: unknown, signal: AbortSignal) =>
        this.#session(peer).call(method, params, { signal }),
      handle: this.hub.handle.bind(this.hub),
      onDisconnected: this.hub.onDisconnected.bind(this.hub),
    };
  }

  /** A call of what has its own beginning: the peer is dialled where it is not connected. */
  async callAnew(peer: NodeId, method: string, params: unknown, signal?: AbortSignal): Promise<unknown> {
    return (await this.hub.reach(peer)).call(method, params, ...(signal === undefined ? [] : [{ signal }]));
  }

  /** What it cannot be told now, it is told at the next sync. */
  tellLimited(peer: NodeId, limited: Limited): void {
    this.hub
      .session(peer)
      ?.call(LIMITED, limited)
      .catch(() => undefined);
  }

  /** Streams that processes of their own seal; null where there are none. */
  apart(): ApartLinks | null {
    const { sealing } = this.#base.adapters;
    return sealing === null ? null : { sealing, openBare: this.hub.openBare.bind(this.hub), meets: this.#keys.meets };
  }

  #session(peer: NodeId): Session {
    const session = this.hub.session(peer);
    if (session !== undefined) return session;
    throw new PandoError('CONNECTION_CLOSED', `The connection to peer ${peer} is lost; sync again once it is back.`, {
      peer,
    });
  }

  #createKeys(): PeerKeys {
    return new PeerKeys({
      admin: this.#base.admin,
      onRefused: (peer) => this.refusals.note({ peer, action: 'connect', tree: null }),
      onNewer: (peer) =>
        this.hub.disconnect(peer, new PandoError('CONNECTION_CLOSED', 'That node has shown a newer key.')),
      onTrouble: (error) => reportFailure(this.#base.reporter, error),
    });
  }

  #createHub(refresh: (peer: NodeId) => Promise<void>): Hub {
    const { adapters, admin, history, reporter, settings, surroundings } = this.#base;
    return new Hub({
      history,
      transport: adapters.transport,
      directory: {
        peers: () => this.peers.list().map(({ peer, address }) => ({ node: peer, address })),
        isKnown: (node) => this.peers.get(node) !== undefined,
        meets: this.#keys.meets,
        isCurrentKey: this.#keys.isCurrent,
        refused: (node) => this.refusals.note({ peer: node, action: 'connect', tree: null }),
        shares: (node, tree) => this.mayRead(node, tree),
        handsOn: (node, author, tree) => isHandedOn(admin.state, node, author, tree),
        hears: (author, tree) => countsHere(admin.state, author, tree),
        onChange: (listener) => admin.onChange(listener),
      },
      software: settings.version,
      capabilities: [],
      refresh,
      timers: surroundings.timers,
      now: surroundings.now,
      random: surroundings.random,
      report: (error) => reportFailure(reporter, error),
    });
  }

  #createInvitations(): Invitations {
    const { admin, id, surroundings } = this.#base;
    const invitations = new Invitations({
      admin,
      peers: this.peers,
      node: id,
      now: surroundings.now,
      randomBytes: surroundings.randomBytes,
      introduce: (address, node, question) => this.hub.introduce(address, node, question),
      onRefused: (node) => this.refusals.note({ peer: node, action: 'join', tree: null }),
    });
    this.hub.onIntroduction((node, question) => invitations.welcome(node, question));
    return invitations;
  }

  #createNotices(): Notices {
    const { admin, reporter, surroundings } = this.#base;
    const notices = new Notices({
      isMirrored: (tree, from) => admin.state.mirrors.has(mirrorKey({ tree, from })),
      now: () => surroundings.timers.now(),
      warn: (peer, { tree, text }) => reporter.warn(`Peer "${this.nameOf(peer)}" ${text}`, { peer, tree }),
    });
    this.hub.onDisconnected((peer) => notices.forget(peer));
    this.hub.handle(LIMITED, async (peer, params) => notices.take(peer, params));
    return notices;
  }
}
