/** TLS between nodes: both sides show a certificate, and only the Ed25519 key in it says who they are. */
import type { KeyObject } from 'node:crypto';
import { connect, type TLSSocket } from 'node:tls';
import { nodeIdOfPublicKey } from '../core/codec/chain.ts';
import { describeError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { parseAddress } from './address.ts';
import { type Identity, rawPublicKey } from './identity.ts';
import { dialFailure } from './transport.ts';

/** Time from the first packet to a connection that carries frames, in ms: many round trips even across the world. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Options for both sides. `rejectUnauthorized` is off because no authority vouches for these certificates: TLS still proves
 * that the other side holds the key (RFC 8446 §4.4.3), and {@link nodeOf} tells whose key it is.
 */
export function tlsOptions(identity: Identity) {
  return {
    key: identity.privateKeyPem,
    cert: identity.certificatePem,
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: false,
  } as const;
}

function publicKeyOf(socket: TLSSocket): KeyObject | undefined {
  try {
    return socket.getPeerX509Certificate()?.publicKey;
  } catch {
    // OpenSSL read the certificate but not the key in it; then it cannot be a node's.
    return undefined;
  }
}

/** The node at the other end, or null when it showed no certificate, or one without an Ed25519 key. */
export function nodeOf(socket: TLSSocket): NodeId | null {
  const key = publicKeyOf(socket);
  return key?.asymmetricKeyType === 'ed25519' ? nodeIdOfPublicKey(rawPublicKey(key)) : null;
}

/** In words; a host with several addresses fails with one error for each of them and none of its own. */
function causeOf(error: Error): string {
  return describeError(error instanceof AggregateError ? error.errors[0] : error);
}

/**
 * A TLS connection to `peer`, who has proved to be it; nothing but the handshake was sent.
 * Rejects as `Transport.dial` does.
 */
export function connectTls(identity: Identity, text: string, peer: NodeId, signal: AbortSignal): Promise<TLSSocket> {
  const address = parseAddress(text);
  return new Promise((resolve, reject) => {
    const socket = connect({ ...tlsOptions(identity), host: address.host, port: address.port });
    const finish = (error?: Error): void => {
      socket.removeAllListeners('secureConnect').removeAllListeners('error').removeAllListeners('close');
      signal.removeEventListener('abort', abort);
      // A socket that was given up may still report errors; nobody is interested any more.
      socket.on('error', () => undefined);
      if (error === undefined) {
        resolve(socket);
      } else {
        socket.destroy();
        reject(error);
      }
    };
    const abort = (): void => finish(dialFailure.givenUp(peer, text, signal));
    socket.once('secureConnect', () => {
      const found = nodeOf(socket);
      finish(found === peer ? undefined : dialFailure.someoneElse(peer, text, found));
    });
    socket.once('error', (error) => finish(dialFailure.unreachable(peer, text, causeOf(error), error)));
    socket.once('close', () => finish(dialFailure.unreachable(peer, text, 'it hung up')));
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
  });
}
