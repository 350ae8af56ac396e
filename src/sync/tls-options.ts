import type { Identity } from './identity.ts';

/** Time from the first packet to a connection that carries frames, in ms: many round trips even across the world. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Options for both sides. `rejectUnauthorized` is off because no authority vouches for these certificates: TLS still proves
 * that the other side holds the key (RFC 8446 §4.4.3), and {@link remoteOf} tells whose key it is.
 */
export function tlsOptions(identity: Pick<Identity, 'privateKeyPem' | 'certificatePem'>) {
  return {
    key: identity.privateKeyPem,
    cert: identity.certificatePem,
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: false,
  } as const;
}
