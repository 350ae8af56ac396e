/**
 * Pairs nodes by a line that one person hands to another (`core/invitation.ts`).
 *
 * 1. An invitation is good for one node, until it expires or is withdrawn. The same node may come again with it, since its first answer can have been lost.
 * 2. Whoever comes with a secret that does not hold learns nothing but that: not whether it was ever one.
 * 3. Both ends know each other afterwards, the joining one with what the invitation grants. What the inviting one may do in return only the people at the joining one say.
 */
import { timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { AdminState, Invitation, Peer } from '../../core/admin.ts';
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { AdminEventBody } from '../../core/events.ts';
import type { Grant } from '../../core/grants.ts';
import { type InvitationId, type NodeId, shortNodeId } from '../../core/ids.ts';
import {
  expiryAfter,
  formatInvitation,
  type InvitationLine,
  parseInvitation,
  SECRET_BYTES,
  secretHash,
} from '../../core/invitation.ts';
import type { AdminJournal } from '../../log/admin-journal.ts';
import { parseAddress } from '../../sync/address.ts';
import {
  decodeAnswer,
  decodeJoin,
  encodeJoin,
  encodeRefusal,
  encodeWelcome,
  type JoinRequest,
} from './introduction.ts';
import { checkGrant, givenBeside } from './peer-grants.ts';
import { checkPeerName, isPeerName, type Peers } from './peers.ts';

/** Invitations that wait to be used: people hand them out one by one. */
const OPEN_MAX = 100;
/** The longest that an invitation may live, in ms: who needs longer makes a new one. */
const LIFETIME_MS_MAX = 30 * 86_400_000;
/** What a stranger is told of; anything else is this node's own business. */
const TOLD_CODES = ['ARGUMENT_INVALID', 'INVITATION_INVALID'] as const;
/** Digits of its hash that name an invitation. */
const ID_CHARACTERS = 8;

export interface InvitationsOptions {
  readonly admin: AdminJournal;
  readonly peers: Peers;
  readonly node: NodeId;
  /** Wall clock in Unix ms. */
  readonly now: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
  /** Asks a node that does not know this one yet. Rejects as `Transport.introduce` does, also after some seconds without an answer. */
  readonly introduce: (address: string, node: NodeId, request: Uint8Array) => Promise<Uint8Array>;
  /** Told of whoever came with a secret that does not hold. */
  readonly onRefused: (node: NodeId) => void;
}

export interface InvitationRequest extends Grant {
  /** Where the joining node finds this one, as `host:port`. */
  readonly address: string;
  readonly lifetimeMs: number;
  /** What the peer is to be called here; null for what it calls itself. */
  readonly name: string | null;
}

/** Without its secret, which nobody can be told again. */
export type OpenInvitation = Omit<Invitation, 'secretHash'>;

/** How this node presents itself where it joins. */
export interface JoinOptions {
  /** What to call the inviting node here; null for what its address says. */
  readonly as: string | null;
  /** What this node calls itself. */
  readonly name: string;
  /** Where the inviting node finds this one; null when it cannot be dialled. */
  readonly address: string | null;
  /** Trees that the inviting node may read here, by name or glob. */
  readonly shares: readonly string[];
}

export interface Joined extends Grant {
  readonly peer: Peer;
}

export class Invitations {
  readonly #options: InvitationsOptions;

  constructor(options: InvitationsOptions) {
    this.#options = options;
  }

  /** Those that can still be used. */
  list(): readonly OpenInvitation[] {
    const now = this.#options.now();
    return Array.from(this.#options.admin.state.invitations.values())
      .filter((invitation) => isOpen(invitation, now))
      .map(({ secretHash: _secret, ...invitation }) => invitation);
  }

  /** Makes an invitation and gives its line. Rejects with `ARGUMENT_INVALID` for an address, a glob, a name or a lifetime that cannot be, and when too many are open. */
  async make({ address, lifetimeMs, name, trees, role }: InvitationRequest): Promise<string> {
    parseAddress(address);
    checkGrant({ trees, role });
    if (name !== null) checkPeerName(name);
    if (lifetimeMs <= 0 || lifetimeMs > LIFETIME_MS_MAX) {
      throw new PandoError('ARGUMENT_INVALID', 'An invitation lives for 30 days at most; choose a shorter time.');
    }
    const { admin, node, now, randomBytes } = this.#options;
    const secret = randomBytes(SECRET_BYTES);
    const hash = secretHash(secret);
    const expiresAt = expiryAfter(now(), lifetimeMs);
    const invitation = hash.slice(0, ID_CHARACTERS) as InvitationId;
    await admin.change(({ invitations }) => {
      const open = Array.from(invitations.values()).filter((one) => isOpen(one, now()));
      if (open.length < OPEN_MAX) {
        return [{ type: 'invitation.made', invitation, secretHash: hash, name, expiresAt, trees, role }];
      }
      throw new PandoError(
        'ARGUMENT_INVALID',
        `${OPEN_MAX} invitations are open here already; withdraw some with "pando peer withdraw".`,
      );
    });
    return formatInvitation({ address, node, secret, expiresAt });
  }

  /** Rejects with `INVITATION_UNKNOWN` unless the invitation can still be used. */
  async withdraw(invitation: InvitationId): Promise<void> {
    await this.#options.admin.change(({ invitations }) => {
      const found = invitations.get(invitation);
      if (found !== undefined && isOpen(found, this.#options.now())) {
        return [{ type: 'invitation.withdrawn', invitation }];
      }
      throw new PandoError(
        'INVITATION_UNKNOWN',
        `There is no open invitation "${invitation}"; "pando peer invitations" lists them.`,
        { invitation },
      );
    });
  }

  /**
   * Joins by a line: afterwards both nodes are peers. Rejects with `INVITATION_INVALID` when the line is damaged, has expired or does not hold any more, with `PEER_EXISTS` when
   * another peer is called so, and as a dial does where the other node cannot be reached.
   */
  async join(line: string, { as, name, address, shares }: JoinOptions): Promise<Joined> {
    const { peers, node: self, now, introduce } = this.#options;
    const invitation = parseInvitation(line);
    this.#checkUsable(invitation, self, now());
    const known = peers.get(invitation.node);
    const peer: Peer = {
      peer: invitation.node,
      name: as ?? known?.name ?? nameFrom(invitation),
      address: invitation.address,
      trustedLink: known?.trustedLink ?? false,
    };
    const grants = shares.map((trees): Grant => ({ trees, role: 'reader' }));
    // Before the invitation is used up
    peers.checkAddable(peer);
    for (const grant of grants) checkGrant(grant);
    const request = encodeJoin({ secret: invitation.secret, name, address });
    const granted = decodeAnswer(await introduce(invitation.address, invitation.node, request));
    await peers.add(peer, grants);
    return { peer, ...granted };
  }

  /** Answers a node that is no peer and wants to be one. Never rejects: the answer says why not. */
  async welcome(node: NodeId, request: Uint8Array): Promise<Uint8Array> {
    try {
      return encodeWelcome(await this.#redeem(node, decodeJoin(request)));
    } catch (error) {
      this.#options.onRefused(node);
      return encodeRefusal(isPandoError(error, ...TOLD_CODES) ? error : doesNotHold());
    }
  }

  #checkUsable({ node, expiresAt }: InvitationLine, self: NodeId, now: number): void {
    if (node === self) throw new PandoError('INVITATION_INVALID', 'This node made that invitation; join on the other.');
    if (expiresAt > now) return;
    throw new PandoError(
      'INVITATION_INVALID',
      `That invitation expired at ${new Date(expiresAt).toISOString()}; ask for a new one.`,
      { expiresAt },
    );
  }

  async #redeem(node: NodeId, { secret, name, address }: JoinRequest): Promise<Grant> {
    const { admin, now } = this.#options;
    checkPeerName(name);
    if (address !== null) parseAddress(address);
    const hash = secretHash(secret);
    let granted: Grant | undefined;
    await admin.change((state) => {
      const found = holding(state, hash, node, now());
      if (found === undefined) throw doesNotHold();
      granted = { trees: found.trees, role: found.role };
      return found.usedBy === node ? [] : joining(state, found, { node, name, address });
    });
    return granted as Grant;
  }
}

