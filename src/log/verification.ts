import { createHash } from 'node:crypto';
import { equalHashes, hashText, type SignedHead, verifyHead } from '../core/codec/chain.ts';
import { describeError, isPandoError } from '../core/errors.ts';
import type { StreamId } from '../core/ids.ts';
import type { Log, LogFault, StoredCheckpoint, StreamVerification } from './log.ts';
import { corrupt, faultOf, unknownStream } from './log-errors.ts';

/** {@link Log.verify} for any log, by way of what else it offers. */
export async function verifyStream(log: Log, stream: StreamId): Promise<StreamVerification> {
  let head: SignedHead | null = null;
  let records = 0;
  let fault: LogFault | null = null;
  try {
    head = await log.head(stream);
    if (head === null) throw unknownStream(stream);
    checkSignature(head);
    for await (const batch of log.read(stream, await log.oldest(stream))) records += batch.length;
    await checkCheckpoints(log, head);
  } catch (error) {
    if (!isPandoError(error, 'LOG_CORRUPT')) throw error;
    fault = faultOf(error);
  }
  return { stream, incarnation: head?.incarnation ?? 0, records, seq: head?.seq ?? 0, fault };
}

function checkSignature(head: SignedHead): void {
  try {
    verifyHead(head);
  } catch (error) {
    const { stream, seq } = head;
    throw corrupt({ stream, seq, expected: "its author's signature", found: describeError(error) }, error);
  }
}

async function checkCheckpoints(log: Log, { stream, seq }: SignedHead): Promise<void> {
  for (let at = seq; at >= 0; ) {
    const checkpoint = await log.checkpoint(stream, at);
    if (checkpoint === null) return;
    await checkDigest(checkpoint);
    at = checkpoint.seal.head.seq - 1;
  }
}

/** Whether a checkpoint's chunks are what was sealed: only then may it stand for events that are forgotten. */
export async function isSealed(checkpoint: StoredCheckpoint): Promise<boolean> {
  try {
    await checkDigest(checkpoint);
    return true;
  } catch (error) {
    if (isPandoError(error, 'LOG_CORRUPT')) return false;
    throw error;
  }
}

async function checkDigest({ seal, chunks }: StoredCheckpoint): Promise<void> {
  const digest = createHash('sha256');
  for await (const chunk of chunks) digest.update(chunk);
  const found = digest.digest();
  if (equalHashes(found, seal.digest)) return;
  const { stream, seq } = seal.head;
  throw corrupt({ stream, seq, expected: hashText(seal.digest), found: hashText(found) });
}
