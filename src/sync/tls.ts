/** TLS between nodes: both sides show a certificate, and only the Ed25519 key in it says who they are. */
import type { KeyObject } from 'node:crypto';
import { connect, type TLSSocket } from 'node:tls';
import { isEd25519Signature } from '../core/codec/chain.ts';
import { type KeyProof, nodeOfProof } from '../core/codec/key-proof.ts';
import { describeError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { parseAddress } from './address.ts';
import { proofIn } from './certificate.ts';
import { type Identity, rawPublicKey } from './identity.ts';
import { dialFailure, type Meets } from './transport.ts';

/** Time from the first packet to a connection that carries frames, in ms: many round trips even across the world. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;

/**
 * Options for both sides. `rejectUnauthorized` is off because no authority vouches for these certificates: TLS still proves
 * that the other side holds the key (RFC 8446 §4.4.3), and {@link remoteOf} tells whose key it is.
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

function certificateOf(socket: TLSSocket): { readonly raw: Uint8Array; readonly publicKey: KeyObject } | undefined {
  try {
    const certificate = socket.getPeerX509Certificate();
    return certificate === undefined ? undefined : { raw: certificate.raw, publicKey: certificate.publicKey };
  } catch {
    // OpenSSL read the certificate but not the key in it; then it cannot be a node's.
    return undefined;
  }
}

/** Who is at the other end, and the keys that it has had. */
export interface RemoteNode {
  readonly node: NodeId;
  readonly keyProof: KeyProof;
}

/** Who is at the other end; null when that showed no certificate, or one without an Ed25519 key, or with one that no node can have. */
export function remoteOf(socket: TLSSocket): RemoteNode | null {
  const certificate = certificateOf(socket);
  if (certificate === undefined || certificate.publicKey.asymmetricKeyType !== 'ed25519') return null;
  const keyProof = proofIn(certificate.raw, rawPublicKey(certificate.publicKey));
  const node = keyProof === null ? null : nodeOfProof(keyProof, isEd25519Signature);
  return keyProof === null || node === null ? null : { node, keyProof };
}

/** In words; a host with several addresses fails with one error for each of them and none of its own. */
function causeOf(error: Error): string {
  return describeError(error instanceof AggregateError ? error.errors[0] : error);
}

/**
 * A TLS connection to `peer`, who has proved to be it; nothing but the handshake was sent.
 * Rejects as `Transport.dial` does.
 */
export function connectTls(
  { identity, meets }: { readonly identity: Identity; readonly meets: Meets },
  text: string,
  peer: NodeId,
  signal: AbortSignal,
): Promise<TLSSocket> {
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
      const found = remoteOf(socket);
      if (found?.node !== peer) finish(dialFailure.someoneElse(peer, text, found?.node ?? null));
      else finish(meets(found) ? undefined : dialFailure.formerKey(peer, text));
    });
    socket.once('error', (error) => finish(dialFailure.unreachable(peer, text, causeOf(error), error)));
    socket.once('close', () => finish(dialFailure.unreachable(peer, text, 'it hung up')));
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
  });
}
