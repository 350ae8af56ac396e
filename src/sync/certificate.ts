/**
 * The X.509 certificate that TLS insists on. It says nothing but "this is my key": peers look at the key alone, so the
 * certificate is made afresh at every start, signed by itself, and never outlives the process.
 */
import { createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  Certificate,
  Extension,
  Extensions,
  Name,
  RelativeDistinguishedName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';
import { currentKey, isProofLength, type KeyProof, PUBLIC_KEY_BYTES } from '../core/codec/key-proof.ts';
import type { NodeId } from '../core/ids.ts';

/** id-Ed25519 (RFC 8410 §3). */
const ED25519_OBJECT_ID = '1.3.101.112';
/** The extension that holds a key proof. Below what is for experiments (RFC 1155 §3.1.3): nobody but nodes reads it. */
const KEY_PROOF_OBJECT_ID = '1.3.6.1.3.7380.1';
/** id-at-commonName (X.520). A NodeId has 63 characters, one less than ub-common-name allows. */
const COMMON_NAME_OBJECT_ID = '2.5.4.3';
/** Serial numbers are positive and at most 20 bytes long (RFC 5280 §4.1.2.2). */
const SERIAL_NUMBER_BYTES = 16;
/** Nobody checks the dates, since the key is what is known; they only have to be well formed (RFC 5280 §4.1.2.5). */
const NOT_BEFORE = new Date('2000-01-01T00:00:00Z');
const NOT_AFTER = new Date('9999-12-31T23:59:59Z');

function nameOf(node: NodeId): Name {
  const value = new AttributeValue({ utf8String: node });
  return new Name([new RelativeDistinguishedName([new AttributeTypeAndValue({ type: COMMON_NAME_OBJECT_ID, value })])]);
}

function serialNumber(): ArrayBuffer {
  const bytes = new Uint8Array(randomBytes(SERIAL_NUMBER_BYTES));
  // The highest bit would make the integer negative, leading zeros would make it longer than it is.
  bytes[0] = ((bytes[0] as number) & 0x7f) | 0x40;
  return bytes.buffer;
}

function arrayBufferOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}

/** The proof that the key is the node's, where that is not its first: what the key alone cannot say. Not critical, since nobody else has use for it (RFC 5280 §4.2). */
function proofExtensions(keyProof: KeyProof): Extensions | undefined {
  if (keyProof.length === PUBLIC_KEY_BYTES) return undefined;
  const value = new OctetString(arrayBufferOf(keyProof));
  return new Extensions([new Extension({ extnID: KEY_PROOF_OBJECT_ID, critical: false, extnValue: value })]);
}

/** The proof that a certificate shows for its key: the key itself where it says nothing more. Null where the certificate cannot be read, or its proof is of another key. */
export function proofIn(certificate: Uint8Array, publicKey: Uint8Array): KeyProof | null {
  try {
    const { tbsCertificate } = AsnConvert.parse(arrayBufferOf(certificate), Certificate);
    const extension = tbsCertificate.extensions?.find(({ extnID }) => extnID === KEY_PROOF_OBJECT_ID);
    if (extension === undefined) return publicKey;
    const proof = new Uint8Array(extension.extnValue.buffer);
    const isOfKey = isProofLength(proof.length) && Buffer.compare(currentKey(proof), publicKey) === 0;
    return isOfKey ? proof : null;
  } catch {
    return null;
  }
}

/** A certificate in PEM for an Ed25519 private key, signed with that key (RFC 5280, RFC 8410). */
export function selfSignedCertificate(privateKey: KeyObject, node: NodeId, keyProof: KeyProof): string {
  const algorithm = new AlgorithmIdentifier({ algorithm: ED25519_OBJECT_ID });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const extensions = proofExtensions(keyProof);
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature: algorithm,
    issuer: nameOf(node),
    subject: nameOf(node),
    validity: new Validity({ notBefore: NOT_BEFORE, notAfter: NOT_AFTER }),
    subjectPublicKeyInfo: AsnConvert.parse(publicKey, SubjectPublicKeyInfo),
    ...(extensions === undefined ? {} : { extensions }),
  });
  const signature = sign(null, Buffer.from(AsnConvert.serialize(tbsCertificate)), privateKey);
  const certificate = new Certificate({
    tbsCertificate,
    signatureAlgorithm: algorithm,
    signatureValue: arrayBufferOf(signature),
  });
  const base64 = Buffer.from(AsnConvert.serialize(certificate)).toString('base64');
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
