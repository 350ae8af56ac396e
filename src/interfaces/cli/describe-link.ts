import { unreachable } from '../../core/errors.ts';
import type { PeerStatus } from './daemon-client.ts';
import { formatAge } from './format.ts';

/** How a peer is connected, in a few words. */
export function describeLink({ link }: PeerStatus, now: number): string {
  if (link === null) return 'not connected';
  const since = formatAge(link.since, now);
  switch (link.state) {
    case 'connected':
      return `connected ${since}`;
    case 'dialling':
      return 'being dialled';
    case 'waiting':
      return `not connected since ${since}, will be tried again`;
    case 'idle':
      return 'not connected, has to dial us';
    default:
      return unreachable(link.state);
  }
}
