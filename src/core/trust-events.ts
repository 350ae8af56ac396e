/** Facts about whom this node trusts with what, in its admin stream: what `pando audit` shows. */
import { z } from 'zod';
import { KEY_CHANGES_MAX } from './codec/key-proof.ts';
import { count, glob, invitationId, nodeId, peerName, treeName } from './event-fields.ts';
import { ACTIONS, type Grant, ROLES } from './grants.ts';
import type { InvitationId, NodeId, TreeName } from './ids.ts';

/** What can be refused: an action in a tree, a connection of a stranger, or an introduction without an invitation that holds. */
export const REFUSED_ACTIONS = [...ACTIONS, 'connect', 'join'] as const;
export type RefusedAction = (typeof REFUSED_ACTIONS)[number];

/** A peer may do in these trees what the role allows. Takes the place of what it was granted for the same glob. */
export interface GrantGiven extends Grant {
  readonly type: 'grant.given';
  readonly peer: NodeId;
}
export interface GrantRevoked {
  readonly type: 'grant.revoked';
  readonly peer: NodeId;
  readonly trees: string;
}
/** Whoever brings the secret becomes a peer with that grant, once. */
export interface InvitationMade extends Grant {
  readonly type: 'invitation.made';
  readonly invitation: InvitationId;
  /** See `secretHash`. */
  readonly secretHash: string;
  /** What the peer is to be called here; null for what it calls itself. */
  readonly name: string | null;
  /** Unix ms. */
  readonly expiresAt: number;
}
export interface InvitationUsed {
  readonly type: 'invitation.used';
  readonly invitation: InvitationId;
  readonly peer: NodeId;
}
export interface InvitationWithdrawn {
  readonly type: 'invitation.withdrawn';
  readonly invitation: InvitationId;
}
/** Something that a node asked for and may not have. */
export interface AccessRefused {
  readonly type: 'access.refused';
  /** Null where several strangers are told of together. */
  readonly peer: NodeId | null;
  readonly action: RefusedAction;
  readonly tree: TreeName | null;
  /** How often, since it was last told of. */
  readonly times: number;
}

/** A peer has shown a newer key; it is known by these from now on, and by none before the last. */
export interface PeerRekeyed {
  readonly type: 'peer.rekeyed';
  readonly peer: NodeId;
  /** From its first to its newest, each as lower-case hexadecimal. */
  readonly keys: readonly string[];
}

export type TrustEventBody =
  | GrantGiven
  | GrantRevoked
  | InvitationMade
  | InvitationUsed
  | InvitationWithdrawn
  | AccessRefused
  | PeerRekeyed;

const grantFields = { trees: glob, role: z.enum(ROLES) };

export const trustEventSchemas = {
  'grant.given': z.object({ type: z.literal('grant.given'), peer: nodeId, ...grantFields }),
  'grant.revoked': z.object({ type: z.literal('grant.revoked'), peer: nodeId, trees: glob }),
  'invitation.made': z.object({
    type: z.literal('invitation.made'),
    invitation: invitationId,
    secretHash: z.string().regex(/^[0-9a-f]{64}$/),
    name: peerName.nullable(),
    expiresAt: count,
    ...grantFields,
  }),
  'invitation.used': z.object({ type: z.literal('invitation.used'), invitation: invitationId, peer: nodeId }),
  'invitation.withdrawn': z.object({ type: z.literal('invitation.withdrawn'), invitation: invitationId }),
  'access.refused': z.object({
    type: z.literal('access.refused'),
    peer: nodeId.nullable(),
    action: z.enum(REFUSED_ACTIONS),
    tree: treeName.nullable(),
    times: count,
  }),
  'peer.rekeyed': z.object({
    type: z.literal('peer.rekeyed'),
    peer: nodeId,
    keys: z
      .array(z.string().regex(/^[0-9a-f]{64}$/))
      .min(2)
      .max(KEY_CHANGES_MAX + 1),
  }),
} satisfies Readonly<Record<TrustEventBody['type'], z.ZodType>>;

/** Whether an event says something about trust, the coming and going of peers included. */
export function isAboutTrust({ type }: { readonly type: string }): boolean {
  return Object.hasOwn(trustEventSchemas, type) || type === 'peer.added' || type === 'peer.removed';
}
