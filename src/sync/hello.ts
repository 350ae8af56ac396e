import { PandoError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { type Hello, PROTOCOL_RANGE, type ProtocolRange } from './messages.ts';

function inWords({ min, max }: ProtocolRange): string {
  return min === max ? `version ${min}` : `versions ${min} to ${max}`;
}

/** Throws `PROTOCOL_VERSION` when a peer and this node have no protocol version in common. */
export function checkProtocol(theirs: Hello, ours: { readonly node: NodeId; readonly software: string }): void {
  const { protocol, node, software } = theirs;
  if (protocol.max >= PROTOCOL_RANGE.min && protocol.min <= PROTOCOL_RANGE.max) return;
  throw new PandoError(
    'PROTOCOL_VERSION',
    `Node ${node} (Pando ${software}) speaks protocol ${inWords(protocol)}, node ${ours.node} (Pando ${ours.software}) ` +
      `${inWords(PROTOCOL_RANGE)}; update the older of the two.`,
    { theirs: protocol, ours: PROTOCOL_RANGE },
  );
}
