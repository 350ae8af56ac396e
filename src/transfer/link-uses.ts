import type { NodeId } from '../core/ids.ts';
import type { LinkMode } from './protocol.ts';

/** How the newest stream with a peer went. */
export interface LinkUse {
  readonly mode: LinkMode;
  readonly compressed: boolean;
  /** Whether processes of their own seal it. */
  readonly apart: boolean;
}

/** How streams with each peer go, for people. */
export class LinkUses {
  readonly #uses = new Map<NodeId, LinkUse>();

  note(peer: NodeId, use: LinkUse): void {
    this.#uses.set(peer, use);
  }

  /** Null where there was no stream yet. */
  of(peer: NodeId): LinkUse | null {
    return this.#uses.get(peer) ?? null;
  }

  forget(peer: NodeId): void {
    this.#uses.delete(peer);
  }
}
