/** Which peers have received a layer, as it says itself where the ZFS has no bookmarks: a peer that only reads does not tell what it keeps. */
import type { Properties } from '../events.ts';
import type { NodeId } from '../ids.ts';
import { PROPERTY_BYTES_MAX } from './layer-names.ts';

export const RECEIVERS_PROPERTY = 'pando:received-by';
/** Stands for more peers than there is room for: of those none is forgotten. */
const MANY = '*';

/** Whether any peer has received it that is not forgotten. */
export function isReceived(properties: Properties): boolean {
  return properties[RECEIVERS_PROPERTY] !== undefined;
}

/** What it says once a peer has received it; undefined where it says so already. */
export function withReceiver(properties: Properties, peer: NodeId): string | undefined {
  const told = receiversOf(properties);
  if (told.includes(peer) || told.includes(MANY)) return undefined;
  const text = [...told, peer].join(',');
  return text.length > PROPERTY_BYTES_MAX ? MANY : text;
}

/** What it says once a peer is none any more, null for nothing; undefined where it says the same. */
export function withoutReceiver(properties: Properties, peer: NodeId): string | null | undefined {
  const told = receiversOf(properties);
  if (!told.includes(peer)) return undefined;
  return told.filter((each) => each !== peer).join(',') || null;
}

function receiversOf(properties: Properties): string[] {
  return properties[RECEIVERS_PROPERTY]?.split(',') ?? [];
}
