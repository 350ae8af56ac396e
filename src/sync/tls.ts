/** TLS between nodes: both sides show a certificate, and only the Ed25519 key in it says who they are. */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { connect, type TLSSocket } from 'node:tls';
import { isEd25519Signature } from '../core/codec/chain.ts';
import { nodeOfProof } from '../core/codec/key-proof.ts';
import { describeError } from '../core/errors.ts';
import type { NodeId } from '../core/ids.ts';
import { parseAddress } from './address.ts';
import { proofIn } from './certificate.ts';
import { type Identity, rawPublicKey } from './identity.ts';
import { tlsOptions } from './tls-options.ts';
import { dialFailure, type Meets, type MetNode } from './transport.ts';

/** The key of a certificate; undefined where OpenSSL reads the certificate but not the key in it: then it cannot be a node's. */
function publicKeyOf(certificate: X509Certificate): KeyObject | undefined {
  try {
    return certificate.publicKey;
  } catch {
    return undefined;
  }
}

/** Whose certificate it is; null for one without an Ed25519 key, or with one that no node can have. */
export function nodeOfCertificate(certificate: X509Certificate): MetNode | null {
  const publicKey = publicKeyOf(certificate);
  if (publicKey?.asymmetricKeyType !== 'ed25519') return null;
  const keyProof = proofIn(certificate.raw, rawPublicKey(publicKey));
  const node = keyProof === null ? null : nodeOfProof(keyProof, isEd25519Signature);
  return keyProof === null || node === null ? null : { node, keyProof };
}

/** Who is at the other end; null also when that showed no certificate. */
export function remoteOf(socket: TLSSocket): MetNode | null {
  const certificate = socket.getPeerX509Certificate();
  return certificate === undefined ? null : nodeOfCertificate(certificate);
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
