/**
 * The X.509 certificate that TLS insists on. It says nothing but "this is my key": peers look at the key alone, so the
 * certificate is made afresh at every start, signed by itself, and never outlives the process.
 */
import { createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { AsnConvert } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  Certificate,
  Name,
  RelativeDistinguishedName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';
import type { NodeId } from '../core/ids.ts';

/** id-Ed25519 (RFC 8410 §3). */
const ED25519_OBJECT_ID = '1.3.101.112';
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

/** A certificate in PEM for an Ed25519 private key, signed with that key (RFC 5280, RFC 8410). */
export function selfSignedCertificate(privateKey: KeyObject, node: NodeId): string {
  const algorithm = new AlgorithmIdentifier({ algorithm: ED25519_OBJECT_ID });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature: algorithm,
    issuer: nameOf(node),
    subject: nameOf(node),
    validity: new Validity({ notBefore: NOT_BEFORE, notAfter: NOT_AFTER }),
    subjectPublicKeyInfo: AsnConvert.parse(publicKey, SubjectPublicKeyInfo),
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
