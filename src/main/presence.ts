import { hostname } from 'node:os';
import { isPeerName } from '../features/peers/peers.ts';
import type { NodePresence } from '../interfaces/http/services.ts';
import { formatAddress, parseAddress } from '../sync/address.ts';
import type { Config } from './config.ts';

/** Hosts that stand for every address of a machine, and for none by which others could find it. */
const ANY_HOST: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
/** What a node calls itself whose host has no name that could be a peer's. */
const NAMELESS = 'node';

/** How a node presents itself that listens at this address. */
export function presenceOf({ publicAddress }: Pick<Config, 'publicAddress'>, listening: string): NodePresence {
  const host = hostname();
  const [label = ''] = host.split('.');
  const { host: bound, port } = parseAddress(listening);
  const found = ANY_HOST.has(bound) ? formatAddress({ host, port }) : listening;
  return { name: isPeerName(label) ? label : NAMELESS, address: publicAddress ?? found, publicAddress };
}
