/** Errors on their way over the wire: code, sentence and evidence travel; stack and cause stay. */
import { isPandoError, PandoError } from '../core/errors.ts';
import { MESSAGE_CHARACTERS_MAX, type RemoteError } from './messages.ts';

/** Largest evidence that crosses the wire, in characters of JSON; beyond it only code and message do. */
const EVIDENCE_CHARACTERS_MAX = 16_384;

/** Evidence as plain data of bounded size. */
function plainEvidence({ evidence }: PandoError): RemoteError['evidence'] {
  const text = JSON.stringify(evidence, (_key, value) => (typeof value === 'bigint' ? String(value) : value));
  return text.length > EVIDENCE_CHARACTERS_MAX ? {} : JSON.parse(text);
}

/** An error in the form in which a peer is told of it. What is not a PandoError is for this node's own log only. */
export function remoteErrorOf(error: unknown, report: (error: unknown) => void): RemoteError {
  if (isPandoError(error)) {
    const message = error.message.slice(0, MESSAGE_CHARACTERS_MAX);
    return { code: error.code, message, evidence: plainEvidence(error) };
  }
  report(error);
  return { code: 'INTERNAL', message: 'The peer met an unexpected error; its log tells more.', evidence: {} };
}

/** The error that a peer told of. */
export function errorOfRemote({ code, message, evidence }: RemoteError): PandoError {
  return new PandoError(code, message, evidence);
}
