import type { Evidence } from '../../core/errors.ts';
import type { ZfsErrorCode } from '../failure.ts';

/** A rule said no. The port turns it into a PandoError that also tells what was tried. */
export class Refusal extends Error {
  readonly code: ZfsErrorCode;
  /** ZFS's words for it. */
  readonly detail: string;
  readonly evidence: Evidence;

  constructor(code: ZfsErrorCode, detail: string, evidence: Evidence = {}) {
    super(detail);
    this.code = code;
    this.detail = detail;
    this.evidence = evidence;
  }
}