/** What is logged when a node joins. One that is a peer already keeps its name, the address that people gave it, and a role that is higher. */
function joining(
  { peers, grants }: AdminState,
  { invitation, name: given, trees, role }: Invitation,
  { node, name, address }: { readonly node: NodeId; readonly name: string; readonly address: string | null },
): AdminEventBody[] {
  const known = peers.get(node);
  const taken = new Set(Array.from(peers.values(), (peer) => peer.name));
  const peer = known ?? { peer: node, name: freeName(given ?? name, taken), address, trustedLink: false };
  return [
    { type: 'invitation.used', invitation, peer: node },
    { type: 'peer.added', ...peer, address: peer.address ?? address },
    ...givenBeside(grants, node, { trees, role }),
  ];
}

/** What an address says of the node behind it: the host's own name, or where it is a number the first part of the id. */
function nameFrom({ address, node }: InvitationLine): string {
  const { host } = parseAddress(address);
  const [label = ''] = host.split('.');
  return isIP(host) === 0 && isPeerName(label) ? label : shortNodeId(node).toLowerCase();
}

/** Two laptops that call themselves alike are told apart. */
function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 1; ; number += 1) {
    const free = number === 1 ? name : `${name.slice(0, 60)}-${number}`;
    if (!taken.has(free)) return free;
  }
}

/** The invitation with that secret, if it holds for that node. */
function holding({ invitations, peers }: AdminState, hash: string, node: NodeId, now: number): Invitation | undefined {
  const found = Array.from(invitations.values()).find((one) =>
    timingSafeEqual(Buffer.from(one.secretHash), Buffer.from(hash)),
  );
  if (found === undefined || found.expiresAt <= now) return undefined;
  if (found.usedBy === null) return found;
  // Whoever was sent away since needs a new one
  return found.usedBy === node && peers.has(node) ? found : undefined;
}

function isOpen({ usedBy, expiresAt }: Invitation, now: number): boolean {
  return usedBy === null && expiresAt > now;
}

function doesNotHold(): PandoError {
  return new PandoError(
    'INVITATION_INVALID',
    'That invitation was used, has expired, or was withdrawn; ask for a new one.',
  );
}
