import { PandoError } from '../core/errors.ts';

/** Where a peer listens. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Highest TCP port (RFC 9293 §3.1). */
export const PORT_MAX = 65_535;

/** Reads `host:port` or `[ipv6]:port`. Throws `ARGUMENT_INVALID`. */
export function parseAddress(text: string): Address {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/[\]]+)):([0-9]{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port < 1 || port > PORT_MAX) {
    throw new PandoError(
      'ARGUMENT_INVALID',
      `${JSON.stringify(text.slice(0, 300))} is not an address; write HOST:PORT, or [IPV6]:PORT.`,
    );
  }
  return { host, port };
}

/** The text that {@link parseAddress} reads. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
