/** What events are made of, as schemas: ids and names come out checked and branded. */
import { z } from 'zod';
import { PandoError } from './errors.ts';
import {
  parseBookmarkName,
  parseDatasetId,
  parseDatasetName,
  parseInvitationId,
  parseNodeId,
  parseRelativeName,
  parseSnapshotGuid,
  parseSnapshotName,
  parseTransferId,
  parseTreeName,
} from './ids.ts';

/** A text that `parse` reads; what it refuses is an issue with its sentence. */
export function branded<T>(parse: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof PandoError)) throw error;
      context.addIssue({ code: 'custom', message: error.message });
      return z.NEVER;
    }
  });
}

export const count = z.int().nonnegative();
export const datasetId = branded(parseDatasetId);
export const snapshotGuid = branded(parseSnapshotGuid);
export const relativeName = branded(parseRelativeName);
export const snapshotName = branded(parseSnapshotName);
export const bookmarkName = branded(parseBookmarkName);
export const datasetName = branded(parseDatasetName);
export const treeName = branded(parseTreeName);
export const nodeId = branded(parseNodeId);
export const transferId = branded(parseTransferId);
export const invitationId = branded(parseInvitationId);
export const glob = z.string().min(1).max(512);
/** What people call a peer here. */
export const peerName = z.string().min(1).max(64);
