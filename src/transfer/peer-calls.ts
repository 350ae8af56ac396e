import type { NodeId } from '../core/ids.ts';
import type { CallHandler } from '../sync/calls.ts';

/** What transfers need of the control connections: the hub has it. */
export interface PeerCalls {
  /** Rejects with the peer's own PandoError, `CONNECTION_CLOSED`, or `PEER_UNREACHABLE`. */
  call(peer: NodeId, method: string, params: unknown, signal: AbortSignal): Promise<unknown>;
  handle(method: string, handler: CallHandler): void;
  /** Tells when the control connection to a peer is lost. Returns how to stop listening. */
  onDisconnected(listener: (peer: NodeId) => void): () => void;
}
